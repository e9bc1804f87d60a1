"""Dagster's history kept small: old runs go with their events, logs and ticks; what is known of partitions stays.

Of each asset's partition the newest materialization stays whatever its age, and of each check the newest result, for the
page shows from them what there is. Hours are the exception: realtime lets go of them too.

Dagster deletes one run at a time, each with all it said of partitions; hence its own tables, as in `history`.
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

from lakehouse.landing.keys import hour_partition
from lakehouse.settings import Settings

RUNS_AT_ONCE = 50
"""In one transaction, for while it lasts nobody else writes to SQLite."""

TICKS_AT_ONCE = 5_000
VARIABLES = 500
"""Values in one statement; old builds of SQLite take 999."""

SUCCEEDED = [dg.DagsterRunStatus.SUCCESS]
FAILED = [dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED]
OVER = ["COMPLETED", "COMPLETED_SUCCESS", "COMPLETED_FAILED", "FAILED", "CANCELED"]
"""Of back-fills."""

HOUR = re.compile(r"\d{4}-\d{2}-\d{2}-\d{2}:00")

MADE = dg.DagsterEventType.ASSET_MATERIALIZATION.value

T = TypeVar("T")

_events = SqlEventLogStorageTable.c
_checks = AssetCheckExecutionsTable.c


@dataclass(slots=True)
class Pruned:
    """How many of each were dropped."""

    runs: int = 0
    events: int = 0
    logs: int = 0
    ticks: int = 0


def prune(
    instance: dg.DagsterInstance, settings: Settings, *, now: datetime | None = None, dry_run: bool = False
) -> Pruned:
    """Drop what is older than the settings keep, some runs at a time; safe to kill and beside everything that runs."""
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
    """The ids of runs that ended before then, oldest first; each batch must be gone before the next is asked for."""
    old = dg.RunsFilter(statuses=list(statuses), updated_before=before)
    while records := instance.get_run_records(old, limit=RUNS_AT_ONCE, ascending=True):
        yield [record.dagster_run.run_id for record in records]


def _drop_events(instance: dg.DagsterInstance, run_ids: Sequence[str], hours_before: datetime) -> int:
    storage: Any = instance.event_log_storage
    with storage.index_connection() as connection:
        superseded = _superseded(connection, run_ids, hours_before)
        for some in _chunks(superseded):
            connection.execute(AssetEventTagsTable.delete().where(AssetEventTagsTable.c.event_id.in_(some)))
            connection.execute(SqlEventLogStorageTable.delete().where(_events.id.in_(some)))
        others = sa.or_(_events.dagster_event_type.is_(None), _events.dagster_event_type != MADE)
        dropped = connection.execute(SqlEventLogStorageTable.delete().where(_events.run_id.in_(run_ids), others))
        newest = sa.select(sa.func.max(_checks.id)).group_by(_checks.asset_key, _checks.check_name)
        connection.execute(
            AssetCheckExecutionsTable.delete().where(_checks.run_id.in_(run_ids), _checks.id.not_in(newest))
        )
    return len(superseded) + int(dropped.rowcount)


def _superseded(connection: Connection, run_ids: Sequence[str], hours_before: datetime) -> list[int]:
    """The ids of these runs' materializations that are not the last word on a partition, or on an hour long gone."""
    made = _events.dagster_event_type == MADE
    # Written so that no index can be used for it: SQLite would rather look at every materialization than at these runs.
    of_runs = sa.and_(sa.func.coalesce(_events.dagster_event_type, "") == MADE, _events.run_id.in_(run_ids))
    found = connection.execute(sa.select(_events.id, _events.asset_key, _events.partition).where(of_runs)).fetchall()
    last: set[int | None] = set()
    for asset in {row.asset_key for row in found}:
        names = {row.partition for row in found if row.asset_key == asset}
        of_asset = sa.select(sa.func.max(_events.id)).where(made, _events.asset_key == asset)
        last.add(connection.execute(of_asset.where(_events.partition.is_(None))).scalar())
        for some in _chunks(sorted(name for name in names if name and not _is_old_hour(name, hours_before))):
            newest = of_asset.where(_events.partition.in_(some)).group_by(_events.partition)
            last |= set(connection.execute(newest).scalars())
    return sorted(row.id for row in found if row.id not in last)


def _chunks(things: Sequence[T]) -> Iterator[Sequence[T]]:
    return (things[start : start + VARIABLES] for start in range(0, len(things), VARIABLES))


def _is_old_hour(partition: str, before: datetime) -> bool:
    return HOUR.fullmatch(partition) is not None and partition < hour_partition(before)


def _drop_runs(instance: dg.DagsterInstance, run_ids: Sequence[str]) -> None:
    storage: Any = instance.run_storage
    with storage.connect() as connection:
        connection.execute(RunTagsTable.delete().where(RunTagsTable.c.run_id.in_(run_ids)))
        connection.execute(RunsTable.delete().where(RunsTable.c.run_id.in_(run_ids)))


def _drop_ticks(instance: dg.DagsterInstance, before: datetime) -> int:
    """Ticks that the daemon does not drop itself: of schedules and sensors that are no more."""
    storage: Any = instance.schedule_storage
    old = sa.select(JobTickTable.c.id).where(JobTickTable.c.timestamp < _naive(before)).limit(TICKS_AT_ONCE)
    dropped = 0
    with storage.connect() as connection:
        while some := connection.execute(JobTickTable.delete().where(JobTickTable.c.id.in_(old))).rowcount:
            dropped += int(some)
    return dropped


def _drop_backfills(instance: dg.DagsterInstance, before: datetime) -> None:
    storage: Any = instance.run_storage
    with storage.connect() as connection:
        connection.execute(
            BulkActionsTable.delete().where(
                BulkActionsTable.c.timestamp < _naive(before), BulkActionsTable.c.status.in_(OVER)
            )
        )


def _naive(moment: datetime) -> datetime:
    """As Dagster's tables hold times: UTC, without saying so."""
    return moment.astimezone(UTC).replace(tzinfo=None)
