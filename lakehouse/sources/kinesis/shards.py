"""The shards of one Kinesis stream: which there are, which is read when, and one turn of reading one.

A child shard is read when its parents are read to their end, so that the events of a key keep their order.
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
from lakehouse.sources.kinesis.claims import Claim, Claims
from lakehouse.sources.kinesis.records import as_lines
from lakehouse.storage.objects.store import Objects

FOLDER = "sources/kinesis"
"""Where claims are kept."""

LIMIT = 10_000
"""Records of one answer at most; Kinesis also gives no more than 10 MiB."""

SURE = 600.0
"""Seconds without a turn after which a shard's place is looked up again: another reader may have gone on meanwhile."""

IDLE = 60.0
"""Seconds without records after which the last object is marked as landed."""

PRUNE_EVERY = 100

_PARENTS = ("ParentShardId", "AdjacentParentShardId")

log = logging.getLogger(__name__)


@dataclass(slots=True)
class Shard:
    """One shard and how far it has been read."""

    id: str
    parents: tuple[str, ...]
    claims: Claims
    claim: Claim | None = None
    """The newest; None when nothing has been read yet."""
    opened: float | None = None
    """When it was last sure where the shard stands, monotonic; None when that has to be looked up."""
    marked: bool = True
    """Whether the newest claim needs no mark."""
    landed_at: float = 0.0
    iterator: str | None = None
    behind_ms: int | None = None
    """MillisBehindLatest of the last answer."""
    finished: bool = False
    records: int = 0
    """Landed since the reader was started, as are the next two."""
    bytes: int = 0
    objects: int = 0


