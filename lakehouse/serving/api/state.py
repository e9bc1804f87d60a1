"""What the routers work with: the lake, its latest snapshot and its readers. One a process."""

from collections.abc import Coroutine, Mapping
from dataclasses import dataclass
from typing import Any

from lakehouse.http.auth import AccessControl
from lakehouse.pipeline.lake import Lake
from lakehouse.serving.api.sse import Live
from lakehouse.serving.lookups.cache import LookupCache
from lakehouse.serving.lookups.paths import lookups_folder
from lakehouse.serving.monitoring.alert_feed import AlertFeed
from lakehouse.serving.monitoring.alert_pages import AlertPages
from lakehouse.serving.monitoring.overview import Overview
from lakehouse.serving.query.lake_snapshot import LakeSnapshot, SnapshotTracker
from lakehouse.serving.query.reader_pool import ReaderPool
from lakehouse.serving.query.worker_pool import WorkerPool
from lakehouse.settings import Settings


@dataclass(frozen=True, slots=True)
class Serving:
    """What a handler may use; nothing here blocks but what says so."""

    settings: Settings
    lake: Lake
    """For work off the event loop: looking up tables and objects blocks."""
    tracker: SnapshotTracker
    readers: ReaderPool
    """For the SQL that the package brings."""
    workers: WorkerPool
    """For the SQL that people send."""
    access: AccessControl
    lookups: LookupCache
    """For the HTTP server's processes, which answer from them."""
    overview: Overview
    alert_feed: AlertFeed
    alert_pages: AlertPages
    live: Live

    @property
    def snapshot(self) -> LakeSnapshot:
        """The lake as it is now, but for what others than this home's programs have committed in the last seconds."""
        return self.tracker.latest

    def snapshot_ids(self) -> Mapping[str, int | None]:
        """The current snapshot id of every table; None for one that never had any. Costs nothing."""
        return self.tracker.latest.snapshot_ids

    def background(self) -> list[Coroutine[Any, Any, None]]:
        """What runs beside the answering of requests, until it is cancelled."""
        return [self.overview.run(), self.alert_feed.run()]

    async def close(self) -> None:
        """End what runs."""
        await self.workers.close()
        self.tracker.close()
        self.lookups.close()
        self.readers.close()


def open_serving(settings: Settings, lake: Lake, access: AccessControl, live: Live) -> Serving:
    """Everything ready to be asked. Blocks until the catalog has answered; raises StorageUnavailableError."""
    tracker = SnapshotTracker(lake)
    tracker.start()
    workers = WorkerPool(settings, lake.connection, tracker.tail.folder)
    lookups = LookupCache(lake.objects, lookups_folder(settings), lake.changes("lookups"))
    lookups.start()
    readers = ReaderPool(tracker)
    overview, feed = Overview(settings, tracker), AlertFeed(tracker, readers)
    pages = AlertPages(tracker, readers, feed)
    return Serving(settings, lake, tracker, readers, workers, access, lookups, overview, feed, pages, live)
