"""Verify the chain: every entry is what was written, after the entry that it was written after, and none is missing."""

import json
from collections.abc import Iterable, Iterator
from datetime import date

from lakehouse.audit_log.entries import GENESIS, Entry
from lakehouse.audit_log.log import End, read_head, segments
from lakehouse.settings import Settings

EXPIRED = "expired"
"""The action of entries that name the last entry which was dropped because of its age."""

Line = tuple[str, bytes]
"""The place of an entry, for messages, and the entry as it was written."""


def verify(settings: Settings, copied: End | None = None) -> list[str]:
    """Return what is wrong with the log, an empty list if nothing is.

    `copied` is the last entry that the table holds, so that entries which are gone from the end are found, too. An
    unfinished line at the end is what a kill leaves, and no fault.
    """
    head = read_head(settings)
    chain = Chain()
    faults = chain.check(_lines(settings))
    if chain.hashes and head is None:
        faults.append("head.json is gone or damaged")
    ends = {"head.json": head, "the table": copied}
    missing = [] if faults else [name for name, end in ends.items() if end and not chain.has(end)]
    return [*faults, *(f"{name} knows an entry that the log does not have: entries are gone" for name in missing)]


def _lines(settings: Settings) -> Iterator[Line]:
    for path in segments(settings):
        for number, line in enumerate(path.read_bytes().split(b"\n")[:-1], 1):
            yield f"{path.name}: line {number}", line


class Chain:
    """The hashes of entries by their numbers."""

    def __init__(self) -> None:
        self.hashes: dict[int, str] = {}
        self._ends_of_expired = {GENESIS}

    def has(self, end: End) -> bool:
        """Return whether the chain has this entry. Number 0 is before the first."""
        number, digest = end
        return number == 0 or self.hashes.get(number) == digest

    def check(self, lines: Iterable[Line]) -> list[str]:
        """Follow the entries in their order, and return what is wrong."""
        faults: list[str] = []
        first: Entry | None = None
        last: Entry | None = None
        for place, line in lines:
            try:
                entry = Entry.parse(line)
            except ValueError as error:
                return [f"{place} was changed: {error}"]
            if last is not None and (entry.previous, entry.number) != (last.hash, last.number + 1):
                faults.append(f"{place} does not follow the entry before: entries were removed, added or moved")
            if entry.action == EXPIRED:
                self._ends_of_expired.add(json.loads(entry.detail).get("hash", ""))
            first, last = first or entry, entry
            self.hashes[entry.number] = entry.hash
        if first is not None and first.previous not in self._ends_of_expired:
            faults.append("the first entries are gone, and no entry says that they have expired")
        return faults


def oldest_kept_month(today: date, days: int) -> str:
    """Return the oldest month, as YYYY-MM, of which entries are kept."""
    return f"{date.fromordinal(max(1, today.toordinal() - days)):%Y-%m}"
