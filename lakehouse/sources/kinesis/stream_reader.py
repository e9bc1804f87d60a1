"""Read the shards of one Kinesis stream into landing: which shards there are, which may be read, and reading one.

A child shard is read after its parents are read to their end, so that the events of a partition key keep their order.
See `claims` for why each record lands once, and `reader` for when each shard is read.
"""

import hashlib
import logging
import secrets
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from botocore.exceptions import ClientError

from lakehouse.landing.keys import realtime_key
from lakehouse.landing.writer import compressed_key, land_as
from lakehouse.sources.aws import error_code
from lakehouse.sources.kinesis.claims import Claim, Claims
from lakehouse.sources.kinesis.records import as_lines
from lakehouse.storage.objects.store import Objects

CLAIMS_FOLDER = "sources/kinesis"

MAX_RECORDS = 10_000
"""Records per GetRecords call. Kinesis also returns no more than 10 MiB."""

POSITION_TTL_SECONDS = 600.0
"""A shard that was not read for so long is looked up again, because another reader may have continued meanwhile."""

MARK_AFTER_IDLE_SECONDS = 60.0
"""After so long without records, the last object is marked as landed."""

CLAIMS_PER_PRUNE = 100

_PARENT_FIELDS = ("ParentShardId", "AdjacentParentShardId")

log = logging.getLogger(__name__)


@dataclass(slots=True)
class Shard:
    """One shard and how far it has been read."""

    id: str
    parents: tuple[str, ...]
    claims: Claims
    claim: Claim | None = None
    """The newest claim; None if nothing has been read yet."""
    position_known_at: float | None = None
    """When the position was last certain, on the monotonic clock; None if it must be looked up."""
    is_marked: bool = True
    """Whether the newest claim needs no landed mark."""
    landed_at: float = 0.0
    """When the newest claim landed, on the monotonic clock."""
    iterator: str | None = None
    behind_ms: int | None = None
    """MillisBehindLatest of the last answer."""
    is_finished: bool = False
    records: int = 0
    """Records landed since the reader started. The next two count from there too."""
    bytes: int = 0
    objects: int = 0


