"""A lakehouse whose processes are killed and whose network fails, and one with eight writers at once."""

import json
import random
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from urllib.parse import unquote

import psutil
import pytest

from lakehouse.chaos.faults import ROUNDS_PER_COUNT, play_and_count
from lakehouse.chaos.faulty_lake import WORKS, FaultyLake, days, faulty_lake
from lakehouse.chaos.maintenance_tasks import TASKS
from lakehouse.chaos.sender import event
from lakehouse.cli.up import keep_storage
from lakehouse.landing.writer import land
from lakehouse.maintenance.orphans import FILE_SUFFIXES
from lakehouse.pipeline import bronze
from lakehouse.storage.embedded import lifecycle as storage
from lakehouse.storage.iceberg.manifests import referenced_files
from lakehouse.storage.objects.store import Objects, object_key
from lakehouse_tests.nightly import more_at_night

ROUNDS = more_at_night(5, 200)
PROCESSES = 8
CONCURRENT_RUNS = more_at_night(1, 10)
"""Times that eight processes run at once."""


@pytest.fixture(scope="module")
def lake() -> Iterator[FaultyLake]:
    with faulty_lake(int(time.time())) as lake:
        yield lake


def test_kills_and_network_faults_lose_and_repeat_nothing(lake: FaultyLake) -> None:
    seed = int(time.time())
    print(f"seed {seed}")
    for first in range(seed, seed + ROUNDS, ROUNDS_PER_COUNT):
        play_and_count(lake, range(first, min(first + ROUNDS_PER_COUNT, seed + ROUNDS)))
    assert lake.killed
    assert lake.events.acknowledged
    assert lake.network.counts.total() > lake.network.counts["none"]


def test_killed_storage_is_restarted_at_the_same_address(lake: FaultyLake) -> None:
    running = storage.status(lake.embedded)
    pid = running.pid
    assert pid is not None
    keep_storage(lake.embedded, probe=True)
    assert storage.status(lake.embedded).pid == pid
    psutil.Process(pid).kill()
    psutil.wait_procs([psutil.Process(pid)] if psutil.pid_exists(pid) else [], timeout=10)
    keep_storage(lake.embedded, probe=True)
    again = storage.status(lake.embedded)
    assert (again.running, again.endpoint) == (True, running.endpoint), "other processes keep its address"


@pytest.mark.parametrize("seed", range(8, 8 + CONCURRENT_RUNS))
def test_eight_concurrent_writers_leave_correct_tables(lake: FaultyLake, seed: int) -> None:
    lake.network.share = 0.0
    rng = random.Random(seed)
    senders = [lake.send(rng)]
    senders[0].join()
    # All days and single days: the same partitions, and different partitions of the same tables.
    works = [lake.start(WORKS[n % len(WORKS)], days() if n % 2 else [days()[n % 3]]) for n in range(PROCESSES)]
    senders.append(lake.send(rng))
    lake.join(works)
    senders[1].join()
    assert all(work.exitcode == 0 for work in works)
    lake.settle()
    count = lake.count()
    assert count.passed, count


def test_killed_maintenance_is_finished_by_the_next_run(lake: FaultyLake) -> None:
    lake.network.share = 0.0
    rng = random.Random(int(time.time()))
    old, before = datetime.now(UTC) - timedelta(days=10), set(lake.events.sent)
    for number in range(4):  # objects to drop, files to compact, snapshots to expire
        keys = [key for key in lake.events.draw(rng) if key not in before]
        lines = [json.dumps(event(key, lake.events.sent[key]) | {"event_time": old.isoformat()}) for key in keys]
        land(lake.direct.objects, lake.stream.name, "\n".join(lines).encode(), now=old + timedelta(seconds=number))
        bronze.ingest_days(lake.direct, lake.stream, [old.date()])
        lake.events.acknowledged.update(keys)
    lake.join([lake.start("settling", wanted := [old.date(), *days()])])
    for name in lake.direct.tables.names():
        with lake.direct.tables.load(name).transaction() as change:
            change.set_properties({"lakehouse.snapshots-kept": "1"})
    account = event(keys[0], True)["account_id"]
    erased = {key for key in lake.events.sent if event(key, True)["account_id"] == account}
    for task in TASKS:
        for again in (False, True):
            work = lake.start(task, wanted, {"account_id": account})
            if not again:
                work.join(rng.uniform(0.3, 2.0))
                lake.kill(work)
            lake.join([work])
        assert work.exitcode == 0, task
    lake.events.acknowledged -= erased
    lake.join([lake.start("settling", wanted)])
    count = lake.count()
    assert count.passed, count
    lake.join([lake.start("orphans", wanted)])
    assert _unnamed(lake) == set()


def _unnamed(lake: FaultyLake) -> set[str]:
    """Return the files under the tables' locations that no snapshot names."""
    left = set()
    for name in lake.direct.tables.names():
        table = lake.direct.tables.load(name)
        objects = Objects.from_url(lake.direct.connection, table.location())
        stored = {item.key for item in objects.list(object_key(table.location())) if item.key.endswith(FILE_SUFFIXES)}
        left |= stored - {unquote(object_key(path)) for path in referenced_files(table)}
    return left
