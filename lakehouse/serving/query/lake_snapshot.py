"""What the lake holds at a snapshot: every table at one snapshot, and what landed since the newest was made.

Whoever reads reads one snapshot, so that what belongs together fits together however long the reading takes. What programs
of this home commit they mark, and those tables alone are looked up; all are now and then, for commits from elsewhere.
"""

import asyncio
import logging
import queue
import threading
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import cached_property, partial

from pyiceberg.table import Table

from lakehouse.contracts.streams import Stream
from lakehouse.errors import LakehouseError
from lakehouse.landing.keys import LandingObject
from lakehouse.pipeline.lake import Lake
from lakehouse.pipeline.lineage.realtime_coverage import is_large, uncovered_hours
from lakehouse.pipeline.unified_view import source_tables, view_exists, view_sql
from lakehouse.serving.query.hot_tail import AT_ONCE, LOOK_BACK, Held, Tail
from lakehouse.serving.query.sql import names_mentioned
from lakehouse.storage.iceberg.tables import NAMESPACES

log = logging.getLogger(__name__)

LOOK_SECONDS = 0.1
"""Between looks at what programs of this home say they have changed."""

ALL_SECONDS = 15.0
"""Between looks at every table, for what nobody says."""

LIST_SECONDS = 3.0
"""Between listings of what has landed, which find what nobody told of."""

SHARE = 30
"""Tables are looked at, and what has landed is listed, again after so many times as long as it took,"""

LONGEST_SECONDS = 60.0
"""but no later than this."""

AGAIN_SECONDS = 1.0
"""After which what failed is tried again."""

TELL_SECONDS = 0.5

CLOSE_SECONDS = 5.0
"""To wait at the end for a look that a catalog keeps waiting."""


class Pinned:
    """Tables as they were: what a catalog says, without asking it again."""

    def __init__(self, tables: Mapping[str, Table]) -> None:
        self._tables = tables

    def load(self, name: str) -> Table:
        """The table. Raises LakehouseError when there is none."""
        try:
            return self._tables[name]
        except KeyError:
            raise LakehouseError(f"There is no table {name}; `lakehouse bootstrap` makes what is missing.") from None

    def exists(self, name: str) -> bool:
        """Whether there is a table of this name."""
        return name in self._tables

    def names(self) -> list[str]:
        """Every table as `layer.name`."""
        return sorted(self._tables)

    def with_tables(self, tables: Mapping[str, Table]) -> "Pinned":
        """These, and all others as they are here."""
        return Pinned({**self._tables, **tables})

    def locations(self) -> dict[str, str]:
        """Each table's metadata file, which tells whether it has changed."""
        return {name: table.metadata_location for name, table in self._tables.items()}


@dataclass(frozen=True)
class LakeSnapshot:
    """The lake as it was then; never changes. Good wherever a lake is only read: it has `streams` and `tables`."""

    number: int
    """Grows with every change."""
    streams: Mapping[str, Stream] = field(repr=False)
    tables: Pinned = field(repr=False)
    tail: Mapping[str, tuple[str, ...]] = field(repr=False)
    """Files of rows that landed after what the realtime tables hold, by stream."""
    hours: Mapping[str, Sequence[str] | None] = field(default_factory=dict, repr=False)
    """The hours of realtime that silver may lack a key of, by stream; None, and none said, is all of them."""

    @cached_property
    def snapshot_ids(self) -> Mapping[str, int | None]:
        """The current snapshot of each table; None for one that never had any."""
        return {name: self.tables.load(name).metadata.current_snapshot_id for name in self.tables.names()}

    def uncovered(self, stream: Stream, silver: Table, realtime: Table) -> Sequence[str] | None:
        """The hours of this snapshot's realtime of which its silver may lack a key; None is all of them."""
        return self.hours.get(stream.name)

    def snapshot_ids_of(self, names: Iterable[str]) -> dict[str, int | None]:
        """The snapshots of the tables behind these names."""
        return {table: self.snapshot_ids.get(table) for name in names for table in source_tables(self, name)}

    def committed(self, names: Iterable[str]) -> str:
        """What tells whether the tables behind these names are as they were."""
        return repr(sorted(self.snapshot_ids_of(names).items()))

    def landed(self, names: Iterable[str]) -> str:
        """What tells whether anything else has landed that these names give and no table holds."""
        tables = {table for name in names for table in source_tables(self, name)}
        streams = sorted(name.partition(".")[2] for name in tables if name.startswith("realtime."))
        return repr([self.tail.get(stream, ()) for stream in streams])

    def only(self, names: Collection[str]) -> "LakeSnapshot":
        """The same snapshot without all other tables; those behind its views stay out of sight too."""
        return replace(
            self, tables=Pinned({name: self.tables.load(name) for name in self.tables.names() if name in names})
        )

    def views(self, sql: str) -> dict[str, str]:
        """The SELECT behind each table and view that a statement names."""
        return {name: view_sql(self, name) for name in sorted(names_mentioned(sql)) if view_exists(self, name)}


