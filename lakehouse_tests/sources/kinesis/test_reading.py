"""Reading Kinesis: every record lands once and in its shard's order, whatever crashes, expires, throttles or reshards."""

import json
import logging
import time
from collections import defaultdict
from datetime import UTC, datetime, timedelta
from itertools import count
from threading import Event, Thread
from typing import Any

import pytest

from lakehouse.errors import LakehouseError
from lakehouse.landing.listing import list_day
from lakehouse.sources.kinesis import reading as module
from lakehouse.sources.kinesis import shards as shards_module
from lakehouse.sources.kinesis.claims import Claim, Claims
from lakehouse.sources.kinesis.reading import Reading, check_stream_names
from lakehouse.sources.kinesis.shards import StreamReader
from lakehouse.storage.objects.store import Objects
from lakehouse_tests.landing.landed import landed
from lakehouse_tests.sources.kinesis.dying import Crash, Dying, turns
from lakehouse_tests.sources.kinesis.fake import FakeKinesis
from lakehouse_tests.sources.kinesis.landings import event, numbers, read


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


def test_records_that_expired_before_they_landed_are_said_to_be_lost(
    objects: Objects, stream: str, caplog: pytest.LogCaptureFixture
) -> None:
    kinesis = FakeKinesis()
    for i in range(3):
        kinesis.put("k", event("k", i))
    dying = Dying(objects._store, objects._connection)
    dying.at, dying.after = 1, True  # the claim is made, and no more
    with pytest.raises(Crash):
        turns(StreamReader(kinesis, dying, stream, "s"), 5)
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
        check_stream_names({"sales": "x", "iot": "y"}, ["iot", "logs"])
