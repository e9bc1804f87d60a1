"""The tail: rows of landing objects that no realtime table holds yet, as Parquet files on this machine.

It takes what it is told of and what it finds listed, cleans it by the SQL that realtime runs, and gives a row up when the
table has it. What is in both does no harm, for whoever reads merges by key; so nothing depends on the very moment of the
hand-over, only on its order: first a table is read that holds the object, then the object's rows go.
"""

import logging
import os
import shutil
import time
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from math import log as log_of
from pathlib import Path
from uuid import uuid4

import duckdb
import psutil
import pyarrow as pa
from pyiceberg.table import Table

from lakehouse.contracts.sql import literal
from lakehouse.contracts.streams import Stream
from lakehouse.engine.connection import DuckDB, scan_sql
from lakehouse.errors import LakehouseError
from lakehouse.landing.keys import LandingObject, arrival_hour, hour_of, hour_partition
from lakehouse.landing.listing import list_hour
from lakehouse.landing.readers import bronze_batches
from lakehouse.pipeline.ingest import input_objects
from lakehouse.pipeline.lake import Lake
from lakehouse.pipeline.realtime import valid_rows_sql
from lakehouse.serving.query.recent_rejects import KEPT, RecentRejects

log = logging.getLogger(__name__)

LOOK_BACK = timedelta(hours=3)
"""How far back objects are looked for at the start. Realtime takes them every five minutes."""

LARGEST = 64 << 20
"""Bytes of an object above which it is left to realtime: files, not events that somebody waits for."""

AT_ONCE = 32
"""Objects that are read before their rows can be seen."""

FEW = 8
"""Objects up to which whatever is refused in them is looked at; of more at once, which is under load,"""

REFUSED_SECONDS = 1.0
"""a stream's are so often, for it takes a fifth of the time that reading them does."""

MERGE_FROM = 8
"""So many files of about one size become one, so that a row is written again a few times at most."""

SMALL_ROWS = 2_000
"""Up to which files are of one size; from there on each size is MERGE_FROM times the one before."""

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
    """Objects that went before a table had them, for there were too many, or that can't be read."""
    location: str = ""
    """The realtime table's metadata that was looked at last."""


@dataclass(frozen=True, slots=True)
class Read:
    """Objects of a stream that were read, and their rows; no segment when they have no valid row."""

    stream: str
    objects: frozenset[str]
    segment: Segment | None
    refused: pa.Table | None
    """The newest rows that break the contract, as the readers give them; None where all keep it."""


@dataclass(frozen=True, slots=True)
class Merged:
    """Files of a stream, and the one that holds what they hold."""

    stream: str
    old: tuple[Segment, ...]
    new: Segment


@dataclass(frozen=True, slots=True)
class Held:
    """How much is held of one stream."""

    rows: int
    objects: int
    bytes: int
    left_out: int
    """Objects that are not to be seen until realtime takes them, for there were too many."""


