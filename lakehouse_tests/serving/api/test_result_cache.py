"""Kept answers: as good as the tables are, quick while events arrive, and never older than they may be."""

import asyncio
import time
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from lakehouse.serving.api import result_cache as module
from lakehouse.serving.api.result_cache import Answers, Kept


class Asked:
    """A question whose answers are counted."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.times = 0

    def about(self, landed: str) -> Callable[[], Coroutine[Any, Any, Kept]]:
        async def compute() -> Kept:
            self.times += 1
            await asyncio.sleep(self.seconds)
            return Kept(f"{landed}", landed.encode(), "{}", landed, self.seconds)

        return compute


def test_many_who_ask_wait_for_one_answer() -> None:
    asked, answers = Asked(0.05), Answers()

    async def ask() -> list[Kept]:
        return await asyncio.gather(*(answers.get("q", "1", asked.about("1")) for _ in range(20)))

    assert {kept.body for kept in asyncio.run(ask())} == {b"1"}
    assert asked.times == 1


def test_what_landed_is_soon_in_an_answer_that_nobody_waits_for() -> None:
    asked, answers = Asked(0.05), Answers()

    async def ask() -> tuple[set[bytes], bytes]:
        await answers.get("q", "0", asked.about("0"))
        began, seen = time.monotonic(), set()
        for number in range(1, 100):
            seen.add(_at_once(answers.get("q", str(number), asked.about(str(number)))).body)
            await asyncio.sleep(0.01)
        assert asked.times <= 2 + (time.monotonic() - began) / (asked.seconds * (module.PAUSE - 1))
        await asyncio.sleep(asked.seconds * module.PAUSE)
        await answers.get("q", "last", asked.about("last"))
        await asyncio.sleep(asked.seconds * 3)
        return seen, (await answers.get("q", "last", asked.about("last"))).body

    seen, last = asyncio.run(ask())
    assert len(seen) > 2
    assert last == b"last"


def _at_once(asking: Coroutine[Any, Any, Kept]) -> Kept:
    """What it gives without waiting for anything."""
    try:
        asking.send(None)
    except StopIteration as done:
        kept: Kept = done.value
        return kept
    raise AssertionError("it waits")


def test_other_tables_and_an_old_answer_are_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    asked, answers = Asked(0.01), Answers()
    monkeypatch.setattr(module, "STAND_IN_SECONDS", (0.1, 0.1))

    async def ask() -> list[bytes]:
        found = [await answers.get(question, "1", asked.about(question)) for question in ("q", "q of another snapshot")]
        await asyncio.sleep(0.2)
        return [kept.body for kept in (*found, await answers.get("q", "2", asked.about("late")))]

    assert asyncio.run(ask()) == [b"q", b"q of another snapshot", b"late"]


def test_a_failure_is_told_to_who_waits_and_kept_from_who_does_not() -> None:
    answers = Answers()

    async def fails() -> Kept:
        raise ValueError("no")

    async def ask() -> bytes:
        with pytest.raises(ValueError, match="no"):
            await answers.get("q", "1", fails)
        await answers.get("q", "1", Asked(0.0).about("1"))
        kept = await answers.get("q", "2", fails)
        await asyncio.sleep(0.01)
        return kept.body

    assert asyncio.run(ask()) == b"1"


def test_the_least_recently_asked_for_is_forgotten_first() -> None:
    asked, answers = Asked(0.0), Answers(most=3)

    async def ask(*questions: str) -> int:
        before = asked.times
        for question in questions:
            await answers.get(question, "1", asked.about("1"))
        return asked.times - before

    async def all_of_it() -> list[int]:
        return [await ask("a", "b", "c"), await ask("a"), await ask("d"), await ask("a", "c", "d"), await ask("b")]

    assert asyncio.run(all_of_it()) == [3, 0, 1, 0, 1]
