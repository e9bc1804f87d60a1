"""Prune Dagster's history: old runs go with their events, logs and ticks; the state of partitions stays.

The newest materialization of each partition stays whatever its age, and the newest result of each check, because the
Dagster page shows the state of assets from them. Hourly partitions are the exception, because realtime drops them too.

Dagster's own API deletes one run at a time with all its materializations. Dagster 1.13 does not export its tables, hence
`dagster._core`; it is pinned below 1.14.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

import dagster as dg
import sqlalchemy as sa
from dagster._core.storage.event_log.schema import (
    AssetCheckExecutionsTable,
    AssetEventTagsTable,
    SqlEventLogStorageTable,
)
from dagster._core.storage.runs.schema import BulkActionsTable, RunsTable, RunTagsTable
from dagster._core.storage.schedules.schema import JobTickTable
from sqlalchemy.engine import Connection

from lakehouse.contracts.times import naive_utc
from lakehouse.landing.keys import hour_partition
from lakehouse.settings import Settings

RUNS_PER_TRANSACTION = 50
"""A longer transaction would keep other processes from writing to SQLite."""

TICKS_PER_TRANSACTION = 5_000
MAX_VARIABLES = 500
"""Values in one statement; old builds of SQLite accept 999."""

SUCCEEDED = [dg.DagsterRunStatus.SUCCESS]
FAILED = [dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED]
ENDED_BACKFILLS = ["COMPLETED", "COMPLETED_SUCCESS", "COMPLETED_FAILED", "FAILED", "CANCELED"]
"""The statuses of backfills that have ended."""

HOUR = re.compile(r"\d{4}-\d{2}-\d{2}-\d{2}:00")

MATERIALIZATION = dg.DagsterEventType.ASSET_MATERIALIZATION.value

T = TypeVar("T")

_events = SqlEventLogStorageTable.c
_checks = AssetCheckExecutionsTable.c


@dataclass(slots=True)
class Pruned:
    """How many of each were deleted."""

    runs: int = 0
    events: int = 0
    logs: int = 0
    ticks: int = 0


def prune(
    instance: dg.DagsterInstance, settings: Settings, *, now: datetime | None = None, dry_run: bool = False
) -> Pruned:
    """Delete history that is older than the settings keep, some runs at a time. Safe to kill, and beside active runs."""
    now = now or datetime.now(UTC)
    succeeded, failed = (now - timedelta(days=days) for days in (settings.history_days, settings.failed_history_days))
    done = Pruned()
    for statuses, before in ((SUCCEEDED, succeeded), (FAILED, failed)):
        if dry_run:
            done.runs += instance.get_runs_count(dg.RunsFilter(statuses=statuses, updated_before=before))
            continue
        for run_ids in _old_runs(instance, statuses, before):
            done.events += _drop_events(instance, run_ids, succeeded)
            for run_id in run_ids:
                instance.compute_log_manager.delete_logs(prefix=[run_id])
                done.logs += 1
            _drop_runs(instance, run_ids)
            done.runs += len(run_ids)
    if not dry_run:
        done.ticks = _drop_ticks(instance, failed)
        _drop_backfills(instance, failed)
    return done


def _old_runs(
    instance: dg.DagsterInstance, statuses: Sequence[dg.DagsterRunStatus], before: datetime
) -> Iterator[list[str]]:
    """Yield the ids of runs that ended before then, oldest first. Delete each batch before taking the next."""
    old = dg.RunsFilter(statuses=list(statuses), updated_before=before)
    while records := instance.get_run_records(old, limit=RUNS_PER_TRANSACTION, ascending=True):
        yield [record.dagster_run.run_id for record in records]


def _drop_events(instance: dg.DagsterInstance, run_ids: Sequence[str], hours_before: datetime) -> int:
    storage: Any = instance.event_log_storage
    with storage.index_connection() as connection:
        superseded = _superseded(connection, run_ids, hours_before)
        for chunk in _chunks(superseded):
            connection.execute(AssetEventTagsTable.delete().where(AssetEventTagsTable.c.event_id.in_(chunk)))
            connection.execute(SqlEventLogStorageTable.delete().where(_events.id.in_(chunk)))
        others = sa.or_(_events.dagster_event_type.is_(None), _events.dagster_event_type != MATERIALIZATION)
        dropped = connection.execute(SqlEventLogStorageTable.delete().where(_events.run_id.in_(run_ids), others))
        newest = sa.select(sa.func.max(_checks.id)).group_by(_checks.asset_key, _checks.check_name)
        connection.execute(
            AssetCheckExecutionsTable.delete().where(_checks.run_id.in_(run_ids), _checks.id.not_in(newest))
        )
    return len(superseded) + int(dropped.rowcount)


def _superseded(connection: Connection, run_ids: Sequence[str], hours_before: datetime) -> list[int]:
    """Find these runs' materializations that are not the newest of their partition, or are of an expired hour."""
    made = _events.dagster_event_type == MATERIALIZATION
    # `coalesce` keeps SQLite from the index by type, which would read every materialization instead of these runs.
    of_runs = sa.and_(sa.func.coalesce(_events.dagster_event_type, "") == MATERIALIZATION, _events.run_id.in_(run_ids))
    candidates = connection.execute(
        sa.select(_events.id, _events.asset_key, _events.partition).where(of_runs)
    ).fetchall()
    last: set[int | None] = set()
    for asset in {row.asset_key for row in candidates}:
        names = {row.partition for row in candidates if row.asset_key == asset}
        of_asset = sa.select(sa.func.max(_events.id)).where(made, _events.asset_key == asset)
        last.add(connection.execute(of_asset.where(_events.partition.is_(None))).scalar())
        for chunk in _chunks(sorted(name for name in names if name and not _is_old_hour(name, hours_before))):
            newest = of_asset.where(_events.partition.in_(chunk)).group_by(_events.partition)
            last |= set(connection.execute(newest).scalars())
    return sorted(row.id for row in candidates if row.id not in last)


def _chunks(things: Sequence[T]) -> Iterator[Sequence[T]]:
    return (things[start : start + MAX_VARIABLES] for start in range(0, len(things), MAX_VARIABLES))


def _is_old_hour(partition: str, before: datetime) -> bool:
    return HOUR.fullmatch(partition) is not None and partition < hour_partition(before)


def _drop_runs(instance: dg.DagsterInstance, run_ids: Sequence[str]) -> None:
    storage: Any = instance.run_storage
    with storage.connect() as connection:
        connection.execute(RunTagsTable.delete().where(RunTagsTable.c.run_id.in_(run_ids)))
        connection.execute(RunsTable.delete().where(RunsTable.c.run_id.in_(run_ids)))


def _drop_ticks(instance: dg.DagsterInstance, before: datetime) -> int:
    """Delete ticks that the daemon does not: those of schedules and sensors that no longer exist."""
    storage: Any = instance.schedule_storage
    old = sa.select(JobTickTable.c.id).where(JobTickTable.c.timestamp < naive_utc(before)).limit(TICKS_PER_TRANSACTION)
    dropped = 0
    with storage.connect() as connection:
        while count := connection.execute(JobTickTable.delete().where(JobTickTable.c.id.in_(old))).rowcount:
            dropped += int(count)
    return dropped


def _drop_backfills(instance: dg.DagsterInstance, before: datetime) -> None:
    storage: Any = instance.run_storage
    with storage.connect() as connection:
        connection.execute(
            BulkActionsTable.delete().where(
                BulkActionsTable.c.timestamp < naive_utc(before), BulkActionsTable.c.status.in_(ENDED_BACKFILLS)
            )
        )
