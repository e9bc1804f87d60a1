"""Reading Kinesis: each record lands once, in its shard's order, through expiry, throttling and resharding."""

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
from lakehouse.sources.kinesis import reader as reader_module
from lakehouse.sources.kinesis import stream_reader
from lakehouse.sources.kinesis.claims import Claim, Claims
from lakehouse.sources.kinesis.reader import KinesisReader, check_stream_names
from lakehouse.sources.kinesis.stream_reader import StreamReader
from lakehouse.storage.objects.store import Objects
from lakehouse_tests.landing.landed import landed
from lakehouse_tests.sources.kinesis.crashing import Crash, CrashingObjects, read_rounds
from lakehouse_tests.sources.kinesis.fake import FakeKinesis
from lakehouse_tests.sources.kinesis.landings import event, numbers, read
from lakehouse_tests.waiting import until


def test_new_reader_continues_after_last_landed_record(objects: Objects, stream: str) -> None:
    kinesis = FakeKinesis(3)
    for i in range(50):
        kinesis.put(f"k{i % 10}", event(f"k{i % 10}", i))
    [reader] = read(objects, stream, kinesis)
    assert sorted(json.loads(line)["number"] for line in landed(objects, stream)) == list(range(50))
    assert sum(shard.records for shard in reader.shards.values()) == 50

    read(objects, stream, kinesis)
    for i in range(50, 60):
        kinesis.put("k1", event("k1", i))
    [continued] = read(objects, stream, kinesis)
    assert sorted(json.loads(line)["number"] for line in landed(objects, stream)) == list(range(60))
    assert sum(shard.records for shard in continued.shards.values()) == 10


def test_large_answer_lands_compressed(objects: Objects, stream: str) -> None:
    kinesis = FakeKinesis()
    for i in range(5):
        kinesis.put("k", event("k", i, 100_000))
    read(objects, stream, kinesis)
    [landing] = list_day(objects, stream, datetime.now(UTC).date())
    assert landing.key.endswith(".json.zst")
    assert landing.size < 10_000
    assert numbers(landed(objects, stream)) == {"k": [0, 1, 2, 3, 4]}


def test_key_names_shard_and_sequence_numbers(objects: Objects, stream: str) -> None:
    kinesis = FakeKinesis()
    for i in range(3):
        kinesis.put("k", event("k", i))
    read(objects, stream, kinesis)
    [landing] = list_day(objects, stream, datetime.now(UTC).date())
    first, *_, last = (record["SequenceNumber"] for record in kinesis.shards["shardId-000000000000"].records)
    assert f"s000000000000f{first}-{last}.json" in landing.key


def test_child_shards_are_read_after_their_parents(objects: Objects, stream: str) -> None:
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


def test_resharding_while_reading_loses_nothing(objects: Objects, stream: str) -> None:
    kinesis = FakeKinesis(2)
    stop = Event()
    reader = KinesisReader([StreamReader(kinesis, objects, stream, "s")], 0.005)
    thread = Thread(target=reader.run, args=(stop,))
    thread.start()
    try:
        for i in range(6):
            kinesis.put("k", event("k", i))
            if i in (1, 3):
                kinesis.split(kinesis.open_shards()[-1].id)
            if i == 4:
                kinesis.merge(*(shard.id for shard in kinesis.open_shards()[-2:]))
            time.sleep(0.05)
        until(lambda: len(landed(objects, stream)) >= 6, 20)
    finally:
        stop.set()
        thread.join(20)
    assert numbers(landed(objects, stream)) == {"k": list(range(6))}


@pytest.mark.parametrize(
    "code",
    ["ProvisionedThroughputExceededException", "ExpiredIteratorException", "InternalFailure", "AccessDeniedException"],
)
def test_passing_errors_lose_nothing(objects: Objects, stream: str, code: str) -> None:
    kinesis = FakeKinesis(2)
    for i in range(40):
        kinesis.put(f"k{i}", event("k", i))
    kinesis.errors.extend([code] * 5 if code != "ExpiredIteratorException" else [])
    calls = count()
    kinesis.before = lambda _: kinesis.expire_iterators() if next(calls) % 4 == 0 else None
    read(objects, stream, kinesis)
    assert sorted(json.loads(line)["number"] for line in landed(objects, stream)) == list(range(40))


def test_recreated_stream_is_read_from_its_beginning(objects: Objects, stream: str) -> None:
    kinesis = FakeKinesis()
    kinesis.put("k", event("old", 0))
    read(objects, stream, kinesis)
    kinesis.recreate()
    kinesis._numbers = count(1)
    kinesis.put("k", event("new", 0))
    read(objects, stream, kinesis)
    assert numbers(landed(objects, stream)) == {"old": [0], "new": [0]}


