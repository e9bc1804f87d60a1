"""The tail: rows of landing objects that no realtime table holds yet, as Parquet files on this machine.

It takes what it is told of and what it finds listed, cleans it by the SQL that realtime runs, and gives a row up when the
table has it. What is in both does no harm, for whoever reads merges by key; so nothing depends on the very moment of the
hand-over, only on its order: first a table is read that holds the object, then the object's rows go.
"""

import logging
import shutil
import time
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from uuid import uuid4

import duckdb
import pyarrow as pa
from pyiceberg.table import Table

from lakehouse.contracts.sql import literal
from lakehouse.contracts.streams import Stream
from lakehouse.engines.duckdb import DuckDB, scan_sql
from lakehouse.errors import LakehouseError
from lakehouse.ingest.landing import list_hour
from lakehouse.ingest.names import LandingObject, hour_of
from lakehouse.ingest.readers import bronze_batches
from lakehouse.layers.bronze import sources
from lakehouse.layers.lake import Lake
from lakehouse.layers.realtime import rows_sql

log = logging.getLogger(__name__)

LOOK_BACK = timedelta(hours=3)
"""How far back objects are looked for at the start. Realtime takes them every five minutes."""

LARGEST = 64 << 20
"""Bytes of an object above which it is left to realtime: files, not events that somebody waits for."""

AT_ONCE = 32
"""Objects that are read before their rows can be seen."""

MERGE_FROM = 8
"""Files of a stream from which the small ones become one."""

SMALL_ROWS = 400_000

KEEP_SECONDS = 120.0
"""For which a file that has been replaced stays, for queries that read an older moment."""


@dataclass(frozen=True, slots=True)
class Segment:
    """A file of rows."""

    path: Path
    objects: frozenset[str]
    rows: int
    bytes: int


@dataclass(slots=True)
class Fresh:
    """What is held of one stream."""

    segments: list[Segment] = field(default_factory=list)
    taken: set[str] = field(default_factory=set)
    """The objects that were read, those without a valid row too, and those that the table was seen to hold."""
    left_out: set[str] = field(default_factory=set)
    """Objects that went before a table had them, for there were too many."""
    location: str = ""
    """The realtime table's metadata that was looked at last."""


@dataclass(frozen=True, slots=True)
class Held:
    """How much is held of one stream."""

    rows: int
    objects: int
    bytes: int
    left_out: int
    """Objects that are not to be seen until realtime takes them, for there were too many."""


