"""`bench tick`: five minutes of all streams into realtime, on an empty lake and on one that has run for a year."""

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from pyiceberg.table import Table

from lakehouse.bench.figures import Figure, figure, own_lake
from lakehouse.contracts.streams import Stream
from lakehouse.engine.connection import copy_to_files, scan_sql
from lakehouse.landing.keys import arrival_hour, hour_partition
from lakehouse.landing.writer import land
from lakehouse.pipeline.bronze import ingest_days
from lakehouse.pipeline.commits import commit_files
from lakehouse.pipeline.lake import Lake
from lakehouse.pipeline.realtime import ingest_hours
from lakehouse.pipeline.silver import clean_days
from lakehouse.runtime.instance import environment
from lakehouse.sources.simulation import Simulator
from lakehouse.storage.iceberg.commit import upload
from lakehouse.storage.iceberg.partitions import NewFile, partitions_filter

REACH = 1.2
TICKS = 12
COLD_TICKS = 4
EVENTS = 3_000
"""Events per stream in five minutes, in one object per minute."""

OBJECTS = 5

RETAINED_HOURS = 7 * 24
"""The retention of realtime."""

TICKS_AN_HOUR = 12
KEPT_SNAPSHOTS = 48
DAYS = 365
COMMITS_OF_A_YEAR = 12
"""Commits of bronze and silver in the history. One a day would take too long to write, and realtime does not read these tables."""

HISTORY_ROWS = 20
"""Rows in each file of the history."""


def measure(
    ticks: int = TICKS,
    cold_ticks: int = COLD_TICKS,
    hours: int = RETAINED_HOURS,
    days: int = DAYS,
    streams: Sequence[str] = (),
) -> Iterator[Figure]:
    """Yield the figures. Both lakes run at once and take turns.

    `hours` is how far back realtime's history goes, `days` how far back bronze's and silver's. `streams` are those that a
    tick ingests, by default all.
    """
    with own_lake(streams=streams) as empty, own_lake(streams=streams) as old:
        sources = [_Source(empty), _Source(old)]
        for source in sources:
            _tick(source)
        started = time.monotonic()
        for stream in old.streams.values():
            make_history(old, stream, hours, days)
        yield figure("tick", "history made in", time.monotonic() - started, "s", files=_files(old))
        for source in sources:
            _tick(source)
        events = EVENTS * len(old.streams)
        warm = [[_tick(source) for source in sources] for _ in range(ticks)]
        yield from _compared("warm", warm, events)
        cold = [[_cold_tick(source) for source in sources] for _ in range(cold_ticks)]
        yield from _compared("cold", cold, events)


def _compared(name: str, rounds: Sequence[Sequence[float]], events: int) -> Iterator[Figure]:
    empty, old = (statistics.median(seconds) for seconds in zip(*rounds, strict=True))
    yield figure("tick", f"{name}, empty lake", empty, "s", events=events)
    yield figure("tick", f"{name}, a year of history", old, "s", events=events)
    yield figure("tick", f"{name} ratio", old / empty, "x", REACH)


