"""`bench maintenance`: a week of ticks and a month of days in small files, before and after maintenance."""

import statistics
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

from lakehouse.bench.figures import Figure, Spent, figure, own_lake, timed
from lakehouse.bench.tick import make_history
from lakehouse.contracts.streams import Stream
from lakehouse.engine.connection import scan_sql
from lakehouse.landing.keys import hour_partition
from lakehouse.landing.writer import land
from lakehouse.maintenance.compaction import Budget, compact
from lakehouse.maintenance.manifests import merge_small_manifests
from lakehouse.maintenance.orphans import remove_orphans
from lakehouse.pipeline.commits import expire_snapshots
from lakehouse.pipeline.lake import Lake
from lakehouse.pipeline.realtime import ingest_hours
from lakehouse.sources.simulation import Simulator
from lakehouse.storage.iceberg.manifests import live_entries
from lakehouse.storage.objects.store import Objects, object_key

STREAM = "financial"
HOURS, DAYS = 7 * 24, 30
EVENTS = 20_000
QUERIES = 7
NO_QUIET_TIME = timedelta(0)
ANY_AGE = timedelta(seconds=-5)
"""Younger than any file, because storage's clock has whole seconds."""


def measure(hours: int = HOURS, days: int = DAYS, queries: int = QUERIES) -> Iterator[Figure]:
    """Yield files, bytes, seconds and one query of a stream's realtime and bronze table, before and after."""
    with own_lake(streams=[STREAM]) as lake:
        stream = lake.stream(STREAM)
        _fill(lake, stream, hours, days)
        names = [f"{layer}.{stream.name}" for layer in ("realtime", "bronze")]
        before = {name: (_files(lake, name), _stored(lake, name), _query(lake, name, queries)) for name in names}
        rows = {name: _rows(lake, name) for name in names}
        spent: dict[str, Spent] = {}
        for name in names:
            spent[name] = timed(lambda name=name: _maintain(lake, name))[1]  # type: ignore[misc]
        for name in names:
            if _rows(lake, name) != rows[name]:
                raise AssertionError(f"{name} has {_rows(lake, name)} rows after maintenance, {rows[name]} before")
            files, stored, seconds = before[name]
            yield figure("maintenance", f"{name} files", _files(lake, name), "files", before=files)
            yield figure("maintenance", f"{name} bytes stored", _stored(lake, name), "bytes", before=stored)
            yield figure(
                "maintenance", f"{name} maintained in", spent[name].seconds, "s", cpu=round(spent[name].cpu, 2)
            )
            now = _query(lake, name, queries)
            yield figure("maintenance", f"{name} query", now, "s", before=round(seconds, 4))
            yield figure("maintenance", f"{name} query ratio", seconds / now, "x")


def _fill(lake: Lake, stream: Stream, hours: int, days: int) -> None:
    now = datetime.now(UTC)
    batch = Simulator(stream.contract, stream.simulate, 1).batch(EVENTS, now - timedelta(minutes=5), now)
    land(lake.objects, stream.name, batch.lines, now=now)
    ingest_hours(lake, stream, [hour_partition(now)])
    make_history(lake, stream, hours, days, files_a_day=12)


def _maintain(lake: Lake, name: str) -> None:
    compact(lake, name, Budget(), quiet=NO_QUIET_TIME)
    with lake.tables.load(name).transaction() as change:
        change.set_properties({"lakehouse.snapshots-kept": "1"})
    while expire_snapshots(lake, lake.tables.load(name), at_least=1):
        pass
    merge_small_manifests(lake, name)
    remove_orphans(lake, name, age=ANY_AGE)


def _files(lake: Lake, name: str) -> int:
    return sum(1 for _ in live_entries(lake.tables.load(name)))


def _rows(lake: Lake, name: str) -> int:
    return sum(entry.data_file.record_count for entry in live_entries(lake.tables.load(name)))


def _stored(lake: Lake, name: str) -> int:
    location = lake.tables.load(name).location()
    objects = Objects.from_url(lake.connection, location)
    return sum(info.size for info in objects.list(object_key(location)))


def _query(lake: Lake, name: str, times: int) -> float:
    """Return the median seconds of a query over the whole table, including loading its metadata."""
    seconds: list[float] = []
    for _ in range(times):
        started = time.perf_counter()
        scan = scan_sql(lake.tables.load(name))
        with lake.engine.cursor() as cursor:
            cursor.execute(f"select count(distinct event_id), max(amount) from {scan}").fetchall()
        seconds.append(time.perf_counter() - started)
    return statistics.median(seconds)
