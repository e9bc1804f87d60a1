"""Answers that are kept: as long as the tables they were read from stay as they are.

What has merely landed since may be missing for a moment: it is read again beside, at a fraction of the time, and who asks
meanwhile gets what there is. So many who ask, while thousands of events a second arrive, wait for nothing.
"""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any

CACHE_BYTES = 64 << 20

PAUSE = 4
"""An answer that lacks what has landed is made again after so many times as long as it took."""

STAND_IN = 8
"""For so many times as long as it took it may stand in for a newer one,"""

STAND_IN_SECONDS = (2.0, 15.0)
"""at least and at most."""


@dataclass(frozen=True, slots=True)
class Kept:
    """An answer as it was sent."""

    etag: str
    body: bytes
    statistics: str
    landed: str
    """Which of the newest arrivals are in it."""
    seconds: float
    """That it took."""
    at: float = field(default_factory=time.monotonic)
    """When it was made."""

    @property
    def age(self) -> float:
        """Seconds since it was begun."""
        return time.monotonic() - self.at + self.seconds

    def may_stand_in(self) -> bool:
        """Whether it may be given although something has landed since."""
        least, most = STAND_IN_SECONDS
        return self.age < max(least, min(most, self.seconds * STAND_IN))


class Answers:
    """The newest answers, the least recently asked for forgotten first; the same question is worked on once at a time."""

    def __init__(self, most: int = CACHE_BYTES) -> None:
        self._most = most
        self._held = 0
        self._kept: OrderedDict[str, Kept] = OrderedDict()
        self._asked: dict[str, asyncio.Task[Kept]] = {}

    async def get(self, question: str, landed: str, compute: Callable[[], Coroutine[Any, Any, Kept]]) -> Kept:
        """The answer to a question about tables as they are and what has landed: kept, being worked on, or computed now."""
        if (kept := self._kept.get(question)) is not None:
            self._kept.move_to_end(question)
            if kept.landed == landed:
                return kept
            if kept.may_stand_in():
                if kept.age >= kept.seconds * PAUSE:
                    self._work(question, compute)
                return kept
        # Who gives up does not take the answer from the others.
        return await asyncio.shield(self._work(question, compute))

    def _work(self, question: str, compute: Callable[[], Coroutine[Any, Any, Kept]]) -> "asyncio.Task[Kept]":
        if (task := self._asked.get(question)) is None:
            task = self._asked[question] = asyncio.create_task(compute())
            task.add_done_callback(lambda done: self._finished(question, done))
        return task

    def _finished(self, question: str, done: "asyncio.Task[Kept]") -> None:
        del self._asked[question]
        if done.cancelled() or done.exception() is not None:
            return
        if (before := self._kept.pop(question, None)) is not None:
            self._held -= len(before.body)
        self._kept[question] = done.result()
        self._held += len(done.result().body)
        while self._held > self._most:
            _, oldest = self._kept.popitem(last=False)
            self._held -= len(oldest.body)
