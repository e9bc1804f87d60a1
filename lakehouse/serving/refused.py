"""Rows that were refused just now, so that they are seen before their day is computed: the newest of each stream, in memory.

Who reads them leaves out those of objects that bronze holds: what became of those rows, the tables say.
"""

from collections import defaultdict
from collections.abc import Collection, Iterable
from threading import Lock

from lakehouse.serving.quarantine import Refused

KEPT = 200
"""Rows of a stream."""


class JustRefused:
    """The newest refused rows of each stream. Any thread may ask and add."""

    def __init__(self, kept: int = KEPT) -> None:
        self._kept = kept
        self._rows: defaultdict[str, dict[tuple[str | None, int | None], Refused]] = defaultdict(dict)
        self._lock = Lock()
        self.changes = 0
        """How often rows came or went."""

    def add(self, stream: str, rows: Iterable[Refused]) -> None:
        """Have these rows; those that arrived first go where there are too many."""
        with self._lock:
            held = self._rows[stream]
            held.update({(row.object, row.row): row for row in rows})
            newest = sorted(held.values(), key=_arrival, reverse=True)[: self._kept]
            self._rows[stream] = {(row.object, row.row): row for row in newest}
            self.changes += 1

    def of(self, stream: str) -> list[Refused]:
        """A stream's rows, those that arrived last first."""
        with self._lock:
            return list(self._rows[stream].values())

    def forget(self, stream: str, objects: Collection[str]) -> None:
        """Give up the rows of these landing objects."""
        with self._lock:
            held = self._rows[stream]
            self._rows[stream] = {place: row for place, row in held.items() if row.object not in objects}
            self.changes += len(self._rows[stream]) < len(held)


def _arrival(row: Refused) -> tuple[float, str, int]:
    return row.arrived_at.timestamp(), row.object or "", row.row or 0
