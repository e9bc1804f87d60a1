# ruff: noqa: N803  (arguments are named as boto3 names them)
"""A fake Kinesis that behaves as the documentation says, as far as a reader sees it.

It has what moto lacks: resharding that moves no records, closed shards that end, expiring iterators, and throttling.
"""

import hashlib
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import count
from typing import Any

from botocore.exceptions import ClientError

HASHES = 1 << 128
CREATED = datetime(2026, 11, 20, tzinfo=UTC)


@dataclass
class FakeShard:
    id: str
    first: int
    last: int
    parents: tuple[str, ...] = ()
    records: list[dict[str, Any]] = field(default_factory=list)
    is_open: bool = True


class FakeKinesis:
    """One stream. The next calls raise `errors`, one each. Every call calls `before` first."""

    def __init__(self, shards: int = 1, *, limit: int = 7, page: int = 2) -> None:
        self.shards: dict[str, FakeShard] = {}
        self.errors: deque[str] = deque()
        self.before: Callable[[str], None] = lambda _: None
        self.created = CREATED
        self._limit = limit
        self._page = page
        self._numbers = count(49_000_000_000_000_000_000_000_000_000_000_000_000_000_000_000_000_000_000)
        self._epoch = 0
        width = HASHES // shards
        for i in range(shards):
            self._add(i * width, HASHES - 1 if i == shards - 1 else (i + 1) * width - 1)

    def put(self, key: str, data: bytes) -> None:
        hash_key = int(hashlib.md5(key.encode()).hexdigest(), 16)  # noqa: S324 (as Kinesis does)
        shard = next(shard for shard in self.shards.values() if shard.is_open and shard.first <= hash_key <= shard.last)
        shard.records.append(
            {
                "SequenceNumber": str(next(self._numbers)),
                "ApproximateArrivalTimestamp": datetime.now(UTC),
                "Data": data,
                "PartitionKey": key,
            }
        )

    def split(self, shard_id: str) -> None:
        shard = self.shards[shard_id]
        middle = (shard.first + shard.last) // 2
        shard.is_open = False
        self._add(shard.first, middle, (shard.id,))
        self._add(middle + 1, shard.last, (shard.id,))

    def merge(self, shard_id: str, other_id: str) -> None:
        left, right = sorted((self.shards[shard_id], self.shards[other_id]), key=lambda shard: shard.first)
        assert left.last + 1 == right.first
        left.is_open = right.is_open = False
        self._add(left.first, right.last, (left.id, right.id))

    def open_shards(self) -> list[FakeShard]:
        return sorted((shard for shard in self.shards.values() if shard.is_open), key=lambda shard: shard.first)

    def expire_iterators(self) -> None:
        self._epoch += 1

    def recreate(self) -> None:
        """Delete the stream and create it again."""
        self.created = datetime(2026, 11, 21, tzinfo=UTC)
        for shard in self.shards.values():
            shard.records.clear()

    def _add(self, first: int, last: int, parents: tuple[str, ...] = ()) -> None:
        name = f"shardId-{len(self.shards):012d}"
        self.shards[name] = FakeShard(name, first, last, parents)

    def _called(self, operation: str) -> None:
        self.before(operation)
        if self.errors:
            raise error(self.errors.popleft(), operation)

    def describe_stream_summary(self, **_: str) -> dict[str, Any]:
        self._called("DescribeStreamSummary")
        stream = {"StreamARN": "arn:aws:kinesis:eu-west-1:1:stream/s", "StreamName": "s"}
        return {"StreamDescriptionSummary": stream | {"StreamCreationTimestamp": self.created}}

    def list_shards(self, NextToken: str = "0", **others: str) -> dict[str, Any]:
        self._called("ListShards")
        assert NextToken == "0" or not others
        start, shards = int(NextToken), list(self.shards.values())
        answer: dict[str, Any] = {"Shards": []}
        for shard in shards[start : start + self._page]:
            names = dict(zip(("ParentShardId", "AdjacentParentShardId"), shard.parents, strict=False))
            answer["Shards"].append({"ShardId": shard.id, **names})
        if start + self._page < len(shards):
            answer["NextToken"] = str(start + self._page)
        return answer

    def get_shard_iterator(
        self,
        *,
        ShardId: str,
        ShardIteratorType: str,
        StartingSequenceNumber: str = "0",
        **_: str,
    ) -> dict[str, Any]:
        self._called("GetShardIterator")
        if ShardId not in self.shards:
            raise error("ResourceNotFoundException", "GetShardIterator")
        after = int(StartingSequenceNumber) - (ShardIteratorType == "AT_SEQUENCE_NUMBER")
        return {"ShardIterator": f"{self._epoch} {ShardId} {after}"}

    def get_records(self, *, ShardIterator: str, Limit: int, **_: str) -> dict[str, Any]:
        self._called("GetRecords")
        epoch, shard_id, after = ShardIterator.split()
        if int(epoch) != self._epoch:
            raise error("ExpiredIteratorException", "GetRecords")
        shard = self.shards[shard_id]
        left = [record for record in shard.records if int(record["SequenceNumber"]) > int(after)]
        records = left[: min(Limit, self._limit)]
        last = records[-1]["SequenceNumber"] if records else after
        at_end = len(records) == len(left)
        return {
            "Records": [dict(record) for record in records],
            "MillisBehindLatest": 0 if at_end else 1000,
            "NextShardIterator": None if at_end and not shard.is_open else f"{epoch} {shard_id} {last}",
        }


def error(code: str, operation: str) -> ClientError:
    return ClientError({"Error": {"Code": code, "Message": "as the test asked"}}, operation)
