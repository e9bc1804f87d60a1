"""Keep the newest `LakeSnapshot` as tables are committed and events land. See `tracker_threads` for when each step runs."""

import logging
import threading
from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime, timedelta

from pyiceberg.table import Table

from lakehouse.contracts.streams import Stream
from lakehouse.errors import UnreadableObjectError, UnreadableTableError
from lakehouse.landing.keys import LandingObject
from lakehouse.pipeline.lake import Lake
from lakehouse.processes.file_stamps import Stamps, file_stamps
from lakehouse.processes.memory import return_free_memory
from lakehouse.serving.query.coverage_cache import CoverageCache
from lakehouse.serving.query.hot_tail import HotTail
from lakehouse.serving.query.lake_snapshot import LakeSnapshot, PinnedTables, UncoveredHours
from lakehouse.serving.query.tail_state import TailSize
from lakehouse.serving.query.tracker_threads import MAX_BATCH_OBJECTS, TrackerThreads

log = logging.getLogger(__name__)


class SnapshotTracker:
    """Publish a new snapshot for every change. Any thread may call any method."""

    def __init__(self, lake: Lake) -> None:
        self.lake = lake
        self.tail = HotTail(lake, max_bytes=lake.settings.tail_mb << 20)
        self._coverage = CoverageCache(lake.streams)
        self._threads = TrackerThreads(
            lake.changes("tables"),
            reload_streams=self.reload_streams,
            refresh=self.refresh,
            refresh_coverage=self.refresh_coverage,
            ingest=self.ingest,
            catch_up=self.catch_up,
        )
        self._refreshing = threading.Lock()
        """Held while the catalog and manifests are read."""
        self._ingesting = threading.Lock()
        """Held while landing objects are read."""
        self._publishing = threading.Lock()
        """Held only for as long as the tail's state or the latest snapshot changes, never while storage is read."""
        self._latest = LakeSnapshot(0, lake.streams, PinnedTables({}), {}, live_models=lake.live_models)
        self._model_files = self._stamp_models()
        self._tail_sizes: Mapping[str, TailSize] = {}

    def start(self) -> None:
        """Publish the first snapshot, then follow changes in threads. Raises StorageUnavailableError."""
        self._threads.start()

    def close(self) -> None:
        """Stop the threads and delete the hot tail."""
        self._threads.close()
        self.tail.close()

    @property
    def latest(self) -> LakeSnapshot:
        """The newest snapshot. It lags commits of other homes by at most some seconds."""
        return self._latest

    @property
    def tail_sizes(self) -> Mapping[str, TailSize]:
        """How much the hot tail holds of each stream."""
        return self._tail_sizes

    def notify(self, landing: LandingObject) -> None:
        """Report a landed object, so that its rows are ingested at once. Others are found by listing, seconds later."""
        self._threads.notify(landing)

    def tail_holds(self, stream: str, key: str) -> bool:
        """Return whether the hot tail has ingested an object, and the latest snapshot has its valid rows."""
        with self._publishing:
            try:
                segment = self.tail.segment_with(stream, key)
            except KeyError:
                return False
            return segment is None or str(segment) in self._latest.tail.get(stream, ())

    def refresh(self, names: Collection[str] | None = None) -> LakeSnapshot:
        """Load these tables, or all, from the catalog now. Raises StorageUnavailableError."""
        with self._refreshing:
            before = self._latest.tables
            loaded = self._load(self.lake.tables.names() if names is None else names)
            tables = PinnedTables(loaded) if names is None else before.with_tables(loaded)
            # First the snapshot gets the new tables, then the tail drops what is in them. Whatever fails in between,
            # every row is in at least one of them.
            if tables.locations() != before.locations():
                # The first snapshot is published without coverage: requests need not wait until manifests are read.
                self._publish(tables, self._coverage.hours(tables) if before.names() else {})
            if committed := self.tail.find_committed(self._realtime(tables)):
                with self._publishing:
                    self.tail.drop_committed(committed)
                self._publish()
            return self._latest

    def reload_streams(self) -> LakeSnapshot:
        """Use the streams and models as they are now, if they have changed. What landed by another contract is read anew."""
        if not self.lake.has_moved_streams:
            return self._reload_models()
        self.refresh()  # first the tables of new streams, so that each snapshot has the tables of its streams
        before = self.lake.streams
        with self._refreshing, self._ingesting, self._publishing:
            self.lake.reload_streams()
            after = self._coverage.streams = self.lake.streams
            self.tail.forget(name for name in {*before, *after} if not _is_same(before.get(name), after.get(name)))
        self._publish()
        return self.catch_up()

    def _reload_models(self) -> LakeSnapshot:
        """Use the models as they are now, if a file has changed."""
        if (files := self._stamp_models()) == self._model_files:
            return self._latest
        self._model_files = files
        self.lake.reload_models()
        return self._publish()

    def _stamp_models(self) -> Stamps:
        return file_stamps(self.lake.settings.models, depth=1)

    def _load(self, names: Collection[str]) -> dict[str, Table]:
        """Load tables from the catalog. One that can't be read stays as it was and stops no other."""
        tables = {}
        for name in names:
            try:
                tables[name] = self.lake.tables.load(name)
            except (UnreadableObjectError, UnreadableTableError) as error:
                log.warning("%s stays as it was: %s", name, error)
                if self._latest.tables.exists(name):
                    tables[name] = self._latest.tables.load(name)
        return tables

    def refresh_coverage(self) -> LakeSnapshot:
        """Publish which hours of realtime need not be read, where the latest snapshot does not know it yet."""
        with self._refreshing:
            hours = self._coverage.hours(self._latest.tables)
            return self._publish(hours=hours) if hours != self._latest.hours else self._latest

    def ingest(self, landings: Sequence[LandingObject]) -> LakeSnapshot:
        """Read these objects into the hot tail and publish their rows."""
        with self._ingesting:
            reads = self.tail.read(landings)
            with self._publishing:
                has_new_rows = self.tail.add(reads)
        return self._publish() if has_new_rows else self._latest

    def catch_up(self, back: timedelta = timedelta(hours=1)) -> LakeSnapshot:
        """List landing, in this hour and `back` from it, and ingest every object that was not reported."""
        now = datetime.now(UTC)
        hours = [now - timedelta(hours=number) for number in range(int(back / timedelta(hours=1)) + 1)]
        before = self.tail.ingested()
        listed = self.tail.list_landed(hours)
        with self._publishing:
            self.tail.drop_deleted(before - {landing.key for landing in listed}, hours)
            unread = self.tail.unread(listed)
        for name, table in self._realtime(self._latest.tables).items():
            new = self.tail.not_in_table(table, [landing for landing in unread if landing.stream == name])
            for start in range(0, len(new), MAX_BATCH_OBJECTS):
                self.ingest(new[start : start + MAX_BATCH_OBJECTS])
        merges = self.tail.merge_segments()
        with self._publishing:
            self.tail.apply_merges(merges)
        return_free_memory()
        return self._publish() if self.tail.files() != self._latest.tail else self._latest

    def _publish(self, tables: PinnedTables | None = None, hours: UncoveredHours | None = None) -> LakeSnapshot:
        """Publish these tables and hours, or those of the latest snapshot, with the hot tail as it is now."""
        with self._publishing:
            before = self._latest
            self._latest = LakeSnapshot(
                before.number + 1,
                self.lake.streams,
                before.tables if tables is None else tables,
                self.tail.files(),
                before.hours if hours is None else hours,
                live_models=self.lake.live_models,
            )
            self._tail_sizes = self.tail.sizes()
            return self._latest

    def _realtime(self, tables: PinnedTables) -> dict[str, Table]:
        """Return the realtime table of each stream that has one."""
        names = {stream: f"realtime.{stream}" for stream in self.lake.streams}
        return {stream: tables.load(name) for stream, name in names.items() if tables.exists(name)}


def _is_same(before: Stream | None, after: Stream | None) -> bool:
    """Return whether two definitions of a stream give the same rows."""
    return bool(before and after and before.contract == after.contract and before.definition == after.definition)
