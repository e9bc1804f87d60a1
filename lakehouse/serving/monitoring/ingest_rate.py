"""The rate at which events arrive, from the gateway's counters of the last five minutes."""

import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from lakehouse.http.metrics import EventCounts, read_event_counts

WINDOW_SECONDS = 300
STEP_SECONDS = 5
CURRENT_SECONDS = 5
"""The span over which the current rate is taken."""


@dataclass(frozen=True, slots=True)
class Rate:
    """A stream's events per second: now, and in each step of the window, oldest first."""

    now: float = 0.0
    recent: tuple[float, ...] = ()


class IngestRate:
    """Event counts of the last minutes. A restart of the gateway, which resets its counters, leaves no gap."""

    def __init__(self, folder: Path) -> None:
        """`folder` is where the gateway's processes keep their counters."""
        self._folder = folder
        self._counters: Mapping[str, EventCounts] = {}
        self._totals: dict[str, EventCounts] = {}
        self._samples: deque[tuple[float, dict[str, EventCounts]]] = deque()
        self._last_arrivals: dict[str, float] = {}

    def sample(self, now: float | None = None) -> None:
        """Read the counters, which takes some milliseconds. `now` is in seconds since 1970.

        Raises OSError or ValueError if they cannot be read.
        """
        now = time.time() if now is None else now
        counters = read_event_counts(self._folder)
        is_first = not self._samples
        for stream, count in counters.items():
            previous = self._counters.get(stream, EventCounts())
            added = count - previous if count.events >= previous.events else count
            # Events counted before the first sample are left out, because their time is unknown.
            self._totals[stream] = self._totals.get(stream, EventCounts()) + (EventCounts() if is_first else added)
            if added.events and not is_first:
                self._last_arrivals[stream] = now
        self._counters = counters
        self._samples.append((now, dict(self._totals)))
        while self._samples[0][0] < now - WINDOW_SECONDS - STEP_SECONDS:
            self._samples.popleft()

    def last_arrival(self, stream: str) -> float | None:
        """Return when events of the stream last arrived, in seconds since 1970; None if never seen."""
        return self._last_arrivals.get(stream)

    def rate(self, stream: str) -> Rate:
        """Return the stream's rate."""
        if not self._samples:
            return Rate()
        now = self._samples[-1][0]
        steps = WINDOW_SECONDS // STEP_SECONDS
        edges = [now - STEP_SECONDS * back for back in range(steps, -1, -1)]
        counts = self._counts_at(stream, edges)
        recent = tuple((later - earlier) / STEP_SECONDS for earlier, later in pairwise(counts))
        begin, end = self._counts_at(stream, [now - CURRENT_SECONDS, now])
        seconds = min(CURRENT_SECONDS, now - self._samples[0][0])
        return Rate((end - begin) / seconds if seconds > 0 else 0.0, recent)

    def recent_counts(self, stream: str) -> EventCounts:
        """Return how many events arrived in the window."""
        if not self._samples:
            return EventCounts()
        (_, first), (_, last) = self._samples[0], self._samples[-1]
        return last.get(stream, EventCounts()) - first.get(stream, EventCounts())

    def broken_share(self, stream: str) -> float | None:
        """Return the share of events in the window that break their contract; None if there were none."""
        counts = self.recent_counts(stream)
        return counts.broken / counts.events if counts.events else None

    def _counts_at(self, stream: str, times: list[float]) -> list[int]:
        """Return the number of events counted up to each of these times, which are in ascending order."""
        counts: list[int] = []
        samples = iter(self._samples)
        current = 0
        upcoming = next(samples, None)
        for edge in times:
            while upcoming is not None and upcoming[0] <= edge:
                current = upcoming[1].get(stream, EventCounts()).events
                upcoming = next(samples, None)
            counts.append(current)
        return counts
