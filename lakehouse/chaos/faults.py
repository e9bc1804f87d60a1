"""`bench faults`: a small lakehouse under load whose processes are killed and whose network fails; then what is left is counted.

Every event that was acknowledged is in silver or in quarantine, once, whatever was killed when. Each round draws from its
own seed, so that one that failed can be drawn again.
"""

import random
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial

from lakehouse.bench.measuring import Figure, figure
from lakehouse.chaos.faulty import PATIENCE, WORKS, FaultyLake, days, faulty_lake
from lakehouse.chaos.unreliable import FAULTS, SILENT

AT_ONCE = (WORKS, WORKS[:-1])
"""Of which works one is drawn each, to run beside the HTTP server and its client: a Dagster run takes as long as the others
together, so there is one at most.
"""
BETWEEN_COUNTS = 15
"""Rounds after which everything is brought up to date and counted."""

FIRST_TIME = 3.0
"""Seconds that a work is taken to take before one has."""

WEATHER = (0.0, 0.05, 0.1, 0.2)
"""Of a round's requests, how many meet a fault."""
MOST_FAULTS = 15
"""Of a round. Who meets one tries again after a moment, and a Dagster run would meet hundreds."""
MIXED = (*[fault for fault in FAULTS if fault not in SILENT] * 12, *SILENT)
"""Faults as often as they come: who meets silence waits for seconds."""


def measure(rounds: int, seed: int) -> Iterator[Figure]:
    """The figures after so many rounds. Raises AssertionError naming the rounds' seeds for the first count that is wrong."""
    started = time.monotonic()
    with faulty_lake(seed) as lake:
        for first in range(0, rounds, BETWEEN_COUNTS):
            some = range(seed + first, seed + min(first + BETWEEN_COUNTS, rounds))
            play_and_count(lake, some)
            if sys.stderr.isatty():
                print(f"round {first + len(some)} of {rounds}, {lake.killed.total()} kills", file=sys.stderr)
        met, events = lake.weather.met, lake.events
        yield figure("faults", "rounds", rounds, "", seed=seed, seconds=round(time.monotonic() - started))
        yield figure("faults", "kills", lake.killed.total(), "", **lake.killed)
        yield figure("faults", "requests that met a fault", met.total() - met["none"], "", **met)
        yield figure("faults", "events acknowledged", len(events.acknowledged), "", sent_again=events.again)
        yield figure("faults", "works", lake.told.total(), "", **lake.told)
        yield figure("faults", "lost", 0, "", 0)
        yield figure("faults", "twice", 0, "", 0)


def play_and_count(lake: FaultyLake, seeds: range) -> None:
    """Some rounds, then rest and a count. Raises AssertionError when something is wrong."""
    try:
        for seed in seeds:
            play(lake, random.Random(seed))  # noqa: S311
        lake.settle()
        count = lake.count()
    except AssertionError as problem:
        raise AssertionError(f"rounds of seeds {seeds.start} to {seeds.stop - 1}: {problem}") from problem
    if not count.passed:
        raise AssertionError(f"rounds of seeds {seeds.start} to {seeds.stop - 1}: {count}")


def play(lake: FaultyLake, chance: random.Random) -> None:
    """One round of load, faults and kills. Raises AssertionError for who waits for ever or fails without a word."""
    lake.serve()  # as `up` does: a server whose worker dies twice within seconds gives up
    lake.weather.share, lake.weather.faults, lake.weather.left = chance.choice(WEATHER), MIXED, MOST_FAULTS
    sender = lake.send(chance)
    works = [lake.start(chance.choice(some), days()) for some in AT_ONCE]
    plan: list[tuple[float, Callable[[], None]]] = []
    for work in works:
        at = chance.uniform(0.0, lake.took.get(work.name, FIRST_TIME))
        if chance.random() < 0.5:
            plan.append((at, partial(lake.kill, work)))
    for kill, often in ((lake.kill_storage, 0.15), (lake.kill_http_worker, 0.15), (lake.kill_http, 0.03)):
        at = chance.uniform(0.0, max(lake.took.values(), default=FIRST_TIME))
        if chance.random() < often:
            plan.append((at, kill))
    begun = time.monotonic()
    for at, kill in sorted(plan, key=lambda one: one[0]):
        lake.wait(works, begun + at - time.monotonic())  # nothing is under way any more when they have ended
        kill()
    lake.join(works)
    sender.join(PATIENCE)
    if sender.is_alive() or sender.problem:
        raise AssertionError(sender.problem or "the HTTP server gives no answer")
