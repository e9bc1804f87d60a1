"""One stream's part of the hot tail: the landing objects that it knows, and the segments with their rows."""

import logging
from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from lakehouse.landing.keys import LandingObject
from lakehouse.serving.query.tail_segments import MERGE_FACTOR, Segment, SegmentStore

log = logging.getLogger(__name__)

MAX_OBJECT_BYTES = 64 << 20
"""Larger objects are left to realtime: they are uploaded files, not events that a reader waits for."""


@dataclass(frozen=True, slots=True)
class TailSize:
    """How much the tail holds of one stream."""

    rows: int
    objects: int
    bytes: int
    left_out: int
    """Objects whose rows stay invisible until realtime ingests them: the tail was full, or they can't be read here."""


@dataclass(frozen=True, slots=True)
class MergedSegments:
    """Segments of a stream, and the one that has the rows of all."""

    stream: str
    old: tuple[Segment, ...]
    new: Segment


class TailState:
    """The hot tail's segments and known objects of one stream."""

    def __init__(self, stream: str, store: SegmentStore) -> None:
        self._stream = stream
        self._store = store
        self.segments: list[Segment] = []
        self.ingested: set[str] = set()
        """Objects that were read, also those without a valid row, and those that the realtime table was seen to hold."""
        self.left_out: set[str] = set()
        """Objects that were dropped before the table held them because the tail was full, or that can't be read."""
        self.compared_with = ""
        """The realtime table's metadata file that the objects were last compared with."""

    @property
    def bytes(self) -> int:
        """Bytes of all segments."""
        return sum(segment.bytes for segment in self.segments)

    @property
    def size(self) -> TailSize:
        """How much is held."""
        rows = sum(segment.rows for segment in self.segments)
        return TailSize(rows, len(self.ingested), self.bytes, len(self.left_out))

    def skips(self, landing: LandingObject) -> bool:
        """Return whether this object need not be read."""
        return landing.key in self.ingested or landing.key in self.left_out or landing.size > MAX_OBJECT_BYTES

    def drop(self, keys: Collection[str]) -> None:
        """Remove these objects and drop their rows."""
        self.ingested.difference_update(keys)
        for segment in list(self.segments):
            dropped = segment.objects & set(keys)
            if dropped == segment.objects:
                self._replace([segment], None)
            elif dropped:
                self._replace([segment], self._store.without(self._stream, segment, dropped))

    def drop_all(self) -> None:
        """Drop all segments."""
        self._replace(self.segments, None)

    def drop_oldest(self) -> None:
        """Drop the oldest segment; its objects are left out until realtime holds them."""
        oldest = self.segments[0]
        log.warning("%s: %d of the newest rows stay invisible until realtime has them", self._stream, oldest.rows)
        self.ingested -= oldest.objects
        self.left_out |= oldest.objects
        self._replace([oldest], None)

    def merge_segments(self) -> list[MergedSegments]:
        """Write one segment for every MERGE_FACTOR or more of about one size. Changes nothing until `apply_merge`."""
        by_tier: defaultdict[int, list[Segment]] = defaultdict(list)
        for segment in self.segments.copy():
            by_tier[segment.tier].append(segment)
        return [
            MergedSegments(self._stream, tuple(segments), self._store.merge(self._stream, segments))
            for segments in by_tier.values()
            if len(segments) >= MERGE_FACTOR
        ]

    def apply_merge(self, merge: MergedSegments) -> None:
        """Use a merged segment in place of the old ones."""
        if all(segment in self.segments for segment in merge.old):
            self._replace(merge.old, merge.new)
        else:  # part of it was dropped in the meantime
            merge.new.path.unlink()

    def _replace(self, old: Sequence[Segment], new: Segment | None) -> None:
        kept = [segment for segment in self.segments if segment not in old]
        self.segments = [*([] if new is None else [new]), *kept]
        self._store.retire(old)
