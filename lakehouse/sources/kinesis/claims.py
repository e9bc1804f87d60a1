"""Which records of a shard are in which landing object, written down before the object is.

Claims of a shard are numbered objects, each made by a conditional PUT: of two readers that go on from the same place
one has the next number, the other sees what was claimed. A claim names its landing object and the first and last
sequence number in it, so whoever finds a claim whose object is missing makes just that object, under just that name.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import msgspec

from lakehouse.storage.objects.store import ObjectInfo, Objects

KEPT = timedelta(hours=1)
"""Older claims than the newest are kept so long: a reader that was held up longer looks where it stands, see reader."""

_CLAIM, _LANDED = ".json", ".landed"


class Claim(msgspec.Struct, frozen=True):
    """Records of one shard that go into one landing object."""

    number: int
    first: str
    """Sequence number of the first record."""
    last: str
    key: str
    """Of the landing object."""
    at: datetime
    """Arrival time of the landing object, aware, UTC."""
    reader: str
    """Who claimed them: tells a claim of one's own, whose answer was lost, from another's."""


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

    def newest(self) -> Position | None:
        """How far the shard has been read; None when it was not."""
        entries = list(self._entries())
        claimed = [info.key for info in entries if info.key.endswith(_CLAIM)]
        if not claimed:
            return None
        claim = msgspec.json.decode(self._objects.get(claimed[-1]), type=Claim)
        return Position(claim, any(info.key == self._landed(claim) for info in entries))

    def make(self, claim: Claim) -> bool:
        """Claim the records; False when another reader has claimed some in their place."""
        key, content = f"{self._folder}/{claim.number:012d}{_CLAIM}", msgspec.json.encode(claim)
        return self._objects.put(key, content, if_absent=True) or self._objects.get(key) == content

    def mark_landed(self, claim: Claim) -> None:
        """Note that a claim's object has landed. The next claim says so too; this is for when none comes soon."""
        self._objects.put(self._landed(claim), b"landed")

    def prune(self, now: datetime | None = None) -> None:
        """Delete what is older than KEPT, but not the newest claim."""
        entries = list(self._entries())
        number = max((_number(info.key) for info in entries), default=0)
        until = (now or datetime.now(UTC)) - KEPT
        self._objects.delete(info.key for info in entries if _number(info.key) < number and info.modified < until)

    def _entries(self) -> Iterator[ObjectInfo]:
        return (info for info in self._objects.list(self._folder) if info.key.endswith((_CLAIM, _LANDED)))

    def _landed(self, claim: Claim) -> str:
        return f"{self._folder}/{claim.number:012d}{_LANDED}"


def _number(key: str) -> int:
    return int(key.rsplit("/", 1)[-1].split(".")[0])
