"""Runs whose process died without a word: Dagster would wait for them, and hold their lane, for hours."""

import socket

import dagster as dg
import psutil

from lakehouse.automation.jobs import PROCESS_TAG

UNDER_WAY = [
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
]


def is_under_way(instance: dg.DagsterInstance, run: dg.DagsterRun) -> bool:
    """Whether a run goes on; one that a command executed itself and died with is said to have failed."""
    if run.status not in UNDER_WAY:
        return False
    host, _, pid = run.tags.get(PROCESS_TAG, "").partition(":")
    if host == socket.gethostname() and not psutil.pid_exists(int(pid)):
        instance.report_run_failed(run, "The command that executed this run was killed; it is computed again.")
        return False
    return True


def fail_leftovers(instance: dg.DagsterInstance) -> int:
    """Say of every run that had started that it failed, unless a living command executes it; how many there were.

    For the start of `lakehouse up`, when no worker of an earlier one can be alive.
    """
    failed = 0
    for run in instance.get_runs(dg.RunsFilter(statuses=UNDER_WAY[2:])):
        if PROCESS_TAG not in run.tags:
            instance.report_run_failed(run, "The lakehouse was stopped while this run went on; it is computed again.")
            failed += 1
        elif not is_under_way(instance, run):
            failed += 1
    return failed
