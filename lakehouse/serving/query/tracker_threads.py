"""The threads of a `SnapshotTracker`: one polls tables and streams, one lists landing, one ingests objects as they are reported.

Programs of this home mark the tables they commit, and only those are loaded at once. All tables are loaded now and then,
because commits from elsewhere leave no mark. A thread outlives every error: it logs it and tries again.
"""

import logging
import queue
import threading
import time
from collections.abc import Callable, Collection, Sequence
from datetime import timedelta
from functools import partial

from lakehouse.errors import LakehouseError
from lakehouse.landing.keys import LandingObject
from lakehouse.storage.iceberg.change_marks import ChangeMarks
from lakehouse.storage.iceberg.tables import NAMESPACES

log = logging.getLogger(__name__)

MARKS_INTERVAL_SECONDS = 0.1
"""Time between polls of the marks of changed tables."""

TABLES_INTERVAL_SECONDS = 15.0
"""Time between loads of every table."""

LISTING_INTERVAL_SECONDS = 3.0
"""Time between listings of landing."""

MIN_IDLE_RATIO = 30
"""Least pause after loading every table or listing, as a multiple of the time that it took."""

MAX_PAUSE_SECONDS = 60.0
"""Longest such pause."""

RETRY_SECONDS = 1.0
"""Pause after an error."""

NOTIFICATION_TIMEOUT_SECONDS = 0.5
"""How long the ingesting thread waits for an object before it checks whether it must stop."""

CLOSE_TIMEOUT_SECONDS = 5.0
"""How long `close` waits for a thread that a slow catalog holds up."""

MAX_BATCH_OBJECTS = 32
"""Objects that are ingested together before their rows are published."""

STARTUP_LOOKBACK = timedelta(hours=3)
"""How far back the first listing goes. Later ones cover the last hour, because realtime ingests every five minutes."""


class TrackerThreads:
    """Call a tracker's steps when it is time."""

    def __init__(
        self,
        changes: ChangeMarks,
        *,
        reload_streams: Callable[[], object],
        refresh: Callable[[Collection[str] | None], object],
        refresh_coverage: Callable[[], object],
        ingest: Callable[[Sequence[LandingObject]], object],
        catch_up: Callable[[timedelta], object],
    ) -> None:
        self._changes = changes
        self._reload_streams = reload_streams
        self._refresh = refresh
        self._refresh_coverage = refresh_coverage
        self._ingest = ingest
        self._catch_up = catch_up
        self._notifications: queue.SimpleQueue[LandingObject] = queue.SimpleQueue()
        self._closing = threading.Event()
        self._threads = [
            threading.Thread(target=target, name=f"snapshot {name}", daemon=True)
            for name, target in (
                ("tables", self._poll_tables),
                ("listing", self._list_landing),
                ("ingest", self._ingest_notified),
            )
        ]

    def start(self) -> None:
        """Load every table once, then start the threads. Raises StorageUnavailableError."""
        self._changes.poll()
        self._refresh(None)
        for thread in self._threads:
            thread.start()

    def close(self) -> None:
        """Stop the threads."""
        self._closing.set()
        for thread in self._threads:
            if thread.is_alive():
                thread.join(CLOSE_TIMEOUT_SECONDS)

    def notify(self, landing: LandingObject) -> None:
        """Queue this object to be ingested at once."""
        self._notifications.put(landing)

    def _poll_tables(self) -> None:
        self._try(self._refresh_coverage, "Coverage of realtime can't be computed")
        due = time.monotonic() + TABLES_INTERVAL_SECONDS
        while not self._closing.wait(MARKS_INTERVAL_SECONDS):
            self._try(self._reload_streams, "The streams stay as they were")
            changed = {name for name in self._changes.poll() if name.partition(".")[0] in NAMESPACES}
            start = time.monotonic()
            load_all = start >= due
            if not load_all and not changed:
                continue
            if not self._try(partial(self._refresh, None if load_all else changed), "Tables can't be loaded"):
                due = start
            elif load_all:
                due = time.monotonic() + _pause(start, TABLES_INTERVAL_SECONDS)

    def _list_landing(self) -> None:
        back = STARTUP_LOOKBACK
        while not self._closing.is_set():
            start = time.monotonic()
            if self._try(partial(self._catch_up, back), "Landing can't be listed"):
                back = timedelta(hours=1)
                self._closing.wait(_pause(start, LISTING_INTERVAL_SECONDS))

    def _ingest_notified(self) -> None:
        while not self._closing.is_set():
            if landings := self._next_batch():
                self._try(partial(self._ingest, landings), "Landing objects can't be read")

    def _next_batch(self) -> list[LandingObject]:
        """Wait for a reported object, then return it with those reported after it; empty after a time-out."""
        landings: list[LandingObject] = []
        try:
            landings.append(self._notifications.get(timeout=NOTIFICATION_TIMEOUT_SECONDS))
            while len(landings) < MAX_BATCH_OBJECTS:
                landings.append(self._notifications.get_nowait())
        except queue.Empty:
            pass
        return landings

    def _try(self, step: Callable[[], object], failure: str) -> bool:
        """Run a step. Returns False after an error, which is logged, and a pause."""
        try:
            step()
        except LakehouseError as error:
            log.warning("%s: %s", failure, error)
        except Exception:
            log.exception("%s", failure)
        else:
            return True
        self._closing.wait(RETRY_SECONDS)
        return False


def _pause(start: float, minimum: float) -> float:
    """Return how many seconds to leave storage alone after work that started then."""
    return max(minimum, min(MAX_PAUSE_SECONDS, (time.monotonic() - start) * MIN_IDLE_RATIO))
