"""The hot tail: valid rows of landing objects that no realtime table holds yet.

It reads objects that ingest reports and those that a listing finds, and drops a row when the realtime table has it. A row
may be in both for a while, because the unified view merges by key. Only the order matters: a query first reads a table
that holds the object, then the tail drops the object's rows.
See `tail_state` for one stream's part, `tail_segments` for its files, `tail_reader` for reading and `snapshot_tracker` for
when each step runs.
"""

import logging
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import duckdb
from pyiceberg.table import Table

from lakehouse.engine.connection import DuckDB
from lakehouse.errors import LakehouseError
from lakehouse.landing.keys import LandingObject, arrival_hour, hour_of, hour_partition
from lakehouse.landing.listing import list_hour
from lakehouse.pipeline.ingest import objects_of_files
from lakehouse.pipeline.lake import Lake
from lakehouse.serving.query.recent_rejects import RecentRejects
from lakehouse.serving.query.tail_reader import ReadObjects, TailReader
from lakehouse.serving.query.tail_segments import SegmentStore
from lakehouse.serving.query.tail_state import MergedSegments, TailSize, TailState
from lakehouse.storage.iceberg.catalog import qualified_name
from lakehouse.storage.iceberg.manifests import select_files
from lakehouse.storage.iceberg.partitions import partitions_filter

log = logging.getLogger(__name__)

MEMORY_MB = 256
"""DuckDB's limit for reading and merging."""


@dataclass(frozen=True, slots=True)
class CommittedObjects:
    """Objects of the tail that a version of the realtime table holds."""

    table: Table
    objects: frozenset[str]


