"""Kinesis readers that crash at any write, several at a time: each record lands once."""

import json
from collections import defaultdict
from contextlib import suppress
from threading import Thread

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from lakehouse.errors import StorageUnavailableError
from lakehouse.sources.kinesis.stream_reader import StreamReader
from lakehouse.storage.objects.store import Objects
from lakehouse_tests.landing.landed import landed
from lakehouse_tests.sources.kinesis.crashing import Crash, CrashingObjects, read_rounds
from lakehouse_tests.sources.kinesis.fake import FakeKinesis
from lakehouse_tests.sources.kinesis.landings import event, new_stream, numbers, read


@pytest.mark.parametrize("after_call", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("crash_at", range(1, 7))
def test_crash_at_any_write_loses_and_repeats_nothing(
    objects: Objects, stream: str, crash_at: int, after_call: bool
) -> None:
    kinesis = FakeKinesis(2, limit=3)
    for i in range(12):
        kinesis.put(f"k{i}", event("k", i))
    crashing = CrashingObjects(objects._store, objects._connection)
    crashing.crash_at, crashing.after_call = crash_at, after_call
    reader = StreamReader(kinesis, crashing, stream, "s")
    with pytest.raises(Crash):
        read_rounds(reader, 20)
    [restarted] = read(objects, stream, kinesis)
    assert sorted(json.loads(line)["number"] for line in landed(objects, stream)) == list(range(12))
    assert all(shard.claim is None or shard.is_marked for shard in restarted.shards.values())


@pytest.mark.parametrize("after_call", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("crash_at", range(1, 5))
def test_passing_storage_error_loses_and_repeats_nothing(
    objects: Objects, stream: str, crash_at: int, after_call: bool
) -> None:
    kinesis = FakeKinesis(1, limit=3)
    for i in range(12):
        kinesis.put("k", event("k", i))
    failing = CrashingObjects(objects._store, objects._connection)
    failing.crash_at, failing.after_call, failing.error = crash_at, after_call, StorageUnavailableError
    read(failing, stream, kinesis)
    assert failing.calls > crash_at
    assert numbers(landed(objects, stream)) == {"k": list(range(12))}


ACTIONS = st.one_of(
    st.tuples(st.just("put"), st.integers(1, 12)),
    st.tuples(st.just("read"), st.integers(1, 3)),
    st.tuples(st.just("crash"), st.integers(1, 9)),
    st.tuples(st.sampled_from(["split", "merge", "expire", "restart"]), st.integers(0, 5)),
)


@settings(
    max_examples=25,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
)
@given(
    actions=st.lists(st.tuples(st.integers(0, 1), ACTIONS), max_size=25),
    shards=st.integers(1, 3),
)
def test_two_crashing_readers_land_every_record_once(
    objects: Objects, actions: list[tuple[int, tuple[str, int]]], shards: int
) -> None:
    stream = new_stream()
    kinesis = FakeKinesis(shards, limit=4)
    written: dict[str, int] = defaultdict(int)
    buckets = [CrashingObjects(objects._store, objects._connection) for _ in range(2)]
    readers = [StreamReader(kinesis, bucket, stream, "s") for bucket in buckets]
    for index, (action, number) in actions:
        if action == "put":
            for i in range(number):
                key = f"k{i % 5}"
                kinesis.put(key, event(key, written[key]))
                written[key] += 1
        elif action == "split" and len(kinesis.open_shards()) < 5:
            kinesis.split(kinesis.open_shards()[number % len(kinesis.open_shards())].id)
        elif action == "merge" and len(kinesis.open_shards()) > 1:
            place = number % (len(kinesis.open_shards()) - 1)
            kinesis.merge(*(shard.id for shard in kinesis.open_shards()[place : place + 2]))
        elif action == "expire":
            kinesis.expire_iterators()
        elif action == "read":
            read_rounds(readers[index], number)
        elif action in ("crash", "restart"):
            if action == "crash":
                buckets[index].crash_at, buckets[index].after_call = (
                    buckets[index].calls + 1 + number // 2,
                    bool(number % 2),
                )
                with suppress(Crash):
                    read_rounds(readers[index], 4)
                buckets[index].crash_at = -1
            readers[index] = StreamReader(kinesis, buckets[index], stream, "s")
    read(objects, stream, kinesis)
    landed_numbers = {key: sorted(in_order) for key, in_order in numbers(landed(objects, stream)).items()}
    assert landed_numbers == {key: list(range(n)) for key, n in written.items()}


def test_concurrent_readers_land_every_record_once(objects: Objects, stream: str) -> None:
    kinesis = FakeKinesis(2, limit=3)
    for i in range(60):
        kinesis.put(f"k{i}", event("k", i))
    threads = [Thread(target=read, args=(objects, stream, kinesis)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert sorted(json.loads(line)["number"] for line in landed(objects, stream)) == list(range(60))