class SnapshotTracker:
    """Keeps the latest snapshot. One thread looks at the catalog, one takes what it is told has landed, one lists it."""

    def __init__(self, lake: Lake) -> None:
        self.lake = lake
        self.tail = Tail(lake, most_bytes=lake.settings.tail_mb << 20)
        self._changes = lake.changes("tables")
        self._ended = threading.Event()
        self._threads = [
            threading.Thread(target=work, name=f"tracker {work.__name__.strip('_')}", daemon=True)
            for work in (self._watch, self._follow, self._list)
        ]
        self._looking = threading.Lock()
        self._taking = threading.Lock()
        self._changing = threading.Lock()
        """Is held for no longer than it takes to say what has changed; the other two while storage is read."""
        self._told: queue.SimpleQueue[LandingObject] = queue.SimpleQueue()
        self._latest = LakeSnapshot(0, lake.streams, Pinned({}), {})
        self._held: Mapping[str, Held] = {}
        self._covered: dict[str, tuple[list[str], Sequence[str] | None]] = {}
        """The uncovered hours of each stream, with the metadata files of the tables that they are of."""

    def start(self) -> None:
        """Take the first snapshot, then look again and again. Raises StorageUnavailableError."""
        self._changes.look()
        self.refresh()
        for thread in self._threads:
            thread.start()

    def close(self) -> None:
        """Stop looking."""
        self._ended.set()
        for thread in self._threads:
            if thread.is_alive():
                thread.join(CLOSE_SECONDS)
        self.tail.close()

    @property
    def latest(self) -> LakeSnapshot:
        """The newest snapshot known; at most some seconds old."""
        return self._latest

    @property
    def tail_sizes(self) -> Mapping[str, Held]:
        """How much of each stream is in the tail."""
        return self._held

    def notify(self, landing: LandingObject) -> None:
        """An object has landed; its rows are soon to be seen. What nobody tells of is found some seconds later."""
        self._told.put(landing)

    def refresh(self, names: Collection[str] | None = None) -> LakeSnapshot:
        """Look up these tables, or all there are, now. Raises StorageUnavailableError."""
        with self._looking:
            before = self._latest.tables
            if names is None:
                tables = Pinned({name: self.lake.tables.load(name) for name in self.lake.tables.names()})
            else:
                tables = before.with_tables({name: self.lake.tables.load(name) for name in names})
            # First tracker have the new tables, then the tail gives up what is in them: whatever fails in between, a row
            # is in one of both.
            if tables.locations() != before.locations():
                # The first requests need not wait until manifests have been read.
                self._publish(tables, self._hours(tables) if before.names() else {})
            if held := self.tail.in_tables(_realtime(tables, self.lake)):
                with self._changing:
                    self.tail.trim(held)
                self._publish()
            return self._latest

    def cover(self) -> LakeSnapshot:
        """Have the snapshot say which hours of realtime need not be read, where it does not yet."""
        with self._looking:
            hours = self._hours(self._latest.tables)
            return self._publish(hours=hours) if hours != self._latest.hours else self._latest

    def _hours(self, tables: Pinned) -> dict[str, Sequence[str] | None]:
        """The hours of realtime of which silver may lack a key; found out where a stream's tables have changed."""
        found = {}
        for name, stream in self.lake.streams.items():
            three = [f"{layer}.{name}" for layer in ("realtime", "bronze", "silver")]
            if not all(map(tables.exists, three)):
                continue
            loaded = [tables.load(table) for table in three]
            locations = [table.metadata_location for table in loaded]
            if self._covered.get(name, ([], None))[0] != locations:
                self._covered[name] = locations, _uncovered(stream, *loaded)
            found[name] = self._covered[name][1]
        return found

    def ingest(self, landings: Sequence[LandingObject]) -> LakeSnapshot:
        """Have the rows of these objects in the snapshot that follows."""
        with self._taking:
            read = self.tail.read(landings)
            with self._changing:
                new = self.tail.hold(read)
        return self._publish() if new else self._latest

    def catch_up(self, back: timedelta = timedelta(hours=1)) -> LakeSnapshot:
        """Find what nobody told of, in this hour and in those before it, and take it."""
        now = datetime.now(UTC)
        hours = [now - timedelta(hours=n) for n in range(int(back / timedelta(hours=1)) + 1)]
        before = self.tail.taken()
        listed = self.tail.listed(hours)
        with self._changing:
            self.tail.forget(before - {one.key for one in listed}, hours)
            found = self.tail.missing(listed)
        for name, table in _realtime(self._latest.tables, self.lake).items():
            fresh = self.tail.unheld(table, [one for one in found if one.stream == name])
            for start in range(0, len(fresh), AT_ONCE):
                self.ingest(fresh[start : start + AT_ONCE])
        merged = self.tail.merged()
        with self._changing:
            self.tail.tidy(merged)
        return self._publish() if self.tail.files() != self._latest.tail else self._latest

    async def refreshed(self) -> LakeSnapshot:
        """As `refresh`, off the event loop."""
        return await asyncio.to_thread(self.refresh)

    def _publish(
        self, tables: Pinned | None = None, hours: Mapping[str, Sequence[str] | None] | None = None
    ) -> LakeSnapshot:
        """Have a snapshot of these tables and their uncovered hours, or of the same as before, and the tail as it is."""
        with self._changing:
            before = self._latest
            pinned, read = before.tables if tables is None else tables, before.hours if hours is None else hours
            self._latest = LakeSnapshot(before.number + 1, self.lake.streams, pinned, self.tail.files(), read)
            self._held = self.tail.held()
            return self._latest

    def _watch(self) -> None:
        self._try(self.cover, "what silver has of realtime can't be found out")
        due = time.monotonic() + ALL_SECONDS
        while not self._ended.wait(LOOK_SECONDS):
            changed = {name for name in self._changes.look() if name.partition(".")[0] in NAMESPACES}
            begun = time.monotonic()
            every = begun >= due
            if not every and not changed:
                continue
            if not self._try(partial(self.refresh, None if every else changed), "the catalog can't be looked at"):
                due = begun
            elif every:
                due = time.monotonic() + _pause(begun, ALL_SECONDS)

    def _list(self) -> None:
        back = LOOK_BACK
        while not self._ended.is_set():
            begun = time.monotonic()
            if self._try(partial(self.catch_up, back), "landing can't be listed"):
                back = timedelta(hours=1)
                self._ended.wait(_pause(begun, LIST_SECONDS))

    def _follow(self) -> None:
        while not self._ended.is_set():
            if told := self._heard():
                self._try(partial(self.ingest, told), "what landed can't be read")

    def _heard(self) -> list[LandingObject]:
        """What has been told of, after waiting a snapshot for the first."""
        found: list[LandingObject] = []
        try:
            found.append(self._told.get(timeout=TELL_SECONDS))
            while len(found) < AT_ONCE:
                found.append(self._told.get_nowait())
        except queue.Empty:
            pass
        return found

    def _try(self, work: Callable[[], object], failed: str) -> bool:
        try:
            work()
        except LakehouseError as problem:
            log.warning("%s: %s", failed, problem)
        except Exception:
            log.exception("%s", failed)
        else:
            return True
        self._ended.wait(AGAIN_SECONDS)
        return False


def _uncovered(stream: Stream, realtime: Table, bronze: Table, silver: Table) -> Sequence[str] | None:
    """The hours to read. Whatever fails, there is a snapshot: it reads all of them."""
    try:
        return uncovered_hours(stream, realtime, bronze, silver) if is_large(realtime) else None
    except Exception:
        log.exception("all of realtime.%s is read", stream.name)
        return None


def _pause(begun: float, least: float) -> float:
    """How long to leave storage alone after work that began then."""
    return max(least, min(LONGEST_SECONDS, (time.monotonic() - begun) * SHARE))


def _realtime(tables: Pinned, lake: Lake) -> dict[str, Table]:
    names = {stream: f"realtime.{stream}" for stream in lake.streams}
    return {stream: tables.load(name) for stream, name in names.items() if tables.exists(name)}