class HotTail:
    """The newest rows of every stream.

    The slow methods (`list_landed`, `read`, `find_committed`, `not_in_table`, `merge_segments`) may run at the same time as any
    other, but only one `read` at a time. The quick ones (`add`, `drop_committed`, `drop_deleted`, `unread`, `apply_merges`)
    change what is held, and the caller must run only one of them at a time.
    """

    def __init__(self, lake: Lake, *, max_bytes: int) -> None:
        root = lake.settings.root
        self._lake = lake
        self._max_bytes = max_bytes
        self._engine = DuckDB(
            lake.connection,
            scratch=root / "scratch",
            memory_limit_mb=MEMORY_MB,
            spill_mb=lake.settings.spill_mb,
            threads=1,
        )
        # Each file is read once, or once for each commit, and what was read of it would fill the memory.
        self._engine.database.execute("set enable_external_file_cache = false")
        self._segments = SegmentStore(root / "serving" / "tail", self._engine)
        self._reader = TailReader(lake, self._engine, self._segments)
        self._states = {name: TailState(name, self._segments) for name in lake.streams}
        """By stream, those that were removed included."""
        self.recent_rejects = RecentRejects()
        """Rejected rows of the objects that were read, whether the tail still holds the objects or not."""

    @property
    def folder(self) -> Path:
        """The folder of the segments."""
        return self._segments.folder

    def forget(self, streams: Iterable[str]) -> None:
        """Drop what is held of these streams, because it was read by another contract. What landed is read again."""
        for name in streams:
            if name in self._states:
                self._states[name].drop_all()
            self._states = {**self._states, name: TailState(name, self._segments)}

    def files(self) -> Mapping[str, tuple[str, ...]]:
        """Return the paths of the segments of each stream that has any."""
        return {
            name: tuple(str(segment.path) for segment in state.segments)
            for name, state in self._states.items()
            if state.segments
        }

    def sizes(self) -> Mapping[str, TailSize]:
        """Return how much is held of each stream."""
        return {name: state.size for name, state in self._states.items()}

    def ingested(self) -> set[str]:
        """Return the keys of all ingested objects."""
        return {key for state in self._states.values() for key in state.ingested.copy()}

    def segment_with(self, stream: str, key: str) -> Path | None:
        """Return the segment that holds rows of an ingested object, None for an object without valid rows.

        Raises KeyError if the object is not ingested, or no longer.
        """
        state = self._states[stream]
        if key not in state.ingested:
            raise KeyError(key)
        return next((segment.path for segment in state.segments if key in segment.objects), None)

    def list_landed(self, hours: Sequence[datetime]) -> list[LandingObject]:
        """List what has landed in these hours."""
        partitions = [hour_partition(hour) for hour in hours]
        return [
            landing
            for name in self._lake.streams
            for hour in partitions
            for landing in list_hour(self._lake.objects, name, hour)
        ]

    def unread(self, listed: Sequence[LandingObject]) -> list[LandingObject]:
        """Return the listed objects that must still be read."""
        return [landing for landing in listed if not self._states[landing.stream].skips(landing)]

    def not_in_table(self, table: Table, landings: Sequence[LandingObject]) -> list[LandingObject]:
        """Return the objects of one stream that its realtime table does not hold. The others count as ingested from now on.

        None are returned while the table can't be read.
        """
        committed = self._objects_in(table, [landing.key for landing in landings])
        if committed is None:
            return []
        for landing in landings:
            if landing.key in committed:
                self._states[landing.stream].ingested.add(landing.key)
        return [landing for landing in landings if landing.key not in committed]

    def read(self, landings: Iterable[LandingObject]) -> list[ReadObjects]:
        """Read and clean those of these objects that must still be read."""
        by_stream: defaultdict[str, list[LandingObject]] = defaultdict(list)
        for landing in landings:
            if landing.stream in self._lake.streams and not self._states[landing.stream].skips(landing):
                by_stream[landing.stream].append(landing)
        return self._reader.read(by_stream)

    def add(self, reads: Iterable[ReadObjects]) -> bool:
        """Hold what was read. Returns whether there are rows that were not there before."""
        has_new_rows = False
        for read in reads:
            state = self._states[read.stream]
            if not read.readable:
                state.left_out |= read.objects
                continue
            state.ingested |= read.objects
            if read.rejects is not None:
                self.recent_rejects.add(read.stream, read.rejects)
            if read.segment is not None:
                state.segments.append(read.segment)
                has_new_rows = True
        if has_new_rows:
            self._drop_oldest()
        return has_new_rows

    def find_committed(self, tables: Mapping[str, Table]) -> dict[str, CommittedObjects]:
        """Find, by stream, the held objects that realtime tables hold. Unchanged tables are left out."""
        committed = {}
        for name, table in tables.items():
            state = self._states[name]
            if state.compared_with != table.metadata_location and table.current_snapshot() is not None:
                keys = self._objects_in(table, [*state.ingested.copy(), *state.left_out.copy()])
                if keys is not None:
                    committed[name] = CommittedObjects(table, frozenset(keys))
        return committed

    def drop_committed(self, committed: Mapping[str, CommittedObjects]) -> None:
        """Drop what these tables hold. From now on, no new snapshot may use an older version of them."""
        for name, in_table in committed.items():
            state = self._states[name]
            state.left_out -= in_table.objects
            state.drop(in_table.objects & state.ingested)
            state.compared_with = in_table.table.metadata_location

    def drop_deleted(self, deleted: Collection[str], hours: Sequence[datetime]) -> None:
        """Drop those of these objects that landed in these hours, because landing no longer has them."""
        listed_hours = {arrival_hour(hour) for hour in hours}
        for name, state in self._states.items():
            if keys := {key for key in state.ingested & {*deleted} if _hour(key) in listed_hours}:
                state.drop(keys)
                self.recent_rejects.drop(name, keys)

    def merge_segments(self) -> list[MergedSegments]:
        """Write one segment in place of many small ones, in every stream. Nothing changes until `apply_merges`."""
        return [merge for state in self._states.values() for merge in state.merge_segments()]

    def apply_merges(self, merges: Iterable[MergedSegments] = ()) -> None:
        """Use merged segments in place of the old ones, and delete segments that no query reads any longer."""
        for merge in merges:
            self._states[merge.stream].apply_merge(merge)
        self._segments.delete_retired()

    def close(self) -> None:
        """Delete all segments."""
        self._engine.close()
        self._segments.close()

    def _drop_oldest(self) -> None:
        """Drop the oldest segments until the tail is within its limit."""
        while sum(state.bytes for state in self._states.values()) > self._max_bytes:
            max(self._states.values(), key=lambda state: state.bytes).drop_oldest()

    def _objects_in(self, table: Table, keys: Sequence[str]) -> set[str] | None:
        """Return those of these keys of which a realtime table has rows; None if it can't be read, which stops no other."""
        if not keys or table.current_snapshot() is None:
            return set()
        hours = partitions_filter("arrival_hour", sorted({_hour(key) for key in keys}))
        try:
            files = [data_file.file_path for data_file in select_files(table, hours)]
            return objects_of_files(self._engine, files) & set(keys)
        except (LakehouseError, OSError, duckdb.Error) as error:
            log.warning("%s can't be compared with the hot tail: %s", qualified_name(table), error)
            return None


def _hour(key: str) -> str:
    """Return the hour of an object as `arrival_hour` has it; empty for an object outside the hourly layout."""
    hour = hour_of(key)
    return "" if hour is None else arrival_hour(hour)
