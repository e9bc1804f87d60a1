"""How fast events arrive: what the HTTP server has counted, looked at every second and kept for five minutes."""

import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from lakehouse.http.metrics import EventCounts, read_event_counts

KEPT_SECONDS = 300
BUCKET_SECONDS = 5
"""How long a step of the recent past is."""

NOW_SECONDS = 5
"""Over how long the rate of now is taken."""


@dataclass(frozen=True, slots=True)
class Rate:
    """A stream's events a second, now and in each step of the last minutes, the oldest first."""

    now: float = 0.0
    recent: tuple[float, ...] = ()


class Flow:
    """The counters over the last minutes. A restart of the server, whose counters begin again, is no gap."""

    def __init__(self, folder: Path) -> None:
        """`folder` is where the server's processes keep their counters."""
        self._folder = folder
        self._last: Mapping[str, EventCounts] = {}
        self._sums: dict[str, EventCounts] = {}
        self._looks: deque[tuple[float, dict[str, EventCounts]]] = deque()
        self._moved: dict[str, float] = {}

    def look(self, now: float | None = None) -> None:
        """Read the counters. Takes some milliseconds."""
        now = time.time() if now is None else now
        found = read_event_counts(self._folder)
        first = not self._looks
        for stream, counted in found.items():
            before = self._last.get(stream, EventCounts())
            more = counted - before if counted.events >= before.events else counted
            # What was counted before the first look says nothing about when.
            self._sums[stream] = self._sums.get(stream, EventCounts()) + (EventCounts() if first else more)
            if more.events and not first:
                self._moved[stream] = now
        self._last = found
        self._looks.append((now, dict(self._sums)))
        while self._looks[0][0] < now - KEPT_SECONDS - BUCKET_SECONDS:
            self._looks.popleft()

    def last_arrival(self, stream: str) -> float | None:
        """When events of the stream were seen to arrive last, in seconds since 1970."""
        return self._moved.get(stream)

    def rate(self, stream: str) -> Rate:
        """The stream's rate."""
        if not self._looks:
            return Rate()
        now = self._looks[-1][0]
        steps = KEPT_SECONDS // BUCKET_SECONDS
        edges = [now - BUCKET_SECONDS * back for back in range(steps, -1, -1)]
        counts = self._counts_at(stream, edges)
        recent = tuple((later - earlier) / BUCKET_SECONDS for earlier, later in pairwise(counts))
        begin, end = self._counts_at(stream, [now - NOW_SECONDS, now])
        seen = min(NOW_SECONDS, now - self._looks[0][0])
        return Rate((end - begin) / seen if seen > 0 else 0.0, recent)

    def counted(self, stream: str) -> EventCounts:
        """What arrived in these minutes."""
        if not self._looks:
            return EventCounts()
        return self._looks[-1][1].get(stream, EventCounts()) - self._looks[0][1].get(stream, EventCounts())

    def broken_share(self, stream: str) -> float | None:
        """The share of what arrived in these minutes that breaks its contract; None when nothing did."""
        counted = self.counted(stream)
        return counted.broken / counted.events if counted.events else None

    def _counts_at(self, stream: str, moments: list[float]) -> list[int]:
        """Events counted up to each of these moments, which are in order."""
        counts: list[int] = []
        looks = iter(self._looks)
        current: int = 0
        upcoming = next(looks, None)
        for moment in moments:
            while upcoming is not None and upcoming[0] <= moment:
                current = upcoming[1].get(stream, EventCounts()).events
                upcoming = next(looks, None)
            counts.append(current)
        return counts
