"""Maintenance tasks by name, run over all tables and streams. A failure in one table does not stop the others."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from lakehouse.audit_log.expiry import expire_entries
from lakehouse.errors import LakehouseError, StorageUnavailableError
from lakehouse.maintenance.compaction import Budget, compact
from lakehouse.maintenance.manifests import merge_small_manifests
from lakehouse.maintenance.orphans import abort_unfinished_uploads, remove_orphans
from lakehouse.maintenance.retention import apply_retention, expire_idempotency_records
from lakehouse.pipeline.audit_log_table import AUDIT_LOG, drop_expired_months
from lakehouse.pipeline.commits import expire_snapshots
from lakehouse.pipeline.lake import Lake


@dataclass(frozen=True, slots=True)
class TaskReport:
    """Report what a task did to one table or layer, or why it failed. Printed as JSON by `lakehouse maintain --json`."""

    task: str
    what: str
    done: str = ""
    files: int = 0
    bytes: int = 0
    problem: str = ""


@dataclass(frozen=True, slots=True)
class TaskRun:
    """Inputs of one maintenance run: the lake, how much work is allowed, and whether to change anything."""

    lake: Lake
    budget: Budget
    dry_run: bool = False


Work = Callable[[TaskRun, str], Iterator[TaskReport]]
"""Run a task on one target: a table, a stream, or LEFTOVERS."""

LEFTOVERS = ""
"""The target that stands for everything that belongs to no table and no stream."""


def run_task(lake: Lake, task: str, *, dry_run: bool = False, budget: Budget | None = None) -> Iterator[TaskReport]:
    """Run one of TASKS and yield a report for each change. Raises StorageUnavailableError when storage is down."""
    list_targets, work = TASKS[task]
    run = TaskRun(lake, budget or Budget(), dry_run)
    for target in list_targets(lake):
        try:
            yield from work(run, target)
        except StorageUnavailableError:
            raise
        except LakehouseError as error:
            yield TaskReport(task, target, problem=str(error))
        except Exception as error:  # from the catalog, the engine or a file: go on with the other tables
            yield TaskReport(task, target, problem=f"{type(error).__name__}: {error}")


def _tables(lake: Lake) -> list[str]:
    return lake.tables.names()


def _streams_and_leftovers(lake: Lake) -> list[str]:
    return [*lake.streams, LEFTOVERS]


def _tables_and_leftovers(lake: Lake) -> list[str]:
    return [*lake.tables.names(), LEFTOVERS]


def _retention(run: TaskRun, target: str) -> Iterator[TaskReport]:
    if target == LEFTOVERS:
        expired = expire_idempotency_records(run.lake, dry_run=run.dry_run)
        if expired.removed:
            yield TaskReport("retention", expired.target, "expired", expired.removed)
        months = expire_entries(run.lake.settings, dry_run=run.dry_run)
        if not run.dry_run:
            drop_expired_months(run.lake)
        for month in months:
            yield TaskReport("retention", AUDIT_LOG, f"{month} dropped", 1)
        return
    for dropped in apply_retention(run.lake, run.lake.streams[target], dry_run=run.dry_run):
        yield TaskReport(
            "retention", dropped.target, f"{dropped.partitions:,} partitions", dropped.removed, dropped.bytes
        )


def _compact(run: TaskRun, target: str) -> Iterator[TaskReport]:
    compacted = compact(run.lake, target, run.budget, dry_run=run.dry_run)
    if compacted.removed or compacted.skipped:
        skipped = f", {compacted.skipped:,} skipped after a commit conflict" if compacted.skipped else ""
        done = f"{compacted.removed:,} files became {compacted.added:,}{skipped}"
        yield TaskReport("compact", target, done, compacted.reduction, compacted.bytes)


def _expire(run: TaskRun, target: str) -> Iterator[TaskReport]:
    total = 0
    while expired := expire_snapshots(run.lake, run.lake.tables.load(target), at_least=1, dry_run=run.dry_run):
        total += expired
        if run.dry_run:
            break
    if total:
        yield TaskReport("expire", target, f"{total:,} snapshots")


def _manifests(run: TaskRun, target: str) -> Iterator[TaskReport]:
    merged = merge_small_manifests(run.lake, target, dry_run=run.dry_run)
    if merged.reduction > 0:
        yield TaskReport("manifests", target, f"{merged.removed:,} became {merged.added:,}", merged.reduction)


def _orphans(run: TaskRun, target: str) -> Iterator[TaskReport]:
    if target == LEFTOVERS:
        orphans = abort_unfinished_uploads(run.lake, dry_run=run.dry_run)
    else:
        orphans = remove_orphans(run.lake, target, dry_run=run.dry_run)
    if orphans.removed:
        yield TaskReport("orphans", orphans.target, "not referenced", orphans.removed, orphans.bytes)


TASKS: dict[str, tuple[Callable[[Lake], list[str]], Work]] = {
    "retention": (_streams_and_leftovers, _retention),
    "compact": (_tables, _compact),
    "expire": (_tables, _expire),
    "manifests": (_tables, _manifests),
    "orphans": (_tables_and_leftovers, _orphans),
}
"""Targets and work of each task, in the order that leaves least for the tasks after it: first drop or replace files, then
drop the snapshots that reference them, then delete the files.
"""
