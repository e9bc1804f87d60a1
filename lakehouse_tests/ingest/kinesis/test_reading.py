"""Reading Kinesis: every record lands once and in its shard's order, whatever crashes, expires, throttles or reshards."""

import json
import logging
import time
from collections import defaultdict
from collections.abc import Callable, Iterable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from itertools import count
from threading import Event, Thread
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from lakehouse.errors import LakehouseError, StorageUnavailableError
from lakehouse.ingest.kinesis import reading as module
from lakehouse.ingest.kinesis import shards as shards_module
from lakehouse.ingest.kinesis.claims import Claim, Claims
from lakehouse.ingest.kinesis.reading import Reading, refuse_unknown
from lakehouse.ingest.kinesis.shards import StreamReader
from lakehouse.ingest.landing import list_day
from lakehouse.ingest.names import hour_of
from lakehouse.ingest.readers.formats import is_by_line
from lakehouse.storage.objects import Objects
from lakehouse_tests.ingest.kinesis.fake import FakeKinesis

_names = count()


class Crash(BaseException):
    """The end of the process, wherever it is."""


@pytest.fixture
def stream() -> str:
    return f"kinesis{next(_names)}"


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PAUSE", 0.0)
    monkeypatch.setattr(module, "BACK_OFF", 0.002)


def read(objects: Objects, stream: str, kinesis: FakeKinesis) -> list[StreamReader]:
    """Read all there is, as a new process does."""
    readers = [StreamReader(kinesis, objects, stream, "s")]
    Reading(readers, 0.005).run(Event(), once=True)
    return readers


def landed(objects: Objects, stream: str) -> list[bytes]:
    """Every line that has landed, by arrival."""
    today = datetime.now(UTC).date()
    found = [*list_day(objects, stream, today - timedelta(days=1)), *list_day(objects, stream, today)]
    lines = []
    for one in sorted(found, key=lambda one: one.arrived_at):
        assert is_by_line(one.key)
        assert hour_of(one.key) == one.arrived_at.replace(minute=0, second=0, microsecond=0)
        content = objects.get(one.key)
        if one.key.endswith(".zst"):
            content = pa.CompressedInputStream(pa.BufferReader(content), "zstd").read()
        lines += content.splitlines()
    return lines


def event(key: str, number: int, size: int = 0) -> bytes:
    return json.dumps({"key": key, "number": number, "pad": "x" * size}).encode()


def numbers(lines: Iterable[bytes]) -> dict[str, list[int]]:
    """The numbers of each partition key's events, in their order."""
    found: dict[str, list[int]] = defaultdict(list)
    for line in lines:
        one = json.loads(line)
        found[one["key"]].append(one["number"])
    return dict(found)


def test_all_shards_are_read_from_their_oldest_record_and_then_go_on(objects: Objects, stream: str) -> None:
    kinesis = FakeKinesis(3)
    for i in range(50):
        kinesis.put(f"k{i % 10}", event(f"k{i % 10}", i))
    [reader] = read(objects, stream, kinesis)
    assert sorted(json.loads(line)["number"] for line in landed(objects, stream)) == list(range(50))
    assert sum(shard.records for shard in reader.shards.values()) == 50

    read(objects, stream, kinesis)
    for i in range(50, 60):
        kinesis.put("k1", event("k1", i))
    [again] = read(objects, stream, kinesis)
    assert sorted(json.loads(line)["number"] for line in landed(objects, stream)) == list(range(60))
    assert sum(shard.records for shard in again.shards.values()) == 10


def test_a_large_answer_lands_compressed(objects: Objects, stream: str) -> None:
    kinesis = FakeKinesis()
    for i in range(5):
        kinesis.put("k", event("k", i, 100_000))
    read(objects, stream, kinesis)
    [one] = list_day(objects, stream, datetime.now(UTC).date())
    assert one.key.endswith(".json.zst")
    assert one.size < 10_000
    assert numbers(landed(objects, stream)) == {"k": [0, 1, 2, 3, 4]}


def test_an_object_is_named_by_its_shard_and_the_records_in_it(objects: Objects, stream: str) -> None:
    kinesis = FakeKinesis()
    for i in range(3):
        kinesis.put("k", event("k", i))
    read(objects, stream, kinesis)
    [one] = list_day(objects, stream, datetime.now(UTC).date())
    first, *_, last = (record["SequenceNumber"] for record in kinesis.shards["shardId-000000000000"].records)
    assert f"s000000000000f{first}-{last}.json" in one.key


