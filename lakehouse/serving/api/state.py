"""What the routers work with: the lake, its latest moment and its readers. One a process."""

from collections.abc import Coroutine, Mapping
from dataclasses import dataclass
from typing import Any

from lakehouse.http.auth import AccessControl
from lakehouse.pipeline.lake import Lake
from lakehouse.serving.api.sse import Live
from lakehouse.serving.lookups.cache import LookUps
from lakehouse.serving.lookups.paths import copies
from lakehouse.serving.monitoring.alert_feed import AlertFeed
from lakehouse.serving.monitoring.alert_pages import AlertPages
from lakehouse.serving.monitoring.overview import Overview
from lakehouse.serving.query.lake_snapshot import Moment, Moments
from lakehouse.serving.query.reader_pool import Readers
from lakehouse.serving.query.worker_pool import Workers
from lakehouse.settings import Settings


@dataclass(frozen=True, slots=True)
class Serving:
    """What a handler may use; nothing here blocks but what says so."""

    settings: Settings
    lake: Lake
    """For work off the event loop: looking up tables and objects blocks."""
    moments: Moments
    readers: Readers
    """For the SQL that the package brings."""
    workers: Workers
    """For the SQL that people send."""
    access: AccessControl
    lookups: LookUps
    """For the HTTP server's processes, which answer from them."""
    overview: Overview
    alert_feed: AlertFeed
    alert_pages: AlertPages
    live: Live

    @property
    def moment(self) -> Moment:
        """The lake as it is now, but for what others than this home's programs have committed in the last seconds."""
        return self.moments.latest

    def snapshots(self) -> Mapping[str, int | None]:
        """The current snapshot id of every table; None for one that never had any. Costs nothing."""
        return self.moments.latest.snapshots

    def background(self) -> list[Coroutine[Any, Any, None]]:
        """What runs beside the answering of requests, until it is cancelled."""
        return [self.overview.run(), self.alert_feed.run()]

    async def close(self) -> None:
        """End what runs."""
        await self.workers.close()
        self.moments.close()
        self.lookups.close()
        self.readers.close()


def open_serving(settings: Settings, lake: Lake, access: AccessControl, live: Live) -> Serving:
    """Everything ready to be asked. Blocks until the catalog has answered; raises StorageUnavailableError."""
    moments = Moments(lake)
    moments.start()
    workers = Workers(settings, lake.connection, moments.tail.folder)
    lookups = LookUps(lake.objects, copies(settings), lake.changes("lookups"))
    lookups.start()
    readers = Readers(moments)
    overview, feed = Overview(settings, moments), AlertFeed(moments, readers)
    pages = AlertPages(moments, readers, feed)
    return Serving(settings, lake, moments, readers, workers, access, lookups, overview, feed, pages, live)