def test_expired_shard_is_dropped(objects: Objects, stream: str) -> None:
    kinesis = FakeKinesis(2)
    kinesis.put("k", event("k", 0))
    kinesis.split("shardId-000000000000")
    kinesis.split("shardId-000000000001")
    [reader] = read(objects, stream, kinesis)
    del kinesis.shards["shardId-000000000000"]
    reader.is_stale = True
    KinesisReader([reader], 0.005).run(Event(), once=True)
    assert "shardId-000000000000" not in reader.shards
    read(objects, stream, kinesis)
    assert numbers(landed(objects, stream)) == {"k": [0]}


def test_claimed_records_that_expired_are_logged_as_lost(
    objects: Objects, stream: str, caplog: pytest.LogCaptureFixture
) -> None:
    kinesis = FakeKinesis()
    for i in range(3):
        kinesis.put("k", event("k", i))
    crashing = CrashingObjects(objects._store, objects._connection)
    crashing.crash_at, crashing.after_call = 1, True  # the claim is made and nothing more
    with pytest.raises(Crash):
        read_rounds(StreamReader(kinesis, crashing, stream, "s"), 5)
    del kinesis.shards["shardId-000000000000"].records[:2]
    with caplog.at_level(logging.ERROR):
        read(objects, stream, kinesis)
    assert numbers(landed(objects, stream)) == {"k": [2]}
    assert "expired in Kinesis before they landed" in caplog.text


def test_objects_removed_by_retention_do_not_land_again(
    objects: Objects, stream: str, caplog: pytest.LogCaptureFixture
) -> None:
    kinesis = FakeKinesis()
    kinesis.put("k", event("k", 0))
    read(objects, stream, kinesis)
    objects.delete(landing.key for landing in list_day(objects, stream, datetime.now(UTC).date()))
    read(objects, stream, kinesis)
    assert landed(objects, stream) == []
    assert "expired" not in caplog.text


def test_prune_keeps_the_newest_claim(objects: Objects, stream: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream_reader, "CLAIMS_PER_PRUNE", 5)
    kinesis = FakeKinesis(limit=1)
    for i in range(12):
        kinesis.put("k", event("k", i))
    [reader] = read(objects, stream, kinesis)
    claims = reader.shards["shardId-000000000000"].claims
    assert len(list(objects.list(claims._folder))) == 13  # with the landed mark of the newest
    claims.prune(datetime.now(UTC) + timedelta(hours=2))
    assert [info.key.rsplit("/")[-1] for info in objects.list(claims._folder)] == [
        "000000000012.json", "000000000012.landed",
    ]  # fmt: skip
    kinesis.put("k", event("k", 12))
    read(objects, stream, kinesis)
    assert numbers(landed(objects, stream)) == {"k": list(range(13))}


def test_repeating_our_own_claim_succeeds(objects: Objects, stream: str) -> None:
    claims = Claims(objects, f"sources/kinesis/{stream}/s-1/shard")
    claim = Claim(1, "1", "2", "key", datetime.now(UTC), "reader")
    assert claims.add(claim)
    assert claims.add(claim), "as after an answer that was lost"
    assert not claims.add(Claim(1, "1", "3", "other", datetime.now(UTC), "another reader"))


def test_reader_reports_its_status(objects: Objects, stream: str) -> None:
    kinesis = FakeKinesis(2)
    for i in range(20):
        kinesis.put(f"k{i}", event("k", i))
    reports: list[Any] = []
    KinesisReader([StreamReader(kinesis, objects, stream, "s")], 0.005, reports.append).run(Event(), once=True)
    [status] = reports[-1]
    assert (status.stream, status.source, status.shards, status.behind_ms, status.records, status.error) == (
        stream, "s", 2, 0, 20, None,
    )  # fmt: skip
    assert status.bytes == sum(len(line) + 1 for line in landed(objects, stream))


def test_unreadable_stream_raises_error_with_advice(
    objects: Objects, stream: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reader_module, "GIVE_UP_AFTER_SECONDS", 0.1)
    kinesis = FakeKinesis()
    kinesis.errors.extend(["AccessDeniedException"] * 1000)
    with pytest.raises(LakehouseError, match=r"Can't read the Kinesis stream s: access is denied; allow kinesis:"):
        read(objects, stream, kinesis)


def test_mapping_to_unknown_stream_is_refused() -> None:
    with pytest.raises(LakehouseError, match="LAKEHOUSE_KINESIS names sales, which is no stream; there are iot, logs"):
        check_stream_names({"sales": "x", "iot": "y"}, ["iot", "logs"])
