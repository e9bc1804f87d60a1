"""Runs whose process died without a word: Dagster would wait for them, and hold their lane, for hours."""

import dagster as dg

from lakehouse.processes.child import kill
from lakehouse.runtime.run_process import find_worker

ACTIVE_STATUSES = [
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
]


def is_active(instance: dg.DagsterInstance, run: dg.DagsterRun) -> bool:
    """Whether a run goes on; one whose process has died is said to have ended."""
    if run.status not in ACTIVE_STATUSES:
        return False
    worker = find_worker(instance, run)
    if worker is None or worker.process is not None:
        return True
    report_dead_process(instance, run.run_id, "The process of this run was killed; it is computed again.")
    return False


def report_dead_process(instance: dg.DagsterInstance, run_id: str, message: str) -> bool:
    """Say of a run whose process is gone that it failed, or was stopped if it was to stop; whether it had not ended."""
    run = instance.get_run_by_id(run_id)  # its last word may have come since
    if run is None or run.is_finished:
        return False
    if run.status == dg.DagsterRunStatus.CANCELING:
        instance.report_run_canceled(run, message)
    else:
        instance.report_run_failed(run, message)
    return True


def fail_orphaned_runs(instance: dg.DagsterInstance) -> int:
    """Say of every run that had started that it failed, unless a living command executes it; how many there were.

    For the start of `lakehouse up`: what an earlier one has started and still lives is ended first.
    """
    failed = 0
    for run in instance.get_runs(dg.RunsFilter(statuses=ACTIVE_STATUSES[2:])):
        worker = find_worker(instance, run)
        process = worker.process if worker else None
        if process is not None and worker is not None:
            if worker.is_command:
                continue
            kill([process])
        failed += report_dead_process(
            instance, run.run_id, "The lakehouse was stopped while this run went on; it is computed again."
        )
    return failed