def test_children_are_read_after_their_parents(objects: Objects, stream: str) -> None:
    kinesis = FakeKinesis(1)
    keys = [f"k{i}" for i in range(8)]
    written: dict[str, int] = defaultdict(int)

    def put(times: int) -> None:
        for _ in range(times):
            for key in keys:
                kinesis.put(key, event(key, written[key]))
                written[key] += 1

    put(3)
    kinesis.split("shardId-000000000000")
    put(2)
    left, right = kinesis.open_shards()
    kinesis.split(left.id)
    put(2)
    kinesis.merge(kinesis.open_shards()[1].id, right.id)
    put(2)
    read(objects, stream, kinesis)
    assert numbers(landed(objects, stream)) == {key: list(range(9)) for key in keys}


def test_a_stream_that_reshards_while_it_is_read_is_read_on(objects: Objects, stream: str) -> None:
    kinesis = FakeKinesis(2)
    stop = Event()
    reading = Reading([StreamReader(kinesis, objects, stream, "s")], 0.005)
    thread = Thread(target=reading.run, args=(stop,))
    thread.start()
    try:
        for i in range(6):
            kinesis.put("k", event("k", i))
            if i in (1, 3):
                kinesis.split(kinesis.open_shards()[-1].id)
            if i == 4:
                kinesis.merge(*(shard.id for shard in kinesis.open_shards()[-2:]))
            time.sleep(0.05)
        deadline = time.monotonic() + 20
        while len(landed(objects, stream)) < 6 and time.monotonic() < deadline:
            time.sleep(0.05)
    finally:
        stop.set()
        thread.join(20)
    assert numbers(landed(objects, stream)) == {"k": list(range(6))}


@pytest.mark.parametrize(
    "code",
    ["ProvisionedThroughputExceededException", "ExpiredIteratorException", "InternalFailure", "AccessDeniedException"],
)
def test_what_goes_wrong_for_a_while_costs_nothing(objects: Objects, stream: str, code: str) -> None:
    kinesis = FakeKinesis(2)
    for i in range(40):
        kinesis.put(f"k{i}", event("k", i))
    kinesis.troubles.extend([code] * 5 if code != "ExpiredIteratorException" else [])
    calls = count()
    kinesis.before = lambda _: kinesis.expire_iterators() if next(calls) % 4 == 0 else None
    read(objects, stream, kinesis)
    assert sorted(json.loads(line)["number"] for line in landed(objects, stream)) == list(range(40))


def test_a_stream_that_was_made_anew_is_read_from_its_beginning(objects: Objects, stream: str) -> None:
    kinesis = FakeKinesis()
    kinesis.put("k", event("old", 0))
    read(objects, stream, kinesis)
    kinesis.recreate()
    kinesis._numbers = count(1)
    kinesis.put("k", event("new", 0))
    read(objects, stream, kinesis)
    assert numbers(landed(objects, stream)) == {"old": [0], "new": [0]}


def test_a_shard_that_has_expired_is_let_go(objects: Objects, stream: str) -> None:
    kinesis = FakeKinesis(2)
    kinesis.put("k", event("k", 0))
    kinesis.split("shardId-000000000000")
    kinesis.split("shardId-000000000001")
    [reader] = read(objects, stream, kinesis)
    del kinesis.shards["shardId-000000000000"]
    reader.is_stale = True
    Reading([reader], 0.005).run(Event(), once=True)
    assert "shardId-000000000000" not in reader.shards
    read(objects, stream, kinesis)
    assert numbers(landed(objects, stream)) == {"k": [0]}


class Dying(Objects):
    """A bucket whose client dies at the call that it is told, before the server has it or after."""

    at = -1
    after = False
    ends: type[BaseException] = Crash
    calls = 0

    def _maybe(self, action: Callable[[], Any]) -> Any:
        self.calls += 1
        if self.calls == self.at:
            if self.after:
                action()
            raise self.ends("the line is cut")
        return action()

    def put(self, *words: Any, **more: Any) -> bool:
        return bool(self._maybe(lambda: Objects.put(self, *words, **more)))

    def get(self, key: str) -> bytes:
        return bytes(self._maybe(lambda: Objects.get(self, key)))


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
        _turns(reader, 20)
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


