"""The progress of the sensor `openlineage`: which changes of runs were sent, which wait, and how many were lost."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Self

import dagster as dg
import msgspec

SENSOR = "openlineage"

OVERLAP_IDS = 200
"""How far back ids are read again, because writers may commit in another order than their ids."""

MAX_WAITING = 10_000
"""Changes that are counted one by one while they wait."""


class Progress(msgspec.Struct):
    """Progress in the history of runs, by the ids under which the event log has their changes of status."""

    start: int
    """Changes up to this one are not sent, because the sensor was not there yet."""
    after: int = 0
    """The newest change that was sent."""
    sent_lately: list[int] = []
    """Ids that were sent, of those that are read again."""
    sent: int = 0
    lost: int = 0
    waiting: list[int] = []
    """Ids that the receiver did not take yet."""
    waits_since: str | None = None

    @classmethod
    def parse(cls, cursor: str | None) -> Self | None:
        """Parse a cursor; None before the first tick."""
        return msgspec.json.decode(cursor, type=cls) if cursor else None

    def encode(self) -> str:
        """Write the cursor."""
        return msgspec.json.encode(self).decode()

    @property
    def first_id(self) -> int:
        """The id after which changes are read."""
        return max(self.after - OVERLAP_IDS, self.start)

    def is_sent(self, number: int) -> bool:
        """Return whether this change was sent."""
        return number in self.sent_lately

    def mark_sent(self, number: int) -> None:
        """Note that a change was sent."""
        self.sent += 1
        self.after = max(self.after, number)
        self.sent_lately = [sent for sent in self.sent_lately if sent > self.first_id] + [number]

    def mark_waiting(self, numbers: Sequence[int]) -> None:
        """Note which changes wait, after those that were found."""
        self.waiting = [*numbers[:MAX_WAITING]]
        self.waits_since = (self.waits_since or datetime.now(UTC).isoformat(timespec="seconds")) if numbers else None

    def drop_lost(self, found: Mapping[int, dg.EventLogRecord], last: int | None) -> int:
        """Count the changes that waited and are gone from the history, up to the id `last`. Returns how many there are."""
        lost = [number for number in self.waiting if number not in found and (last is None or number <= last)]
        self.lost += len(lost)
        return len(lost)
