"""Claims: which records of a shard go into which landing object, written before the object is.

Claims of a shard are numbered objects, each made by a conditional PUT. Of two readers that continue from the same
place, one gets the next number and the other sees what was claimed. A claim names its landing object and the first and
last sequence number in it. A reader that finds a claim without its object lands exactly that object.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import msgspec

from lakehouse.storage.durability import sync
from lakehouse.storage.objects.store import ObjectInfo, Objects

KEEP_CLAIMS_FOR = timedelta(hours=1)
"""How long claims older than the newest are kept. A reader that pauses longer looks its position up again first."""

_CLAIM_SUFFIX, _LANDED_SUFFIX = ".json", ".landed"


class Claim(msgspec.Struct, frozen=True):
    """Records of one shard that go into one landing object."""

    number: int
    first: str
    """Sequence number of the first record."""
    last: str
    """Sequence number of the last record."""
    key: str
    """Key of the landing object."""
    at: datetime
    """Arrival time of the landing object, aware, UTC."""
    reader: str
    """Who made the claim. It tells our own claim, whose answer was lost, from another reader's."""


@dataclass(frozen=True, slots=True)
class Position:
    """The newest claim of a shard, and whether its object is known to have landed."""

    claim: Claim
    has_landed: bool


class Claims:
    """The claims of one shard, in a folder of their own. Methods raise what Objects raises."""

    def __init__(self, objects: Objects, folder: str) -> None:
        self._objects = objects
        self._folder = folder

    def position(self) -> Position | None:
        """Look up how far the shard has been read; None if it has not been read."""
        entries = list(self._entries())
        claim_keys = [info.key for info in entries if info.key.endswith(_CLAIM_SUFFIX)]
        if not claim_keys:
            return None
        claim = msgspec.json.decode(self._objects.get(claim_keys[-1]), type=Claim)
        return Position(claim, any(info.key == self._landed_key(claim) for info in entries))

    def add(self, claim: Claim) -> bool:
        """Claim the records. False if another reader has made a claim with this number."""
        key, content = f"{self._folder}/{claim.number:012d}{_CLAIM_SUFFIX}", msgspec.json.encode(claim)
        is_ours = self._objects.put(key, content, if_absent=True) or self._objects.get(key) == content
        sync(self._objects.connection)  # before the records land under the claim's name
        return is_ours

    def mark_landed(self, claim: Claim) -> None:
        """Record that a claim's object has landed. The next claim implies it too; this is for when none follows soon."""
        self._objects.put(self._landed_key(claim), b"landed")

    def prune(self, now: datetime | None = None) -> None:
        """Delete claims older than KEEP_CLAIMS_FOR, except the newest."""
        entries = list(self._entries())
        newest = max((_number(info.key) for info in entries), default=0)
        before = (now or datetime.now(UTC)) - KEEP_CLAIMS_FOR
        self._objects.delete(info.key for info in entries if _number(info.key) < newest and info.modified < before)

    def _entries(self) -> Iterator[ObjectInfo]:
        suffixes = (_CLAIM_SUFFIX, _LANDED_SUFFIX)
        return (info for info in self._objects.list(self._folder) if info.key.endswith(suffixes))

    def _landed_key(self, claim: Claim) -> str:
        return f"{self._folder}/{claim.number:012d}{_LANDED_SUFFIX}"


def _number(key: str) -> int:
    return int(key.rsplit("/", 1)[-1].split(".")[0])
