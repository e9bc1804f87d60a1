"""Write the Dagster history of many days of schedules quickly: runs that were executed once, copied in SQL."""

import sqlite3
import uuid
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path

from lakehouse.landing.keys import hour_partition
from lakehouse.runtime.instance import dagster_home
from lakehouse.settings import Settings

MINUTES = {"realtime": 5, "serving": 10}
"""Minutes between two runs of a job."""

KEPT_EVENT_TYPES = ("ASSET_MATERIALIZATION", "PIPELINE_START", "PIPELINE_SUCCESS")
"""Events of runs older than `full_days`: the ones that Dagster reads later."""

COPIES_PER_TRANSACTION = 10_000
"""Bounded, so that SQLite's log stays smaller than the database."""

Copy = tuple[str, str, float, str]
"""A copy's id, its time as text and in seconds, and its partition."""


@dataclass(frozen=True, slots=True)
class Template:
    """A run that was executed: its job, its id and its partition."""

    job: str
    run_id: str
    partition: str


@dataclass(frozen=True, slots=True)
class Copies:
    """The number of runs and events written."""

    runs: int
    events: int


def write_history(settings: Settings, templates: list[Template], days: int, full_days: int) -> Copies:
    """Copy each template for every time that its job would have run in the past `days`, up to an hour ago.

    Runs of the last `full_days` days keep all their events.
    """
    runs = events = 0
    folder = dagster_home(settings) / "history"
    for template in templates:
        for full in (False, True):
            copies = _copies(template, days, full_days, full)
            while chunk := list(islice(copies, COPIES_PER_TRANSACTION)):
                runs += len(chunk)
                events += _copy_events(folder / "event_log.db", template, chunk, full)
                _copy_runs(folder / "runs.db", template, chunk)
    return Copies(runs, events)


def _copies(template: Template, days: int, full_days: int, full: bool) -> Iterator[Copy]:
    end = datetime.now(UTC).replace(minute=0, second=0, microsecond=0) - timedelta(hours=1)
    step = timedelta(minutes=MINUTES[template.job])
    edge = end - timedelta(days=min(full_days, days))
    first, last = (edge, end) if full else (end - timedelta(days=days), edge)
    hourly = len(template.partition) > len("2025-01-01")
    at = first
    while at < last:
        named = hour_partition(at) if hourly else f"{at:%Y-%m-%d}"
        yield str(uuid.uuid4()), f"{at:%Y-%m-%d %H:%M:%S.%f}", at.timestamp(), named
        at += step


@contextmanager
def _opened(path: Path, copies: list[Copy]) -> Iterator[sqlite3.Connection]:
    """Open a transaction on the database, with the copies as a table."""
    with closing(sqlite3.connect(path, timeout=60)) as database, database:
        database.execute("pragma synchronous = off")
        database.execute("pragma cache_size = -400000")
        database.execute("create temp table copies (run_id text, at text, seconds real, named text)")
        database.executemany("insert into copies values (?, ?, ?, ?)", copies)
        yield database


def _copy_events(path: Path, template: Template, copies: list[Copy], full: bool) -> int:
    with _opened(path, copies) as database:
        event_filter = "" if full else f"and dagster_event_type in {KEPT_EVENT_TYPES}"
        database.execute(
            f"""create temp table template as
            select event, dagster_event_type, step_key, asset_key, partition
            from event_logs
            where run_id = ? {event_filter}
            order by id""",
            (template.run_id,),
        )
        # A cross join loops over the first table in its order, and for each row over the second in its own.
        # So the copies come out in the order of time without a sort.
        result = database.execute(
            """insert into event_logs (run_id, event, dagster_event_type, timestamp, step_key, asset_key, partition)
            select
              copies.run_id,
              replace(replace(event, ?, copies.run_id), ?, copies.named),
              dagster_event_type, copies.at, step_key, asset_key,
              case when partition is not null then copies.named end
            from copies
            cross join template""",
            (template.run_id, template.partition),
        )
        return result.rowcount


def _copy_runs(path: Path, template: Template, copies: list[Copy]) -> None:
    with _opened(path, copies) as database:
        database.execute(
            """insert into runs (
              run_id, snapshot_id, pipeline_name, mode, status, run_body, partition, partition_set,
              create_timestamp, update_timestamp, start_time, end_time
            )
            select
              copies.run_id, snapshot_id, pipeline_name, mode, status,
              replace(replace(run_body, ?, copies.run_id), ?, copies.named),
              case when partition is not null then copies.named end, partition_set,
              copies.at, copies.at, copies.seconds, copies.seconds + 5
            from copies
            cross join runs
            where runs.run_id = ?""",
            (template.run_id, template.partition, template.run_id),
        )
        database.execute(
            """insert into run_tags (run_id, key, value)
            select copies.run_id, key, replace(value, ?, copies.named)
            from copies
            cross join run_tags
            where run_tags.run_id = ?""",
            (template.partition, template.run_id),
        )
