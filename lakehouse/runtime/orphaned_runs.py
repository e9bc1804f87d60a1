"""Runs whose process died without reporting it. Dagster would wait for them for hours, and block their lane."""

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
    """Return whether a run is active. A run whose process has died is reported as failed, and is not."""
    if run.status not in ACTIVE_STATUSES:
        return False
    worker = find_worker(instance, run)
    if worker is None or worker.process is not None:
        return True
    report_dead_process(instance, run.run_id, "The process of this run was killed; it is computed again.")
    return False


def report_dead_process(instance: dg.DagsterInstance, run_id: str, message: str) -> bool:
    """Report a run whose process is gone as failed, or as canceled if it was being canceled. True if it had not ended."""
    run = instance.get_run_by_id(run_id)  # its last event may have been stored since
    if run is None or run.is_finished:
        return False
    if run.status == dg.DagsterRunStatus.CANCELING:
        instance.report_run_canceled(run, message)
    else:
        instance.report_run_failed(run, message)
    return True


def fail_orphaned_runs(instance: dg.DagsterInstance) -> int:
    """Report every started run as failed, unless a running command executes it. Returns how many.

    `lakehouse up` calls it at its start; processes that an earlier `up` started and left running are killed first.
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
