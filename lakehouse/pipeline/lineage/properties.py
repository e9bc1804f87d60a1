"""What snapshots say of partitions: which version of each source they were computed from, that they became empty, that the
gate held them back, which landing objects had no rows, how much of realtime they have seen. Once a snapshot has expired,
the table says it. What follows from it is in `planning`, `refreshing` and `coverage`.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import date
from typing import Any

from pyiceberg.table import Table
from pyiceberg.table.snapshots import Snapshot

from lakehouse.contracts.definition import Definition
from lakehouse.pipeline.lineage.date_ranges import format_days, parse_days
from lakehouse.storage.iceberg.snapshots import ledger

SOURCES_PROPERTY = "lakehouse.sources"
"""Snapshot property: the tables that it was computed from, with the sequence number each had."""

COMPUTED_PROPERTY = "lakehouse.computed"
"""Table property: what expired snapshots said, as source → sequence number → days."""

EMPTIED_PROPERTY = "lakehouse.emptied"
"""Table property: days without rows that expired snapshots wrote, by their sequence number. No file tells of such a day."""

BLOCKED_PROPERTY = "lakehouse.held-back"
"""Table property: days of which the newest expired snapshot said that the quality gate refused them."""

OBJECTS_WITHOUT_ROWS_PROPERTY = "lakehouse.objects-without-rows"
"""Snapshot property, and table property of what expired ones said: landing objects that were read and had no rows, such
as a file with a header alone. No row says that they were taken."""

REALTIME_SEEN_PROPERTY = "lakehouse.realtime-seen"
"""Snapshot property of bronze, and table property of what expired ones said: a realtime table, and up to which of its sequence
numbers bronze has each landing object of a day of arrival that it has rows of, as number → days."""

MAX_SEEN_DAYS = 60
"""Of which that is said at most, the newest: realtime is kept for a week."""

DEFINITION_PROPERTY = "lakehouse.defined"
"""Table property of realtime and bronze: the definition by which the rows of all hours of arrival are made; with an hour, of
those after it."""

SequencesBySource = dict[str, dict[date, int]]
"""Of each source, the sequence number that each day was computed from."""


def sources_of(snapshot: Snapshot) -> dict[str, int]:
    """The tables that a snapshot was computed from, with the sequence number each had."""
    text = snapshot.summary.additional_properties.get(SOURCES_PROPERTY) if snapshot.summary else None
    return dict(json.loads(text)) if text else {}


def computed_from(table: Table, source: str, days: Iterable[date]) -> dict[date, int]:
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


def emptied_days(table: Table) -> dict[date, int]:
    """Days that were written without rows, with the sequence number of the newest commit that did so."""
    days = _days_by_number(json.loads(table.properties.get(EMPTIED_PROPERTY, "{}")))
    for snapshot in _in_order(table.metadata.snapshots):
        _note_emptied(days, snapshot)
    return days


def blocked_days(table: Table) -> set[date]:
    """Days of which the newest commit said that the quality gate refused them."""
    days = set(parse_days(table.properties.get(BLOCKED_PROPERTY, "")))
    for snapshot in _in_order(table.metadata.snapshots):
        _note_held_back(days, snapshot)
    return days


def objects_without_rows(table: Table) -> set[str]:
    """Landing objects that were read and had no rows."""
    texts = [table.properties.get(OBJECTS_WITHOUT_ROWS_PROPERTY, "[]"), *map(_without_rows, table.metadata.snapshots)]
    return {key for text in texts for key in json.loads(text)}


def seen_property(realtime: Table, days: Iterable[date], known: Mapping[date, int] | None = None) -> dict[str, str]:
    """The property that says that bronze has all of these days that realtime, as loaded, has, and what was `known` before."""
    snapshot = realtime.current_snapshot()
    every = {**(known or {}), **dict.fromkeys(days, (snapshot.sequence_number or 0) if snapshot else 0)}
    return {REALTIME_SEEN_PROPERTY: _seen_text(str(realtime.metadata.table_uuid), every)} if every else {}


def seen_realtime(bronze: Table, realtime: Table) -> dict[date, int]:
    """By day of arrival, the sequence number of realtime up to which bronze has each landing object that it has rows of."""
    uuid = str(realtime.metadata.table_uuid)
    found: dict[date, int] = {}
    for text in [bronze.properties.get(REALTIME_SEEN_PROPERTY, "{}"), *map(_seen_by, bronze.metadata.snapshots)]:
        for day, sequence in _days_by_number(json.loads(text).get(uuid, {})).items():
            found[day] = max(found.get(day, 0), sequence)
    return found


def defined_by(definition: Definition) -> dict[str, str]:
    """The property of a table without rows, that all it will hold is made by this definition."""
    return {DEFINITION_PROPERTY: str(definition.number)}


def defined_since(table: Table, definition: Definition) -> str | None:
    """The hour of arrival after which all rows are made by this definition, empty for all; None when there is none."""
    number, _, since = table.properties.get(DEFINITION_PROPERTY, "").partition(" ")
    return since if number.isdecimal() and definition.matches(int(number)) else None


def carried_properties(table: Table, expiring: Sequence[Snapshot]) -> dict[str, str]:
    """The table properties that go on saying what these snapshots say."""
    read, gone = _carried(table), _days_by_number(json.loads(table.properties.get(EMPTIED_PROPERTY, "{}")))
    refused = set(parse_days(table.properties.get(BLOCKED_PROPERTY, "")))
    empty = set(json.loads(table.properties.get(OBJECTS_WITHOUT_ROWS_PROPERTY, "[]")))
    known = table.properties.get(REALTIME_SEEN_PROPERTY, "{}")
    for snapshot in _in_order(expiring):
        known = _seen_both(known, _seen_by(snapshot))
        for source, sequence in sources_of(snapshot).items():
            read.setdefault(source, {}).update(dict.fromkeys(_ledger_days(snapshot), sequence))
        _note_emptied(gone, snapshot)
        _note_held_back(refused, snapshot)
        empty |= set(json.loads(_without_rows(snapshot)))
    said = {
        COMPUTED_PROPERTY: json.dumps({name: _grouped(days) for name, days in read.items()}) if read else "",
        EMPTIED_PROPERTY: json.dumps(_grouped(gone)) if gone else "",
        BLOCKED_PROPERTY: format_days(refused),
        OBJECTS_WITHOUT_ROWS_PROPERTY: json.dumps(sorted(empty)) if empty else "",
        REALTIME_SEEN_PROPERTY: known if known != "{}" else "",
    }
    # A property that says nothing is written only where it said something before.
    nothing = {
        EMPTIED_PROPERTY: "{}",
        COMPUTED_PROPERTY: "{}",
        BLOCKED_PROPERTY: "",
        OBJECTS_WITHOUT_ROWS_PROPERTY: "[]",
        REALTIME_SEEN_PROPERTY: "{}",
    }
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
    return (
        snapshot.summary.additional_properties.get(OBJECTS_WITHOUT_ROWS_PROPERTY) if snapshot.summary else None
    ) or "[]"


def _seen_by(snapshot: Snapshot) -> str:
    return (snapshot.summary.additional_properties.get(REALTIME_SEEN_PROPERTY) if snapshot.summary else None) or "{}"


def _seen_text(uuid: str, days: Mapping[date, int]) -> str:
    newest = sorted(days)[-MAX_SEEN_DAYS:]
    return json.dumps({uuid: _grouped({day: days[day] for day in newest})})


def _seen_both(before: str, after: str) -> str:
    """What two such texts say, of the realtime table that the later one is of."""
    for uuid, said in json.loads(after).items():
        earlier = _days_by_number(json.loads(before).get(uuid, {}))
        return _seen_text(uuid, earlier | _days_by_number(said))
    return before


def is_day(name: str) -> bool:
    """Whether the name of a partition is a day's, not an hour's."""
    return len(name) == 10 and name[4] == "-"


def _carried(table: Table) -> SequencesBySource:
    said: Mapping[str, Mapping[str, str]] = json.loads(table.properties.get(COMPUTED_PROPERTY, "{}"))
    return {source: _days_by_number(groups) for source, groups in said.items()}


def _days_by_number(groups: Mapping[str, str]) -> dict[date, int]:
    return {day: int(sequence) for sequence, text in groups.items() for day in parse_days(text)}


def _grouped(days: Mapping[date, int]) -> dict[str, str]:
    groups: dict[int, list[date]] = {}
    for day, sequence in days.items():
        groups.setdefault(sequence, []).append(day)
    return {str(sequence): format_days(group) for sequence, group in sorted(groups.items())}