class Tail:
    """Used by one thread at a time; the files it names stay as they are."""

    def __init__(self, lake: Lake, *, most_bytes: int) -> None:
        self._lake = lake
        self._most = most_bytes
        self._folder = lake.settings.root / "serving" / "tail"
        shutil.rmtree(self._folder, ignore_errors=True)
        self._folder.mkdir(parents=True)
        self._engine = DuckDB(lake.connection, memory_limit_mb=256, threads=1, scratch=lake.settings.root / "scratch")
        self._fresh = {name: Fresh() for name in lake.streams}
        self._retired: list[tuple[float, Path]] = []

    @property
    def folder(self) -> Path:
        """Where the files are."""
        return self._folder

    def files(self) -> Mapping[str, tuple[str, ...]]:
        """The files of each stream that has any."""
        return {
            name: tuple(str(segment.path) for segment in fresh.segments)
            for name, fresh in self._fresh.items()
            if fresh.segments
        }

    def held(self) -> Mapping[str, Held]:
        """How much is held of each stream."""
        return {
            name: Held(
                sum(segment.rows for segment in fresh.segments),
                len(fresh.taken),
                sum(segment.bytes for segment in fresh.segments),
                len(fresh.left_out),
            )
            for name, fresh in self._fresh.items()
        }

    def listed(self, hours: Sequence[datetime]) -> list[LandingObject]:
        """What has landed in these hours; changes nothing."""
        keys = [f"{hour:%Y-%m-%d-%H}:00" for hour in hours]
        return [one for name in self._fresh for key in keys for one in list_hour(self._lake.objects, name, key)]

    def missing(self, listed: Sequence[LandingObject], hours: Sequence[datetime]) -> list[LandingObject]:
        """Those of the listed objects that are not held; what is held of these hours and not listed is given up.

        Nothing may have been taken since the listing began.
        """
        keys, starts = {one.key for one in listed}, {f"{hour:%Y-%m-%d-%H}" for hour in hours}
        for name, fresh in self._fresh.items():
            if gone := {key for key in fresh.taken if key not in keys and _hour(key) in starts}:
                self._give_up(name, gone)
        return [one for one in listed if not self._knows(self._fresh[one.stream], one)]

    def take(self, landings: Iterable[LandingObject]) -> bool:
        """Read and clean these objects, at most some at a time; whether there are rows that were not there before.

        Those that can't be read are left to realtime, which says why.
        """
        new = False
        by_stream: defaultdict[str, list[LandingObject]] = defaultdict(list)
        for one in landings:
            if one.stream in self._fresh and not self._knows(self._fresh[one.stream], one):
                by_stream[one.stream].append(one)
        for name, found in by_stream.items():
            new |= self._take(self._lake.streams[name], found)
        if new:
            self._bound()
        return new

    def trim(self, tables: Mapping[str, Table]) -> None:
        """Give up what these realtime tables, by stream, hold; older ones must not be read any longer."""
        for name, table in tables.items():
            fresh = self._fresh[name]
            if fresh.location == table.metadata_location or table.current_snapshot() is None:
                continue
            if fresh.taken or fresh.left_out:
                held = self._objects_in(table, [*fresh.taken, *fresh.left_out])
                fresh.left_out -= held
                self._give_up(name, held & fresh.taken)
            fresh.location = table.metadata_location

    def unheld(self, table: Table, landings: Sequence[LandingObject]) -> list[LandingObject]:
        """Those of a stream's objects that its realtime table does not hold; the others are not asked about again."""
        held = self._objects_in(table, [one.key for one in landings])
        for one in landings:
            if one.key in held:
                self._fresh[one.stream].taken.add(one.key)
        return [one for one in landings if one.key not in held]

    def tidy(self) -> None:
        """Make few files of many, and remove those that nobody reads any longer."""
        for name, fresh in self._fresh.items():
            small = [segment for segment in fresh.segments if segment.rows < SMALL_ROWS]
            if len(small) >= MERGE_FROM:
                merged = self._write(name, _scan(small), frozenset().union(*(s.objects for s in small)))
                self._replace(fresh, small, merged)
        now = time.monotonic()
        while self._retired and now - self._retired[0][0] > KEEP_SECONDS:
            self._retired.pop(0)[1].unlink(missing_ok=True)

    def close(self) -> None:
        """Remove all."""
        self._engine.close()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _knows(self, fresh: Fresh, one: LandingObject) -> bool:
        return one.key in fresh.taken or one.key in fresh.left_out or one.size > LARGEST

    def _take(self, stream: Stream, found: Sequence[LandingObject]) -> bool:
        fresh = self._fresh[stream.name]
        try:
            batches = list(bronze_batches(stream.contract, sources(self._lake, found)))
        except LakehouseError as problem:
            if len(found) > 1:
                one_by_one = [self._take(stream, [one]) for one in found]
                return any(one_by_one)
            log.info("%s is left to realtime: %s", found[0].key, problem)
            fresh.left_out.add(found[0].key)
            return False
        keys = frozenset(one.key for one in found)
        segment = None
        if batches:
            with self._engine.cursor() as cursor:
                cursor.register("chunk", pa.Table.from_batches(batches))
                segment = self._write(stream.name, rows_sql(stream), keys, cursor)
        fresh.taken |= keys
        if segment is not None:
            fresh.segments.append(segment)
        return segment is not None

    def _write(
        self, stream: str, select: str, objects: frozenset[str], cursor: duckdb.DuckDBPyConnection | None = None
    ) -> Segment | None:
        """A file of a SELECT's rows; None when there are none."""
        path = self._folder / f"{stream}-{uuid4().hex}.parquet"
        options = "format parquet, compression lz4"
        copied = (cursor or self._engine.database).execute(f"copy ({select}) to {literal(str(path))} ({options})")
        rows = int((copied.fetchone() or (0,))[0])
        if not rows:
            path.unlink()
            return None
        return Segment(path, objects, rows, path.stat().st_size)

    def _give_up(self, name: str, keys: Collection[str]) -> None:
        """Forget these objects of a stream and their rows."""
        fresh = self._fresh[name]
        for key in keys:
            fresh.taken.discard(key)
        for segment in list(fresh.segments):
            gone = segment.objects & set(keys)
            if gone == segment.objects:
                self._replace(fresh, [segment], None)
            elif gone:
                listed = ", ".join(map(literal, sorted(gone)))
                select = f"{_scan([segment])} where _object not in ({listed})"
                self._replace(fresh, [segment], self._write(name, select, segment.objects - gone))

    def _replace(self, fresh: Fresh, old: Sequence[Segment], new: Segment | None) -> None:
        kept = [segment for segment in fresh.segments if segment not in old]
        fresh.segments = [*([] if new is None else [new]), *kept]
        self._retired += [(time.monotonic(), segment.path) for segment in old]

    def _bound(self) -> None:
        """Let the oldest files go while all are too large."""
        while sum(segment.bytes for fresh in self._fresh.values() for segment in fresh.segments) > self._most:
            name, fresh = max(self._fresh.items(), key=lambda item: sum(segment.bytes for segment in item[1].segments))
            oldest = fresh.segments[0]
            log.warning("%s: %d of the newest rows are not to be seen until realtime has them", name, oldest.rows)
            for key in oldest.objects:
                fresh.taken.discard(key)
            fresh.left_out |= oldest.objects
            self._replace(fresh, [oldest], None)

    def _objects_in(self, table: Table, keys: Sequence[str]) -> set[str]:
        """Those of the keys that a realtime table holds rows of."""
        if not keys or table.current_snapshot() is None:
            return set()
        hours = ", ".join(sorted({literal(_hour(key)) for key in keys}))
        with self._engine.cursor() as cursor:
            rows = cursor.execute(
                f"select distinct _object from {scan_sql(table)} where arrival_hour in ({hours})"
            ).fetchall()
        return {key for (key,) in rows} & set(keys)


def _scan(segments: Sequence[Segment]) -> str:
    return f"from read_parquet([{', '.join(literal(str(segment.path)) for segment in segments)}])"


def _hour(key: str) -> str:
    """The hour an object is in, as the realtime table has it; empty for one that is in none."""
    hour = hour_of(key)
    return "" if hour is None else f"{hour:%Y-%m-%d-%H}"
