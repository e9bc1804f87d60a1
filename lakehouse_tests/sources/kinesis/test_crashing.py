"""Readers of Kinesis that die at any write, two at a time: every record lands once."""

import json
from collections import defaultdict
from contextlib import suppress
from threading import Thread

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from lakehouse.errors import StorageUnavailableError
from lakehouse.sources.kinesis.shards import StreamReader
from lakehouse.storage.objects.store import Objects
from lakehouse_tests.landing.landed import landed
from lakehouse_tests.sources.kinesis.dying import Crash, Dying, turns
from lakehouse_tests.sources.kinesis.fake import FakeKinesis
from lakehouse_tests.sources.kinesis.landings import event, new_stream, numbers, read


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("at", range(1, 7))
def test_a_crash_at_any_write_loses_and_repeats_nothing(objects: Objects, stream: str, at: int, after: bool) -> None:
    kinesis = FakeKinesis(2, limit=3)
    for i in range(12):
        kinesis.put(f"k{i}", event("k", i))
    dying = Dying(objects._store, objects._connection)
    dying.at, dying.after = at, after
    reader = StreamReader(kinesis, dying, stream, "s")
    with pytest.raises(Crash):
        turns(reader, 20)
    [found] = read(objects, stream, kinesis)
    assert sorted(json.loads(line)["number"] for line in landed(objects, stream)) == list(range(12))
    assert all(shard.claim is None or shard.marked for shard in found.shards.values())


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("at", range(1, 5))
def test_storage_that_fails_for_a_moment_loses_and_repeats_nothing(
    objects: Objects, stream: str, at: int, after: bool
) -> None:
    kinesis = FakeKinesis(1, limit=3)
    for i in range(12):
        kinesis.put("k", event("k", i))
    dying = Dying(objects._store, objects._connection)
    dying.at, dying.after, dying.ends = at, after, StorageUnavailableError
    read(dying, stream, kinesis)
    assert dying.calls > at
    assert numbers(landed(objects, stream)) == {"k": list(range(12))}


ACTIONS = st.one_of(
    st.tuples(st.just("put"), st.integers(1, 12)),
    st.tuples(st.just("turns"), st.integers(1, 3)),
    st.tuples(st.just("crash"), st.integers(1, 9)),
    st.tuples(st.sampled_from(["split", "merge", "expire", "restart"]), st.integers(0, 5)),
)


@settings(
    max_examples=25,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
)
@given(
    actions=st.lists(st.tuples(st.integers(0, 1), ACTIONS), max_size=25),
    shards=st.integers(1, 3),
)
def test_two_readers_that_crash_and_start_again_land_every_record_once(
    objects: Objects, actions: list[tuple[int, tuple[str, int]]], shards: int
) -> None:
    stream = new_stream()
    kinesis = FakeKinesis(shards, limit=4)
    written: dict[str, int] = defaultdict(int)
    buckets = [Dying(objects._store, objects._connection) for _ in range(2)]
    readers = [StreamReader(kinesis, bucket, stream, "s") for bucket in buckets]
    for who, (action, number) in actions:
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
        elif action == "turns":
            turns(readers[who], number)
        elif action in ("crash", "restart"):
            if action == "crash":
                buckets[who].at, buckets[who].after = buckets[who].calls + 1 + number // 2, bool(number % 2)
                with suppress(Crash):
                    turns(readers[who], 4)
                buckets[who].at = -1
            readers[who] = StreamReader(kinesis, buckets[who], stream, "s")
    read(objects, stream, kinesis)
    found = numbers(landed(objects, stream))
    assert {key: sorted(found[key]) for key in found} == {key: list(range(n)) for key, n in written.items()}


def test_two_readers_at_once_land_every_record_once(objects: Objects, stream: str) -> None:
    kinesis = FakeKinesis(2, limit=3)
    for i in range(60):
        kinesis.put(f"k{i}", event("k", i))
    threads = [Thread(target=read, args=(objects, stream, kinesis)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert sorted(json.loads(line)["number"] for line in landed(objects, stream)) == list(range(60))
