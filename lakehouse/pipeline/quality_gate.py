"""Decide which landing objects the quality gate blocks, and say so. See `day_groups` for what becomes of their rows."""

import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from typing import Any

from pyiceberg.table import Table

from lakehouse.pipeline.lineage.properties import day_ledgers

MAX_NAMED_OBJECTS = 5
"""Blocked objects of a day that its ledger names, those with the most valid rows first."""

MAX_DESCRIBED_OBJECTS = 20

REMEDY = "`lakehouse withdraw OBJECT` takes an object out. `lakehouse quarantine export` writes its rows to a file, to be fixed"


@dataclass(frozen=True, slots=True)
class ObjectRows:
    """How many rows of a day a landing object has, without those that corrected rows replace, and how many are valid."""

    valid: int
    rows: int

    @property
    def quality(self) -> float:
        """The share of valid rows, 1 for an object without rows."""
        return self.valid / self.rows if self.rows else 1.0


BlockedObjects = Mapping[str, ObjectRows]
"""Blocked objects of one day, by key."""


def find_blocked(objects: Mapping[str, ObjectRows], threshold: float) -> dict[str, ObjectRows]:
    """Select the objects of a day that the gate blocks, by key.

    The best objects pass, as many as together reach the threshold; the others are blocked. So an object never counts
    against a better one, however many rows it has. A day without a valid row blocks nothing.
    """
    if not any(rows.valid for rows in objects.values()):
        return {}
    best_first = sorted(objects.items(), key=lambda item: (-item[1].quality, item[0]))
    valid = total = 0
    for passed, (_, rows) in enumerate(best_first):
        valid, total = valid + rows.valid, total + rows.rows
        if valid < total * threshold:
            return dict(best_first[passed:])
    return {}


def as_counts(objects: BlockedObjects) -> dict[str, Any]:
    """Describe blocked objects as a ledger stores them: valid and all rows of the first, and how many more there are."""
    named = sorted(objects.items(), key=lambda item: (-item[1].valid, item[0]))[:MAX_NAMED_OBJECTS]
    counts: dict[str, Any] = {"blocked_objects": {key: [rows.valid, rows.rows] for key, rows in named}}
    return counts | ({"more_blocked_objects": more} if (more := len(objects) - len(named)) else {})


def named_objects(counts: Mapping[str, Any]) -> dict[str, ObjectRows]:
    """Read the blocked objects that a ledger names."""
    return {key: ObjectRows(*rows) for key, rows in counts.get("blocked_objects", {}).items()}


def blocked_objects(quarantine: Table) -> dict[date, dict[str, ObjectRows]]:
    """Read from a quarantine table's ledgers which objects are blocked, by day. Those of expired snapshots are missing."""
    by_day = {day: named_objects(counts) for day, counts in day_ledgers(quarantine).items()}
    return {day: objects for day, objects in by_day.items() if objects}


def withdraw_command(key: str) -> str:
    """Write the command that takes a landing object out."""
    return f"lakehouse withdraw {shlex.quote(key)}"


def blocked_keys(by_day: Mapping[date, BlockedObjects]) -> list[str]:
    """List the keys of blocked objects, each once, at most MAX_DESCRIBED_OBJECTS."""
    return sorted({key for objects in by_day.values() for key in objects})[:MAX_DESCRIBED_OBJECTS]


def describe_blocked(by_day: Mapping[date, BlockedObjects]) -> str:
    """Name blocked objects in words; `none` without any."""
    lines = [
        f"{key} ({rows.valid:,} of {rows.rows:,} rows valid on {day})"
        for day, objects in sorted(by_day.items())
        for key, rows in sorted(objects.items(), key=lambda item: (-item[1].valid, item[0]))
    ]
    more = [f"and {len(lines) - MAX_DESCRIBED_OBJECTS:,} more"] if len(lines) > MAX_DESCRIBED_OBJECTS else []
    return ", ".join([*lines[:MAX_DESCRIBED_OBJECTS], *more]) or "none"
