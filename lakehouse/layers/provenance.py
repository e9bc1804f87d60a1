"""Which version of each source a partition was computed from: said by the snapshot that wrote it, and by the table once
that has expired. What follows from it is in `planning`.
"""

import json
from collections.abc import Iterable, Mapping
from datetime import date

from pyiceberg.table import Table
from pyiceberg.table.snapshots import Snapshot

from lakehouse.layers.days import from_text, to_text
from lakehouse.storage.commit import ledger

SOURCES = "lakehouse.sources"
"""Snapshot property: the tables that it was computed from, with the sequence number each had."""

COMPUTED = "lakehouse.computed"
"""Table property: what expired snapshots said, as source → sequence number → days."""

Read = dict[str, dict[date, int]]
"""Of each source, the sequence number that each day was computed from."""


def sources_of(snapshot: Snapshot) -> dict[str, int]:
    """The tables that a snapshot was computed from, with the sequence number each had."""
    text = snapshot.summary.additional_properties.get(SOURCES) if snapshot.summary else None
    return dict(json.loads(text)) if text else {}


def computed(table: Table, source: str, days: Iterable[date]) -> dict[date, int]:
    """For each of the days that was ever computed from `source`, that table's sequence number at the time."""
    wanted = set(days)
    found: dict[date, int] = {}
    for snapshot in sorted(table.metadata.snapshots, key=lambda s: s.sequence_number or 0, reverse=True):
        sources = sources_of(snapshot)
        if source not in sources:
            continue
        for name in ledger(snapshot):
            if (day := date.fromisoformat(name)) in wanted:
                found.setdefault(day, sources[source])
        if len(found) == len(wanted):
            return found
    earlier = _carried(table).get(source, {})
    return {day: earlier[day] for day in wanted & earlier.keys()} | found


def carry(table: Table, expiring: Iterable[Snapshot]) -> None:
    """Write down in the table what these snapshots say, before they expire."""
    read = _carried(table)
    said = False
    for snapshot in sorted(expiring, key=lambda s: s.sequence_number or 0):
        for source, sequence in sources_of(snapshot).items():
            read.setdefault(source, {}).update({date.fromisoformat(name): sequence for name in ledger(snapshot)})
            said = True
    if said:
        with table.transaction() as transaction:
            transaction.set_properties({COMPUTED: json.dumps({name: _grouped(days) for name, days in read.items()})})


def _carried(table: Table) -> Read:
    said: Mapping[str, Mapping[str, str]] = json.loads(table.properties.get(COMPUTED, "{}"))
    return {
        source: {day: int(sequence) for sequence, text in groups.items() for day in from_text(text)}
        for source, groups in said.items()
    }


def _grouped(days: Mapping[date, int]) -> dict[str, str]:
    groups: dict[int, list[date]] = {}
    for day, sequence in days.items():
        groups.setdefault(sequence, []).append(day)
    return {str(sequence): to_text(group) for sequence, group in sorted(groups.items())}