def _turns(reader: StreamReader, rounds: int) -> None:
    if not reader.is_open:
        reader.open()
    for _ in range(rounds):
        for shard in list(reader.readable()):
            reader.turn(shard)
        if reader.is_stale:
            reader.list_shards()


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
    stream = f"kinesis{next(_names)}"
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
            _turns(readers[who], number)
        elif action in ("crash", "restart"):
            if action == "crash":
                buckets[who].at, buckets[who].after = buckets[who].calls + 1 + number // 2, bool(number % 2)
                with suppress(Crash):
                    _turns(readers[who], 4)
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


def test_records_that_expired_before_they_landed_are_said_to_be_lost(
    objects: Objects, stream: str, caplog: pytest.LogCaptureFixture
) -> None:
    kinesis = FakeKinesis()
    for i in range(3):
        kinesis.put("k", event("k", i))
    dying = Dying(objects._store, objects._connection)
    dying.at, dying.after = 1, True  # the claim is made, and no more
    with pytest.raises(Crash):
        _turns(StreamReader(kinesis, dying, stream, "s"), 5)
    del kinesis.shards["shardId-000000000000"].records[:2]
    with caplog.at_level(logging.ERROR):
        read(objects, stream, kinesis)
    assert numbers(landed(objects, stream)) == {"k": [2]}
    assert "have expired in Kinesis before they landed" in caplog.text


def test_landing_objects_that_retention_removed_are_not_landed_again(
    objects: Objects, stream: str, caplog: pytest.LogCaptureFixture
) -> None:
    kinesis = FakeKinesis()
    kinesis.put("k", event("k", 0))
    read(objects, stream, kinesis)
    objects.delete(one.key for one in list_day(objects, stream, datetime.now(UTC).date()))
    read(objects, stream, kinesis)
    assert landed(objects, stream) == []
    assert "expired" not in caplog.text


def test_old_claims_go_and_the_newest_stays(objects: Objects, stream: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shards_module, "PRUNE_EVERY", 5)
    kinesis = FakeKinesis(limit=1)
    for i in range(12):
        kinesis.put("k", event("k", i))
    [reader] = read(objects, stream, kinesis)
    claims = reader.shards["shardId-000000000000"].claims
    assert len(list(objects.list(claims._folder))) == 13  # with the mark of the last
    claims.prune(datetime.now(UTC) + timedelta(hours=2))
    assert [info.key.rsplit("/")[-1] for info in objects.list(claims._folder)] == [
        "000000000012.json", "000000000012.landed",
    ]  # fmt: skip
    kinesis.put("k", event("k", 12))
    read(objects, stream, kinesis)
    assert numbers(landed(objects, stream)) == {"k": list(range(13))}


def test_a_claim_whose_answer_was_lost_is_ones_own(objects: Objects, stream: str) -> None:
    claims = Claims(objects, f"sources/kinesis/{stream}/s-1/shard")
    mine = Claim(1, "1", "2", "key", datetime.now(UTC), "me")
    assert claims.make(mine)
    assert claims.make(mine)
    assert not claims.make(Claim(1, "1", "3", "other", datetime.now(UTC), "you"))


def test_how_it_stands_is_said(objects: Objects, stream: str) -> None:
    kinesis = FakeKinesis(2)
    for i in range(20):
        kinesis.put(f"k{i}", event("k", i))
    said: list[Any] = []
    Reading([StreamReader(kinesis, objects, stream, "s")], 0.005, said.append).run(Event(), once=True)
    [status] = said[-1]
    assert (status.stream, status.source, status.shards, status.behind_ms, status.records, status.problem) == (
        stream, "s", 2, 0, 20, None,
    )  # fmt: skip
    assert status.bytes == sum(len(line) + 1 for line in landed(objects, stream))


def test_a_stream_that_can_not_be_read_is_told_with_what_to_do(
    objects: Objects, stream: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PATIENCE", 0.1)
    kinesis = FakeKinesis()
    kinesis.troubles.extend(["AccessDeniedException"] * 1000)
    with pytest.raises(LakehouseError, match=r"Can't read the Kinesis stream s: access is denied; allow kinesis:"):
        read(objects, stream, kinesis)


def test_a_mapping_to_no_stream_is_refused() -> None:
    with pytest.raises(LakehouseError, match="LAKEHOUSE_KINESIS names sales, which is no stream; there are iot, logs"):
        refuse_unknown({"sales": "x", "iot": "y"}, ["iot", "logs"])
