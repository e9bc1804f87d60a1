"""What snapshots say of partitions: which version of each source they were computed from, that they became empty, that the
gate held them back, which landing objects had no rows. Once a snapshot has expired, the table says it. What follows from
it is in `planning` and `refreshing`.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import date
from typing import Any

from pyiceberg.table import Table
from pyiceberg.table.snapshots import Snapshot

from lakehouse.layers.days import from_text, to_text
from lakehouse.storage.commit import ledger

SOURCES = "lakehouse.sources"
"""Snapshot property: the tables that it was computed from, with the sequence number each had."""

COMPUTED = "lakehouse.computed"
"""Table property: what expired snapshots said, as source → sequence number → days."""

EMPTIED = "lakehouse.emptied"
"""Table property: days without rows that expired snapshots wrote, by their sequence number. No file tells of such a day."""

HELD_BACK = "lakehouse.held-back"
"""Table property: days of which the newest expired snapshot said that the quality gate refused them."""

WITHOUT_ROWS = "lakehouse.objects-without-rows"
"""Snapshot property, and table property of what expired ones said: landing objects that were read and had no rows, such
as a file with a header alone. No row says that they were taken."""

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
        for day in wanted & _ledger_days(snapshot).keys():
            found.setdefault(day, sources[source])
        if len(found) == len(wanted):
            return found
    earlier = _carried(table).get(source, {})
    return {day: earlier[day] for day in wanted & earlier.keys()} | found


def emptied(table: Table) -> dict[date, int]:
    """Days that were written without rows, with the sequence number of the newest commit that did so."""
    days = _days_by_number(json.loads(table.properties.get(EMPTIED, "{}")))
    for snapshot in _in_order(table.metadata.snapshots):
        _note_emptied(days, snapshot)
    return days


def held_back(table: Table) -> set[date]:
    """Days of which the newest commit said that the quality gate refused them."""
    days = set(from_text(table.properties.get(HELD_BACK, "")))
    for snapshot in _in_order(table.metadata.snapshots):
        _note_held_back(days, snapshot)
    return days


def objects_without_rows(table: Table) -> set[str]:
    """Landing objects that were read and had no rows."""
    texts = [table.properties.get(WITHOUT_ROWS, "[]"), *map(_without_rows, table.metadata.snapshots)]
    return {key for text in texts for key in json.loads(text)}


def carried(table: Table, expiring: Sequence[Snapshot]) -> dict[str, str]:
    """The table properties that go on saying what these snapshots say."""
    read, gone = _carried(table), _days_by_number(json.loads(table.properties.get(EMPTIED, "{}")))
    refused = set(from_text(table.properties.get(HELD_BACK, "")))
    empty = set(json.loads(table.properties.get(WITHOUT_ROWS, "[]")))
    for snapshot in _in_order(expiring):
        for source, sequence in sources_of(snapshot).items():
            read.setdefault(source, {}).update(dict.fromkeys(_ledger_days(snapshot), sequence))
        _note_emptied(gone, snapshot)
        _note_held_back(refused, snapshot)
        empty |= set(json.loads(_without_rows(snapshot)))
    said = {
        COMPUTED: json.dumps({name: _grouped(days) for name, days in read.items()}) if read else "",
        EMPTIED: json.dumps(_grouped(gone)) if gone else "",
        HELD_BACK: to_text(refused),
        WITHOUT_ROWS: json.dumps(sorted(empty)) if empty else "",
    }
    # A property that says nothing is written only where it said something before.
    nothing = {EMPTIED: "{}", COMPUTED: "{}", HELD_BACK: "", WITHOUT_ROWS: "[]"}
    return {
        name: text or nothing[name]
        for name, text in said.items()
        if (text or nothing[name]) != table.properties.get(name, nothing[name])
    }


def _in_order(snapshots: Iterable[Snapshot]) -> list[Snapshot]:
    return sorted(snapshots, key=lambda s: s.sequence_number or 0)


def _note_emptied(days: dict[date, int], snapshot: Snapshot) -> None:
    for day, row in _ledger_days(snapshot).items():
        if row.get("rows") == 0:
            days[day] = snapshot.sequence_number or 0
        else:
            days.pop(day, None)


def _note_held_back(days: set[date], snapshot: Snapshot) -> None:
    for day, row in _ledger_days(snapshot).items():
        if row.get("held_back"):
            days.add(day)
        else:
            days.discard(day)


def _ledger_days(snapshot: Snapshot) -> dict[date, dict[str, Any]]:
    """A snapshot's ledger by day; ledgers by hour or of whole tables are no days'."""
    return {date.fromisoformat(name): row for name, row in ledger(snapshot).items() if is_day(name)}


def _without_rows(snapshot: Snapshot) -> str:
    return (snapshot.summary.additional_properties.get(WITHOUT_ROWS) if snapshot.summary else None) or "[]"


def is_day(name: str) -> bool:
    """Whether the name of a partition is a day's, not an hour's."""
    return len(name) == 10 and name[4] == "-"


def _carried(table: Table) -> Read:
    said: Mapping[str, Mapping[str, str]] = json.loads(table.properties.get(COMPUTED, "{}"))
    return {source: _days_by_number(groups) for source, groups in said.items()}


def _days_by_number(groups: Mapping[str, str]) -> dict[date, int]:
    return {day: int(sequence) for sequence, text in groups.items() for day in from_text(text)}


def _grouped(days: Mapping[date, int]) -> dict[str, str]:
    groups: dict[int, list[date]] = {}
    for day, sequence in days.items():
        groups.setdefault(sequence, []).append(day)
    return {str(sequence): to_text(group) for sequence, group in sorted(groups.items())}