@dataclass(slots=True)
class StreamReader:
    """Reads one Kinesis stream, named by its name or ARN, into the landing of a lakehouse stream."""

    client: Any
    objects: Objects
    stream: str
    source: str
    shards: dict[str, Shard] = field(default_factory=dict)
    is_stale: bool = False
    """Whether there may be shards that are not known."""
    _arn: str = ""
    _folder: str = ""
    _writer: str = ""
    _token: str = field(default_factory=lambda: secrets.token_hex(8))

    def open(self) -> None:
        """Look the stream up and list its shards. Raises ClientError, BotoCoreError."""
        which = {"StreamARN": self.source} if self.source.startswith("arn:") else {"StreamName": self.source}
        found = self.client.describe_stream_summary(**which)["StreamDescriptionSummary"]
        arn, created = found["StreamARN"], int(found["StreamCreationTimestamp"].timestamp())
        # A stream that was deleted and made again is another one: its sequence numbers begin anew.
        digest = hashlib.sha256(f"{arn} {created}".encode()).hexdigest()[:8]
        if self._writer != f"kinesis{digest}":
            self.shards = {}
        self._arn, self._writer = arn, f"kinesis{digest}"
        self._folder = f"{FOLDER}/{self.stream}/{found['StreamName']}-{digest}"
        self.list_shards()

    def forget(self) -> None:
        """Have the stream looked up anew."""
        self._arn = ""

    @property
    def is_open(self) -> bool:
        """Whether the stream is known and its shards are listed."""
        return bool(self._arn)

    def readable(self) -> Iterator[Shard]:
        """The shards to read now: not read to their end, unlike all their parents that Kinesis still has."""
        for shard in self.shards.values():
            above = (self.shards.get(parent) for parent in shard.parents)
            if not shard.finished and all(parent is None or parent.finished for parent in above):
                yield shard

    def turn(self, shard: Shard) -> int:
        """Read what comes next in a shard and land it; how many records that were.

        A turn that raises (ClientError, BotoCoreError, LakehouseError) has landed what it had claimed or not, and the
        next one finds out.
        """
        if shard.opened is None or time.monotonic() - shard.opened > SURE:
            self._find_place(shard)
        try:
            if shard.iterator is None:
                shard.iterator = self._iterator(shard)
            answer = self.client.get_records(ShardIterator=shard.iterator, Limit=LIMIT, StreamARN=self._arn)
        except ClientError as problem:
            if problem.response["Error"]["Code"] != "ExpiredIteratorException":
                raise
            shard.iterator = None
            return 0
        records = answer["Records"]
        if records and not self._take(shard, records):
            return 0
        shard.opened = time.monotonic()
        shard.behind_ms = answer.get("MillisBehindLatest")
        shard.iterator = answer.get("NextShardIterator")
        if shard.iterator is None:
            self._finish(shard)
        elif not shard.marked and shard.opened - shard.landed_at > IDLE:
            self.mark(shard)
        return len(records)

    def mark(self, shard: Shard) -> None:
        """Note that all that was claimed of the shard has landed, unless that is not sure."""
        if not shard.marked and shard.opened is not None and shard.claim is not None:
            shard.claims.mark_landed(shard.claim)
            shard.marked = True

    def list_shards(self) -> None:
        """Take up shards that are new and let go of those that have expired, once a shard was read to its end."""
        self.is_stale = False  # before they are listed, for another shard may end meanwhile
        try:
            self.shards = {shard.id: self.shards.get(shard.id, shard) for shard in self._listed()}
        except BaseException:
            self.is_stale = True
            raise

    def _listed(self) -> Iterator[Shard]:
        request: dict[str, Any] = {"StreamARN": self._arn}
        while True:
            answer = self.client.list_shards(**request)
            for found in answer["Shards"]:
                parents = tuple(found[kind] for kind in _PARENTS if found.get(kind))
                name = found["ShardId"]
                yield Shard(name, parents, Claims(self.objects, f"{self._folder}/{name}"))
            if not answer.get("NextToken"):
                return
            request = {"NextToken": answer["NextToken"]}  # which names the stream; Kinesis refuses both

    def _finish(self, shard: Shard) -> None:
        self.mark(shard)
        shard.finished = self.is_stale = True
        log.info("%s: shard %s is read to its end", self.stream, shard.id)

    def _iterator(self, shard: Shard) -> str:
        if shard.claim is None:
            return self._iterator_at(shard, "TRIM_HORIZON")
        return self._iterator_at(shard, "AFTER_SEQUENCE_NUMBER", StartingSequenceNumber=shard.claim.last)

    def _iterator_at(self, shard: Shard, kind: str, **place: str) -> str:
        request = {"StreamARN": self._arn, "ShardId": shard.id, "ShardIteratorType": kind}
        return str(self.client.get_shard_iterator(**request, **place)["ShardIterator"])

    def _take(self, shard: Shard, records: list[dict[str, Any]]) -> bool:
        """Claim the records and land them; False when another reader has claimed them."""
        lines, at = as_lines(records), datetime.now(UTC)
        first, last = records[0]["SequenceNumber"], records[-1]["SequenceNumber"]
        writer = f"{self._writer}s{shard.id.rpartition('-')[2].lower()}f{first}"
        key = compressed_key(realtime_key(self.stream, at, writer, int(last)), len(lines))
        number = shard.claim.number + 1 if shard.claim else 1
        claim = Claim(number, first, last, key, at, self._token)
        shard.opened = None  # until it has landed
        if not shard.claims.make(claim):
            log.warning("%s: another reader reads %s too; going on after it", self.stream, shard.id)
            shard.iterator = None
            return False
        self._land(shard, claim, records, lines)
        shard.claim, shard.marked, shard.landed_at = claim, False, time.monotonic()
        if number % PRUNE_EVERY == 0:
            shard.claims.prune()
        return True

    def _land(self, shard: Shard, claim: Claim, records: list[dict[str, Any]], lines: bytes) -> None:
        if lines and land_as(self.objects, claim.key, lines):
            shard.records += len(records)
            shard.bytes += len(lines)
            shard.objects += 1

    def _find_place(self, shard: Shard) -> None:
        """Where the shard stands, by its claims; an object that was claimed and has not landed lands now."""
        position = shard.claims.newest()
        shard.iterator = None
        shard.claim = position.claim if position else None
        shard.marked = position is None or position.has_landed
        if shard.claim is not None and not shard.marked and self.objects.head(shard.claim.key) is None:
            self._complete(shard, shard.claim)
        shard.opened = shard.landed_at = time.monotonic()

    def _complete(self, shard: Shard, claim: Claim) -> None:
        records = list(self._between(shard, claim))
        if not records or records[0]["SequenceNumber"] != claim.first:
            log.error(
                "%s: records %s to %s of %s have expired in Kinesis before they landed",
                self.stream, claim.first, claim.last, shard.id,
            )  # fmt: skip
        self._land(shard, claim, records, as_lines(records))

    def _between(self, shard: Shard, claim: Claim) -> Iterator[dict[str, Any]]:
        """The records of a claim, as far as Kinesis still has them."""
        iterator: str | None = self._iterator_at(shard, "AT_SEQUENCE_NUMBER", StartingSequenceNumber=claim.first)
        while iterator is not None:
            answer = self.client.get_records(ShardIterator=iterator, Limit=LIMIT, StreamARN=self._arn)
            for record in answer["Records"]:
                if int(record["SequenceNumber"]) > int(claim.last):
                    return
                yield record
                if record["SequenceNumber"] == claim.last:
                    return
            if not answer["Records"] and answer.get("MillisBehindLatest") == 0:
                return
            iterator = answer.get("NextShardIterator")
