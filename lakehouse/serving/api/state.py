"""The state that all route handlers share: the lake, its latest snapshot, readers and feeds. One instance per process."""

import asyncio
import threading
from collections.abc import Coroutine
from dataclasses import dataclass
from functools import partial
from typing import Any

from litestar import Request

from lakehouse.audit_log.entries import Event
from lakehouse.audit_log.log import AuditLog
from lakehouse.contracts.streams import Stream
from lakehouse.http.api_keys import ApiKey, actor_of
from lakehouse.http.auth import AccessControl
from lakehouse.http.problems import unknown_stream
from lakehouse.http.published_metrics import keep_publishing
from lakehouse.pipeline.audit_log_table import AUDIT_LOG
from lakehouse.pipeline.lake import Lake
from lakehouse.pipeline.unified_view import view_names
from lakehouse.serving.api.result_cache import ResultCache
from lakehouse.serving.api.sse import EventStreams
from lakehouse.serving.catalog.catalog import Catalog
from lakehouse.serving.catalog.contract_versions import follow_contracts
from lakehouse.serving.features.stored_arrivals import StoredArrivals
from lakehouse.serving.lookups.cache import LookupCache
from lakehouse.serving.lookups.paths import lookups_folder
from lakehouse.serving.monitoring.alert_feed import AlertFeed
from lakehouse.serving.monitoring.alert_pages import AlertPages
from lakehouse.serving.monitoring.anomalies import AnomalyTails
from lakehouse.serving.monitoring.lake_metrics import lake_metrics
from lakehouse.serving.monitoring.overview import OverviewTracker
from lakehouse.serving.query.lake_snapshot import LakeSnapshot
from lakehouse.serving.query.live_gold import LiveGold
from lakehouse.serving.query.readable_names import names_of_streams
from lakehouse.serving.query.reader_pool import ReaderPool
from lakehouse.serving.query.snapshot_tracker import SnapshotTracker
from lakehouse.serving.query.worker_pool import WorkerPool
from lakehouse.settings import Settings

HttpRequest = Request[Any, Any, Any]


@dataclass(frozen=True, slots=True)
class Serving:
    """The shared state. Nothing here blocks unless it says so."""

    settings: Settings
    lake: Lake
    """Use it off the event loop only, because loading tables and objects blocks."""
    tracker: SnapshotTracker
    readers: ReaderPool
    """Run the SQL that ships with the package."""
    live: LiveGold
    """Computes the open days of live gold."""
    metrics: ResultCache
    """The page's numbers, as long as what they were computed from stays the same."""
    workers: WorkerPool
    """Run the SQL that users send."""
    access: AccessControl
    lookups: LookupCache
    """Keeps the local look-up files current for the gateway's processes, which respond from them."""
    overview: OverviewTracker
    anomaly_tails: AnomalyTails
    arrivals: StoredArrivals
    """Keeps what features of now are computed from."""
    alert_feed: AlertFeed
    alert_pages: AlertPages
    event_streams: EventStreams
    catalog: Catalog
    audit_log: AuditLog
    closing: threading.Event

    def log(self, key: ApiKey | None, action: str, subject: str, **detail: Any) -> None:
        """Add what a request did to the audit log, within a second."""
        self.audit_log.record(Event(actor_of(key), action, subject, detail))

    @property
    def snapshot(self) -> LakeSnapshot:
        """The latest snapshot of the lake. Commits by programs outside this home show up some seconds later."""
        return self.tracker.latest

    def get_stream(self, request: HttpRequest, name: str) -> Stream:
        """Return the stream that a request names.

        Raises Problem 401 or 403 if the request may not read it, and Problem 404 with the existing streams if there is
        none.
        """
        self.access.authorize(request, "query", name)
        stream = self.snapshot.streams.get(name)
        if stream is None:
            raise unknown_stream(name, self.readable_streams(request))
        return stream

    def readable_streams(self, request: HttpRequest) -> list[str]:
        """List the streams that the request may read, sorted. Raises Problem 401 or 403 if it may not read any."""
        key = self.access.authorize(request, "query")
        return [name for name in sorted(self.snapshot.streams) if key is None or key.allows("query", name)]

    def readable_views(self, key: ApiKey | None, snapshot: LakeSnapshot) -> set[str]:
        """Return the names of the tables and views that a key may read: for some streams, those of their rows alone."""
        names = set(view_names(snapshot))
        if key is not None and not key.allows("admin"):
            names.discard(AUDIT_LOG)
        if key is None or not key.streams:
            return names
        return names & names_of_streams(snapshot, key.streams)

    def selected_streams(self, request: HttpRequest, stream: str | None) -> list[str]:
        """List the stream that a request names, or all that it may read. Raises as `get_stream` does."""
        return self.readable_streams(request) if stream is None else [self.get_stream(request, stream).name]

    def background_tasks(self) -> list[Coroutine[Any, Any, None]]:
        """Return the coroutines to run next to the server until they are cancelled."""
        return [
            self.overview.run(),
            self.alert_feed.run(),
            self.arrivals.run(),
            follow_contracts(self.settings, lambda: self.snapshot.streams),
        ]

    async def close(self) -> None:
        """Stop all threads and processes."""
        self.closing.set()
        await asyncio.to_thread(self.audit_log.close)
        await self.workers.close()
        self.tracker.close()
        self.lookups.close()
        self.readers.close()


def open_serving(settings: Settings, lake: Lake, access: AccessControl, event_streams: EventStreams) -> Serving:
    """Build the shared state. Blocks until the catalog has responded; raises StorageUnavailableError."""
    tracker = SnapshotTracker(lake)
    tracker.start()
    workers = WorkerPool(settings, lake.connection, tracker.tail.folder)
    lookups = LookupCache(lake, lookups_folder(settings))
    lookups.start()
    readers = ReaderPool(tracker)
    anomaly_tails = AnomalyTails(readers)
    feed = AlertFeed(tracker, readers, anomaly_tails)
    overview = OverviewTracker(settings, lake.objects, tracker, readers)
    closing = threading.Event()
    publishing = (settings, "serving", partial(lake_metrics, overview, tracker), closing)
    threading.Thread(target=keep_publishing, args=publishing, name="metrics", daemon=True).start()
    return Serving(
        settings=settings,
        lake=lake,
        tracker=tracker,
        readers=readers,
        live=LiveGold(tracker, readers),
        metrics=ResultCache(),
        workers=workers,
        access=access,
        lookups=lookups,
        overview=overview,
        anomaly_tails=anomaly_tails,
        arrivals=StoredArrivals(tracker, readers),
        alert_feed=feed,
        alert_pages=AlertPages(tracker, readers, feed),
        event_streams=event_streams,
        catalog=Catalog(lake),
        audit_log=AuditLog(settings),
        closing=closing,
    )