@dataclass(slots=True)
class StreamReader:
    """Reads one Kinesis stream, given by its name or ARN, into the landing objects of a lakehouse stream."""

    client: Any
    objects: Objects
    stream: str
    source: str
    shards: dict[str, Shard] = field(default_factory=dict)
    is_stale: bool = False
    """Whether there may be shards that are not listed yet."""
    _arn: str = ""
    _folder: str = ""
    _writer: str = ""
    _reader: str = field(default_factory=lambda: secrets.token_hex(8))

    def open(self) -> None:
        """Look the stream up and list its shards. Raises ClientError, BotoCoreError."""
        name = {"StreamARN": self.source} if self.source.startswith("arn:") else {"StreamName": self.source}
        summary = self.client.describe_stream_summary(**name)["StreamDescriptionSummary"]
        arn, created = summary["StreamARN"], int(summary["StreamCreationTimestamp"].timestamp())
        # A stream that was deleted and created again is another one, because its sequence numbers begin anew.
        digest = hashlib.sha256(f"{arn} {created}".encode()).hexdigest()[:8]
        if self._writer != f"kinesis{digest}":
            self.shards = {}
        self._arn, self._writer = arn, f"kinesis{digest}"
        self._folder = f"{CLAIMS_FOLDER}/{self.stream}/{summary['StreamName']}-{digest}"
        self.list_shards()

    def close(self) -> None:
        """Close the stream, so that it is looked up again."""
        self._arn = ""

    @property
    def is_open(self) -> bool:
        """Whether the stream is looked up and its shards are listed."""
        return bool(self._arn)

    def readable_shards(self) -> Iterator[Shard]:
        """Yield the shards that are not read to their end, while all parents that Kinesis still has are."""
        for shard in self.shards.values():
            parents = (self.shards.get(parent) for parent in shard.parents)
            if not shard.is_finished and all(parent is None or parent.is_finished for parent in parents):
                yield shard

    def read_shard(self, shard: Shard) -> int:
        """Read the next records of a shard and land them. Returns how many records were read.

        Raises ClientError, BotoCoreError or LakehouseError. It is then unknown whether the claimed records have landed;
        the next call finds out.
        """
        if shard.position_known_at is None or time.monotonic() - shard.position_known_at > POSITION_TTL_SECONDS:
            self._look_up_position(shard)
        try:
            if shard.iterator is None:
                shard.iterator = self._next_iterator(shard)
            answer = self.client.get_records(ShardIterator=shard.iterator, Limit=MAX_RECORDS, StreamARN=self._arn)
        except ClientError as error:
            if error_code(error) != "ExpiredIteratorException":
                raise
            shard.iterator = None
            return 0
        records = answer["Records"]
        if records and not self._claim_and_land(shard, records):
            return 0
        shard.position_known_at = time.monotonic()
        shard.behind_ms = answer.get("MillisBehindLatest")
        shard.iterator = answer.get("NextShardIterator")
        if shard.iterator is None:
            self._finish(shard)
        elif not shard.is_marked and shard.position_known_at - shard.landed_at > MARK_AFTER_IDLE_SECONDS:
            self.mark_landed(shard)
        return len(records)

    def mark_landed(self, shard: Shard) -> None:
        """Record that everything claimed of the shard has landed, if that is certain."""
        if not shard.is_marked and shard.position_known_at is not None and shard.claim is not None:
            shard.claims.mark_landed(shard.claim)
            shard.is_marked = True

    def list_shards(self) -> None:
        """List the shards again, adding new ones and dropping those that have expired in Kinesis."""
        self.is_stale = False  # reset before listing, because another shard may end meanwhile
        try:
            self.shards = {shard.id: self.shards.get(shard.id, shard) for shard in self._listed_shards()}
        except BaseException:
            self.is_stale = True
            raise

    def _listed_shards(self) -> Iterator[Shard]:
        request: dict[str, Any] = {"StreamARN": self._arn}
        while True:
            answer = self.client.list_shards(**request)
            for description in answer["Shards"]:
                parents = tuple(description[name] for name in _PARENT_FIELDS if description.get(name))
                shard_id = description["ShardId"]
                yield Shard(shard_id, parents, Claims(self.objects, f"{self._folder}/{shard_id}"))
            if not answer.get("NextToken"):
                return
            request = {"NextToken": answer["NextToken"]}  # the token names the stream, and Kinesis refuses both

    def _finish(self, shard: Shard) -> None:
        self.mark_landed(shard)
        shard.is_finished = self.is_stale = True
        log.info("%s: shard %s is read to its end", self.stream, shard.id)

    def _next_iterator(self, shard: Shard) -> str:
        if shard.claim is None:
            return self._iterator(shard, "TRIM_HORIZON")
        return self._iterator(shard, "AFTER_SEQUENCE_NUMBER", StartingSequenceNumber=shard.claim.last)

    def _iterator(self, shard: Shard, kind: str, **position: str) -> str:
        request = {"StreamARN": self._arn, "ShardId": shard.id, "ShardIteratorType": kind}
        return str(self.client.get_shard_iterator(**request, **position)["ShardIterator"])

    def _claim_and_land(self, shard: Shard, records: list[dict[str, Any]]) -> bool:
        """Claim the records and land them. False if another reader has claimed them."""
        lines = as_lines(records)
        claim = self._new_claim(shard, records, len(lines))
        shard.position_known_at = None  # uncertain until the claim has landed
        if not shard.claims.add(claim):
            log.warning("%s: another reader reads shard %s too; continuing after it", self.stream, shard.id)
            shard.iterator = None
            return False
        self._land(shard, claim, records, lines)
        shard.claim, shard.is_marked, shard.landed_at = claim, False, time.monotonic()
        if claim.number % CLAIMS_PER_PRUNE == 0:
            shard.claims.prune()
        return True

    def _new_claim(self, shard: Shard, records: list[dict[str, Any]], size: int) -> Claim:
        at, number = datetime.now(UTC), shard.claim.number + 1 if shard.claim else 1
        first, last = records[0]["SequenceNumber"], records[-1]["SequenceNumber"]
        writer = f"{self._writer}s{shard.id.rpartition('-')[2].lower()}f{first}"
        key = compressed_key(realtime_key(self.stream, at, writer, int(last)), size)
        return Claim(number, first, last, key, at, self._reader)

    def _land(self, shard: Shard, claim: Claim, records: list[dict[str, Any]], lines: bytes) -> None:
        if lines and land_as(self.objects, claim.key, lines):
            shard.records += len(records)
            shard.bytes += len(lines)
            shard.objects += 1

    def _look_up_position(self, shard: Shard) -> None:
        """Find the shard's position by its claims, and land an object that was claimed and has not landed."""
        position = shard.claims.position()
        shard.iterator = None
        shard.claim = position.claim if position else None
        shard.is_marked = position is None or position.has_landed
        if shard.claim is not None and not shard.is_marked and self.objects.head(shard.claim.key) is None:
            self._land_again(shard, shard.claim)
        shard.position_known_at = shard.landed_at = time.monotonic()

    def _land_again(self, shard: Shard, claim: Claim) -> None:
        records = list(self._claimed_records(shard, claim))
        if not records or records[0]["SequenceNumber"] != claim.first:
            log.error(
                "%s: records %s to %s of shard %s expired in Kinesis before they landed",
                self.stream, claim.first, claim.last, shard.id,
            )  # fmt: skip
        self._land(shard, claim, records, as_lines(records))

    def _claimed_records(self, shard: Shard, claim: Claim) -> Iterator[dict[str, Any]]:
        """Read the records of a claim, as far as Kinesis still has them."""
        iterator: str | None = self._iterator(shard, "AT_SEQUENCE_NUMBER", StartingSequenceNumber=claim.first)
        while iterator is not None:
            answer = self.client.get_records(ShardIterator=iterator, Limit=MAX_RECORDS, StreamARN=self._arn)
            for record in answer["Records"]:
                if int(record["SequenceNumber"]) > int(claim.last):
                    return
                yield record
                if record["SequenceNumber"] == claim.last:
                    return
            if not answer["Records"] and answer.get("MillisBehindLatest") == 0:
                return
            iterator = answer.get("NextShardIterator")
