"""`bench faults`: kill processes of a small lakehouse under load, let its network fail, and count what is left.

Every acknowledged event must be in silver or in quarantine, once. Each round draws from its own seed, so that a failed
round can be repeated.
"""

import random
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial

from lakehouse.bench.figures import Figure, figure
from lakehouse.chaos.faulty_lake import TIMEOUT_SECONDS, WORKS, FaultyLake, days, faulty_lake
from lakehouse.chaos.unreliable_network import FAULTS, SILENT

CONCURRENT_WORK = (WORKS, WORKS[:-1])
"""One kind of work is drawn from each, to run beside the HTTP server. A Dagster run takes as long as the others together, so
there is one at most.
"""

ROUNDS_PER_COUNT = 15
"""Rounds after which everything is brought up to date and counted."""

ASSUMED_SECONDS = 3.0
"""Expected seconds of a kind of work before one has finished."""

FAULT_RATIOS = (0.0, 0.05, 0.1, 0.2)
"""Shares of a round's requests that meet a fault; each round draws one."""

MAX_FAULTS = 15
"""Per round. A fault costs a retry, and a Dagster run would meet hundreds."""

MIXED = (*[fault for fault in FAULTS if fault not in SILENT] * 12, *SILENT)
"""Faults with their weights. Silence is rare, because each one costs seconds."""


def measure(rounds: int, seed: int) -> Iterator[Figure]:
    """Yield the figures after `rounds` rounds. Raises AssertionError with the rounds' seeds at the first wrong count."""
    started = time.monotonic()
    with faulty_lake(seed) as lake:
        for first in range(0, rounds, ROUNDS_PER_COUNT):
            seeds = range(seed + first, seed + min(first + ROUNDS_PER_COUNT, rounds))
            play_and_count(lake, seeds)
            if sys.stderr.isatty():
                print(f"round {first + len(seeds)} of {rounds}, {lake.killed.total()} kills", file=sys.stderr)
        met, events = lake.network.counts, lake.events
        yield figure("faults", "rounds", rounds, "", seed=seed, seconds=round(time.monotonic() - started))
        yield figure("faults", "kills", lake.killed.total(), "", **lake.killed)
        yield figure("faults", "requests that met a fault", met.total() - met["none"], "", **met)
        yield figure("faults", "events acknowledged", len(events.acknowledged), "", sent_again=events.again)
        yield figure("faults", "works", lake.outcomes.total(), "", **lake.outcomes)
        yield figure("faults", "lost", 0, "", 0)
        yield figure("faults", "twice", 0, "", 0)


def play_and_count(lake: FaultyLake, seeds: range) -> None:
    """Run these rounds, bring everything up to date, and count. Raises AssertionError if anything is wrong."""
    try:
        for seed in seeds:
            play(lake, random.Random(seed))  # noqa: S311
        lake.settle()
        count = lake.count()
    except AssertionError as error:
        raise AssertionError(f"rounds of seeds {seeds.start} to {seeds.stop - 1}: {error}") from error
    if not count.passed:
        raise AssertionError(f"rounds of seeds {seeds.start} to {seeds.stop - 1}: {count}")


def play(lake: FaultyLake, rng: random.Random) -> None:
    """Run one round of load, faults and kills. Raises AssertionError if a process hangs or fails without a message."""
    lake.serve()  # as `up` does, because a server whose worker dies twice within seconds ends
    lake.network.share, lake.network.kinds, lake.network.remaining = rng.choice(FAULT_RATIOS), MIXED, MAX_FAULTS
    sender = lake.send(rng)
    works = [lake.start(rng.choice(kinds), days()) for kinds in CONCURRENT_WORK]
    plan: list[tuple[float, Callable[[], None]]] = []
    for work in works:
        at = rng.uniform(0.0, lake.seconds.get(work.name, ASSUMED_SECONDS))
        if rng.random() < 0.5:
            plan.append((at, partial(lake.kill, work)))
    for kill, probability in ((lake.kill_storage, 0.15), (lake.kill_http_worker, 0.15), (lake.kill_http, 0.03)):
        at = rng.uniform(0.0, max(lake.seconds.values(), default=ASSUMED_SECONDS))
        if rng.random() < probability:
            plan.append((at, kill))
    started = time.monotonic()
    for at, kill in sorted(plan, key=lambda entry: entry[0]):
        lake.wait(works, started + at - time.monotonic())  # returns early when all have ended
        kill()
    lake.join(works)
    sender.join(TIMEOUT_SECONDS)
    if sender.is_alive() or sender.error:
        raise AssertionError(sender.error or "the HTTP server does not answer")