class _Source:
    """The same new events for all streams of each lake."""

    def __init__(self, lake: Lake) -> None:
        self.lake = lake
        self._simulators = {s.name: Simulator(s.contract, s.simulate, 1) for s in lake.streams.values()}

    def land(self) -> str:
        """Land five minutes of events; return the hour they landed in."""
        now = datetime.now(UTC)
        for name, simulator in self._simulators.items():
            for _ in range(OBJECTS):
                batch = simulator.batch(EVENTS // OBJECTS, now - timedelta(minutes=5), now)
                land(self.lake.objects, name, batch.lines, now=now)
        return hour_partition(now)


def _tick(source: _Source) -> float:
    hour = source.land()
    started = time.perf_counter()
    rows = sum(
        ingest_hours(source.lake, stream, [hour]).partitions[hour]["rows"] for stream in source.lake.streams.values()
    )
    seconds = time.perf_counter() - started
    expected = EVENTS * len(source.lake.streams)
    if rows != expected:
        raise AssertionError(f"realtime has {rows} new rows, expected {expected}")
    return seconds


_CHILD = """
import sys
import dagster as dg
from lakehouse.automation.jobs import REALTIME
from lakehouse.automation.runs import Runner, raise_on_failure
from lakehouse.pipeline.lake import Lake
from lakehouse.settings import get_settings
hour, *streams = sys.argv[1:]
keys = [dg.AssetKey(["realtime", stream]) for stream in streams]
raise_on_failure(Runner(Lake(get_settings())).run(REALTIME, {"dagster/partition": hour}, keys))
"""


def _cold_tick(source: _Source) -> float:
    """Run the job `realtime` in a new process, which imports everything as Dagster's own launcher does."""
    hour = source.land()
    child = {**os.environ, **environment(source.lake.settings)}
    started = time.perf_counter()
    subprocess.run(
        [sys.executable, "-P", "-c", _CHILD, hour, *source.lake.streams], env=child, check=True, capture_output=True
    )
    return time.perf_counter() - started


def make_history(lake: Lake, stream: Stream, hours: int, days: int, *, files_a_day: int = 1) -> None:
    """Commit what a year of ticks and nights leaves: small files, and as many snapshots as are kept.

    Rows of the current day must have landed. `files_a_day` is the number of files that arrived in bronze per day.
    """
    today = datetime.now(UTC).date()
    ingest_days(lake, stream, [today])
    clean_days(lake, stream, [today])
    now = datetime.now(UTC).replace(minute=0)
    names = [arrival_hour(now - timedelta(hours=back)) for back in range(1, hours + 1)]
    realtime = lake.tables.load(f"realtime.{stream.name}")
    files = _spread(lake, realtime, "arrival_hour", names)
    _commit(lake, realtime, _repeated(files, TICKS_AN_HOUR), KEPT_SNAPSHOTS, "arrival_hour")
    dates = [str(today - timedelta(days=back)) for back in range(2, 2 + days)]
    for layer, column in (("bronze", "arrival_dt"), ("silver", "dt")):
        table = lake.tables.load(f"{layer}.{stream.name}")
        repeated = _repeated(_spread(lake, table, column, dates), files_a_day)
        _commit(lake, table, repeated, COMMITS_OF_A_YEAR, column)


def _repeated(files: Sequence[NewFile], times: int) -> list[NewFile]:
    """Return `times` hard links to each file, because an upload deletes the file it uploads."""
    links = []
    for file in files:
        for number in range(times):
            path = file.path.with_name(f"{file.path.stem}-{number}.parquet")
            os.link(file.path, path)
            links.append(replace(file, path=path))
        file.path.unlink()
    return links


def _spread(lake: Lake, table: Table, column: str, values: Sequence[str]) -> list[NewFile]:
    """Write a few of the table's rows into each of these partitions, as one file each."""
    folder = lake.settings.root / "history" / table.name()[0] / table.name()[1]
    folder.mkdir(parents=True)
    among = ", ".join(f"'{value}'" for value in values)
    sql_type = "varchar" if column == "arrival_hour" else "date"
    also = ", filled as dt" if column == "arrival_dt" else ""
    select = f"""select sample.* replace (filled as {column}{also})
        from (from {scan_sql(table)} limit {HISTORY_ROWS}) as sample
        cross join (select unnest([{among}])::{sql_type} as filled) as partitions"""
    with lake.engine.cursor() as cursor:
        return copy_to_files(cursor, select, table, folder, name="history")


def _commit(lake: Lake, table: Table, files: Sequence[NewFile], commits: int, column: str) -> None:
    ordered = sorted(files, key=lambda file: file.partition)
    size = -(-len(ordered) // commits)
    for part in (ordered[i : i + size] for i in range(0, len(ordered), size)):
        values = {file.partition[0] for file in part}
        ledger = {str(value): {"rows": HISTORY_ROWS} for value in {file.partition[-1] for file in part}}
        added = upload(lake.connection, table, part)
        commit_files(lake, table, added, partitions_filter(column, values), ledger=ledger)


def _files(lake: Lake) -> int:
    names = [f"{layer}.{stream}" for layer in ("realtime", "bronze", "silver") for stream in lake.streams]
    snapshots = (lake.tables.load(name).current_snapshot() for name in names)
    totals = (s.summary.additional_properties["total-data-files"] for s in snapshots if s and s.summary)
    return sum(map(int, totals))
