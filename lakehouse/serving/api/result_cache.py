"""Cache of query results, valid as long as the tables they were read from stay the same.

A cached result may lack what has landed in the last seconds. It is then computed again in the background, at most for a
fraction of the time, while clients receive the cached one. So many clients never wait, even under thousands of events per
second.
"""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any

MAX_BYTES = 64 << 20

REFRESH_AGE_RATIO = 4
"""Recompute a result that lacks new arrivals once it is older than its computing time multiplied by this."""

MAX_STALE_RATIO = 8
"""Serve a result that lacks new arrivals up to its computing time multiplied by this, within MAX_STALE_SECONDS."""

MAX_STALE_SECONDS = (2.0, 15.0)
"""Lower and upper bound of the age of a result that lacks new arrivals."""


@dataclass(frozen=True, slots=True)
class CachedResult:
    """A response body with what is needed to send it again."""

    etag: str
    body: bytes
    statistics: str
    """JSON for the statistics header."""
    landed: str
    """Version of the newest arrivals it includes."""
    seconds: float
    """Computing time."""
    whole: bool = True
    """Whether everything could be read. If not, the result is not kept."""
    at: float = field(default_factory=time.monotonic)
    """When computing ended, on the monotonic clock."""

    @property
    def age(self) -> float:
        """Seconds since computing began."""
        return time.monotonic() - self.at + self.seconds

    def may_be_stale(self, max_seconds: float | None = None) -> bool:
        """Return whether it is young enough to be served although something has landed since."""
        if max_seconds is not None:
            return self.age < max_seconds
        shortest, longest = MAX_STALE_SECONDS
        return self.age < max(shortest, min(longest, self.seconds * MAX_STALE_RATIO))


Compute = Callable[[], Coroutine[Any, Any, CachedResult]]


class ResultCache:
    """A least-recently-used cache, bounded in bytes. Concurrent requests for one result share its computation."""

    def __init__(self, max_bytes: int = MAX_BYTES) -> None:
        self._max_bytes = max_bytes
        self._bytes = 0
        self._results: OrderedDict[str, CachedResult] = OrderedDict()
        self._running: dict[tuple[str, str], asyncio.Task[CachedResult]] = {}

    async def get(self, key: str, landed: str, compute: Compute, *, max_lag: float | None = None) -> CachedResult:
        """Return the result for a key: cached, being computed, or computed now.

        `key` names the query and the snapshots it reads, `landed` the version of the newest arrivals, which the result may
        lack, for at most `max_lag` seconds if that is given. Raises what `compute` raises.
        """
        if (cached := self._results.get(key)) is not None:
            self._results.move_to_end(key)
            if cached.landed == landed:
                return cached
            if cached.may_be_stale(max_lag):
                if cached.age >= cached.seconds * REFRESH_AGE_RATIO:
                    self._start(key, compute)
                return cached
        # A client that disconnects must not cancel the computation for the others.
        return await asyncio.shield(self._start(key, compute, "" if max_lag is None else landed))

    def _start(self, key: str, compute: Compute, landed: str = "") -> "asyncio.Task[CachedResult]":
        """Start computing a result, or join in where it is being computed from the same arrivals, or from any without `landed`."""
        if (task := self._running.get((key, landed))) is None:
            task = self._running[key, landed] = asyncio.create_task(compute())
            task.add_done_callback(lambda done: self._store(key, landed, done))
        return task

    def _store(self, key: str, landed: str, done: "asyncio.Task[CachedResult]") -> None:
        del self._running[key, landed]
        if done.cancelled() or done.exception() is not None or not done.result().whole:
            return
        if (previous := self._results.pop(key, None)) is not None:
            self._bytes -= len(previous.body)
        self._results[key] = done.result()
        self._bytes += len(done.result().body)
        while self._bytes > self._max_bytes:
            _, oldest = self._results.popitem(last=False)
            self._bytes -= len(oldest.body)
