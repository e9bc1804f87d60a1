"""The result cache: current with its tables, fast while events arrive, and never too stale."""

import asyncio
import time
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from lakehouse.serving.api import result_cache as module
from lakehouse.serving.api.result_cache import CachedResult, ResultCache


class CountedQuery:
    """A query that counts how often it is computed."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.runs = 0

    def compute_for(self, landed: str) -> Callable[[], Coroutine[Any, Any, CachedResult]]:
        async def compute() -> CachedResult:
            self.runs += 1
            await asyncio.sleep(self.seconds)
            return CachedResult(f"{landed}", landed.encode(), "{}", landed, self.seconds)

        return compute


def test_concurrent_requests_share_one_computation() -> None:
    query, cache = CountedQuery(0.05), ResultCache()

    async def ask() -> list[CachedResult]:
        return await asyncio.gather(*(cache.get("q", "1", query.compute_for("1")) for _ in range(20)))

    assert {result.body for result in asyncio.run(ask())} == {b"1"}
    assert query.runs == 1


def test_new_arrivals_are_added_in_the_background() -> None:
    query, cache = CountedQuery(0.05), ResultCache()

    async def ask() -> tuple[set[bytes], bytes]:
        await cache.get("q", "0", query.compute_for("0"))
        started, seen = time.monotonic(), set()
        for number in range(1, 100):
            seen.add(_result_without_waiting(cache.get("q", str(number), query.compute_for(str(number)))).body)
            await asyncio.sleep(0.01)
        assert query.runs <= 2 + (time.monotonic() - started) / (query.seconds * (module.REFRESH_AGE_RATIO - 1))
        await asyncio.sleep(query.seconds * module.REFRESH_AGE_RATIO)
        await cache.get("q", "last", query.compute_for("last"))
        await asyncio.sleep(query.seconds * 3)
        return seen, (await cache.get("q", "last", query.compute_for("last"))).body

    seen, last = asyncio.run(ask())
    assert len(seen) > 2
    assert last == b"last"


def _result_without_waiting(getting: Coroutine[Any, Any, CachedResult]) -> CachedResult:
    """Return the result, which must not wait for anything."""
    try:
        getting.send(None)
    except StopIteration as done:
        result: CachedResult = done.value
        return result
    raise AssertionError("the request waits")


def test_other_snapshot_or_too_stale_result_is_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    query, cache = CountedQuery(0.01), ResultCache()
    monkeypatch.setattr(module, "MAX_STALE_SECONDS", (0.1, 0.1))

    async def ask() -> list[bytes]:
        fresh = [await cache.get(key, "1", query.compute_for(key)) for key in ("q", "q of another snapshot")]
        await asyncio.sleep(0.2)
        return [result.body for result in (*fresh, await cache.get("q", "2", query.compute_for("late")))]

    assert asyncio.run(ask()) == [b"q", b"q of another snapshot", b"late"]


def test_failure_reaches_only_requests_that_wait() -> None:
    cache = ResultCache()

    async def fails() -> CachedResult:
        raise ValueError("no")

    async def ask() -> bytes:
        with pytest.raises(ValueError, match="no"):
            await cache.get("q", "1", fails)
        await cache.get("q", "1", CountedQuery(0.0).compute_for("1"))
        stale = await cache.get("q", "2", fails)
        await asyncio.sleep(0.01)
        return stale.body

    assert asyncio.run(ask()) == b"1"


def test_least_recently_used_result_is_evicted_first() -> None:
    query, cache = CountedQuery(0.0), ResultCache(max_bytes=3)

    async def new_computations(*keys: str) -> int:
        before = query.runs
        for key in keys:
            await cache.get(key, "1", query.compute_for("1"))
        return query.runs - before

    async def run() -> list[int]:
        return [await new_computations(*keys) for keys in ("abc", "a", "d", "acd", "b")]

    assert asyncio.run(run()) == [3, 0, 1, 0, 1]
