"""A lakehouse whose processes are killed and whose network fails, and one that eight processes write to at once."""

import os
import random
import time
from collections.abc import Iterator

import psutil
import pytest

from lakehouse.bench.faults import BETWEEN_COUNTS, play_and_count
from lakehouse.bench.faulty import WORKS, FaultyLake, days, faulty_lake
from lakehouse.commands.processes import keep_storage
from lakehouse.storage import server

pytestmark = pytest.mark.skipif(
    not os.environ.get("NIGHTLY"),
    reason="fifteen rounds take minutes on two cores; NIGHTLY=1 runs them, always once they take less than 45 s",
)

ROUNDS = 15
PROCESSES = 8


@pytest.fixture(scope="module")
def lake() -> Iterator[FaultyLake]:
    with faulty_lake(int(time.time())) as lake:
        yield lake


def test_nothing_is_lost_or_there_twice_whatever_is_killed_and_however_the_network_fails(lake: FaultyLake) -> None:
    seed = int(time.time())
    print(f"seed {seed}")
    for first in range(seed, seed + ROUNDS, BETWEEN_COUNTS):
        play_and_count(lake, range(first, first + BETWEEN_COUNTS))
    assert lake.killed
    assert lake.events.acknowledged
    assert lake.weather.met.total() > lake.weather.met["none"]


def test_storage_that_is_killed_is_started_again_by_those_who_keep_it(lake: FaultyLake) -> None:
    running = server.status(lake.embedded)
    pid = running.pid
    assert pid is not None
    keep_storage(lake.embedded)
    assert server.status(lake.embedded).pid == pid
    psutil.Process(pid).kill()
    psutil.wait_procs([psutil.Process(pid)] if psutil.pid_exists(pid) else [], timeout=10)
    keep_storage(lake.embedded)
    again = server.status(lake.embedded)
    assert (again.running, again.endpoint) == (True, running.endpoint), "others look for it where it was"


def test_eight_processes_at_once_end_and_leave_what_one_after_another_would(lake: FaultyLake) -> None:
    lake.weather.share = 0.0
    chance = random.Random(8)
    senders = [lake.send(chance)]
    senders[0].join()
    # On all days, and each on its own: the same partitions, and different ones of the same tables.
    works = [lake.start(WORKS[n % len(WORKS)], days() if n % 2 else [days()[n % 3]]) for n in range(PROCESSES)]
    senders.append(lake.send(chance))
    lake.join(works)
    senders[1].join()
    assert all(work.exitcode == 0 for work in works)
    lake.settle()
    count = lake.count()
    assert count.passed, count