class Tail:
    """What takes its time (`listed`, `read`, `in_tables`, `unheld`, `merged`) changes nothing and may be done by any thread;
    what changes what is held (`hold`, `trim`, `forget`, `missing`, `tidy`) is quick, and one thread's at a time. The files
    that are named stay as they are.
    """

    def __init__(self, lake: Lake, *, most_bytes: int) -> None:
        self._lake = lake
        self._most = most_bytes
        self._folder = _own_folder(lake.settings.root / "serving" / "tail")
        self._engine = DuckDB(lake.connection, memory_limit_mb=256, threads=1, scratch=lake.settings.root / "scratch")
        self._fresh = {name: Fresh() for name in lake.streams}
        self._looked: dict[str, float] = {}
        """When a stream's refused rows were looked at last."""
        self.recent_rejects = RecentRejects()
        """The rows of what was read that break their contract, whoever holds their objects by now."""
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
        keys = [hour_partition(hour) for hour in hours]
        return [one for name in self._fresh for key in keys for one in list_hour(self._lake.objects, name, key)]

    def taken(self) -> set[str]:
        """The objects that are held."""
        return {key for fresh in self._fresh.values() for key in fresh.taken.copy()}

    def forget(self, gone: Collection[str], hours: Sequence[datetime]) -> None:
        """Give up those of these objects that are in these hours: they are there no longer."""
        starts = {arrival_hour(hour) for hour in hours}
        for name, fresh in self._fresh.items():
            if keys := {key for key in fresh.taken & {*gone} if _hour(key) in starts}:
                self._give_up(name, keys)
                self.recent_rejects.forget(name, keys)

    def missing(self, listed: Sequence[LandingObject]) -> list[LandingObject]:
        """Those of the listed objects that are not held."""
        return [one for one in listed if not self._knows(self._fresh[one.stream], one)]

    def read(self, landings: Iterable[LandingObject]) -> list[Read]:
        """Read and clean those of these objects that are not held, at most some at a time.

        Those that can't be read have no rows here and are left to realtime, which says why.
        """
        by_stream: defaultdict[str, list[LandingObject]] = defaultdict(list)
        for one in landings:
            if one.stream in self._fresh and not self._knows(self._fresh[one.stream], one):
                by_stream[one.stream].append(one)
        if sum(map(len, by_stream.values())) <= FEW:
            self._looked.clear()
        return [read for name, found in by_stream.items() for read in self._read(self._lake.streams[name], found)]

    def hold(self, found: Iterable[Read]) -> bool:
        """Hold what was read; whether there are rows that were not there before."""
        new = False
        for read in found:
            fresh = self._fresh[read.stream]
            fresh.taken |= read.objects
            if read.refused is not None:
                self.recent_rejects.add(read.stream, read.refused)
            if read.segment is not None:
                fresh.segments.append(read.segment)
                new = True
        if new:
            self._bound()
        return new

    def in_tables(self, tables: Mapping[str, Table]) -> dict[str, tuple[Table, set[str]]]:
        """By stream, those realtime tables that have changed since they were looked at, and which of what is held they
        hold.
        """
        found = {}
        for name, table in tables.items():
            fresh = self._fresh[name]
            if fresh.location != table.metadata_location and table.current_snapshot() is not None:
                found[name] = (table, self._objects_in(table, [*fresh.taken.copy(), *fresh.left_out.copy()]))
        return found

    def trim(self, held: Mapping[str, tuple[Table, set[str]]]) -> None:
        """Give up what these tables hold; older ones must not be read any longer."""
        for name, (table, keys) in held.items():
            fresh = self._fresh[name]
            fresh.left_out -= keys
            self._give_up(name, keys & fresh.taken)
            fresh.location = table.metadata_location

    def unheld(self, table: Table, landings: Sequence[LandingObject]) -> list[LandingObject]:
        """Those of a stream's objects that its realtime table does not hold; the others are not asked about again."""
        held = self._objects_in(table, [one.key for one in landings])
        for one in landings:
            if one.key in held:
                self._fresh[one.stream].taken.add(one.key)
        return [one for one in landings if one.key not in held]

    def merged(self) -> list[Merged]:
        """One file in place of many, where there are many of about one size."""
        found = []
        for name, fresh in self._fresh.items():
            by_size: defaultdict[int, list[Segment]] = defaultdict(list)
            for segment in fresh.segments.copy():
                by_size[_size(segment)].append(segment)
            for alike in by_size.values():
                if len(alike) >= MERGE_FROM:
                    new = self._write(name, _scan(alike), frozenset().union(*(one.objects for one in alike)))
                    assert new is not None, "a file has rows"
                    found.append(Merged(name, tuple(alike), new))
        return found

    def tidy(self, merged: Iterable[Merged] = ()) -> None:
        """Put merged files in the place of those they hold, and remove what nobody reads any longer."""
        for one in merged:
            fresh = self._fresh[one.stream]
            if all(segment in fresh.segments for segment in one.old):
                self._replace(fresh, one.old, one.new)
            else:  # some of it was given up meanwhile
                one.new.path.unlink()
        now = time.monotonic()
        while self._retired and now - self._retired[0][0] > KEEP_SECONDS:
            self._retired.pop(0)[1].unlink(missing_ok=True)

    def close(self) -> None:
        """Remove all."""
        self._engine.close()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _knows(self, fresh: Fresh, one: LandingObject) -> bool:
        return one.key in fresh.taken or one.key in fresh.left_out or one.size > LARGEST

    def _read(self, stream: Stream, found: Sequence[LandingObject]) -> list[Read]:
        keys = frozenset(one.key for one in found)
        try:
            batches = list(bronze_batches(stream.contract, input_objects(self._lake, found)))
        except LakehouseError as problem:
            if len(found) > 1:
                return [read for one in found for read in self._read(stream, [one])]
            log.info("%s is left to realtime: %s", found[0].key, problem)
            self._fresh[stream.name].left_out |= keys
            return []
        segment, refused = None, None
        if batches:
            with self._engine.cursor() as cursor:
                chunk = pa.Table.from_batches(batches)
                cursor.register("chunk", chunk)
                segment = self._write(stream.name, valid_rows_sql(stream), keys, cursor)
                now, looked = time.monotonic(), self._looked.get(stream.name, float("-inf"))
                if chunk.num_rows > (segment.rows if segment else 0) and now - looked >= REFUSED_SECONDS:
                    self._looked[stream.name] = now
                    refused = _refused(cursor, segment)
        return [Read(stream.name, keys, segment, refused)]

    def _write(
        self, stream: str, select: str, objects: frozenset[str], cursor: duckdb.DuckDBPyConnection | None = None
    ) -> Segment | None:
        """A file of a SELECT's rows; None when there are none."""
        path = self._folder / f"{stream}-{uuid4().hex}.parquet"
        options = "format parquet, compression lz4"
        copied = (cursor or self._engine.cursor()).execute(f"copy ({select}) to {literal(str(path))} ({options})")
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


def _size(segment: Segment) -> int:
    """How often MERGE_FROM small files had to be merged to get one of about this size."""
    return int(log_of(max(segment.rows / SMALL_ROWS, 1), MERGE_FROM))


def _refused(cursor: duckdb.DuckDBPyConnection, valid: Segment | None) -> pa.Table:
    """The newest rows of `chunk` that are not in this file, which has the valid ones."""
    others = (
        f"anti join (from read_parquet({literal(str(valid.path))})) as valid using (_object, _row)" if valid else ""
    )
    newest = f"order by _arrived_at desc, _object desc, _row desc limit {KEPT}"
    return cursor.execute(f"from chunk {others} {newest}").to_arrow_table()


def _own_folder(among: Path) -> Path:
    """A new folder of this process, `{pid}-…`; those of dead processes go."""
    for folder in among.glob("*"):
        pid = folder.name.partition("-")[0]
        if not (pid.isdigit() and psutil.pid_exists(int(pid))):
            shutil.rmtree(folder, ignore_errors=True)
    own = among / f"{os.getpid()}-{uuid4().hex[:8]}"
    own.mkdir(parents=True)
    return own


def _scan(segments: Sequence[Segment]) -> str:
    return f"from read_parquet([{', '.join(literal(str(segment.path)) for segment in segments)}])"


def _hour(key: str) -> str:
    """The hour an object is in, as the realtime table has it; empty for one that is in none."""
    hour = hour_of(key)
    return "" if hour is None else arrival_hour(hour)
