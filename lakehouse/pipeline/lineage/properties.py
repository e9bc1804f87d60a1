"""Read and write what snapshots record about partitions, in snapshot and table properties.

A snapshot records which version of each source its partitions were computed from, which of them are empty, which the
quality gate blocked, which landing objects had no rows, and how much of realtime bronze has seen. When a snapshot
expires, the table's own properties take over what it recorded. See `staleness`, `refresh` and `realtime_coverage` for what
follows from the records.
"""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any, Self

from pyiceberg.table import Table
from pyiceberg.table.snapshots import Snapshot

from lakehouse.contracts.definition import Definition, is_definition
from lakehouse.pipeline.lineage.date_ranges import format_days, parse_days
from lakehouse.storage.iceberg.catalog import qualified_name
from lakehouse.storage.iceberg.snapshots import history, ledger, undone

SOURCES_PROPERTY = "lakehouse.sources"
"""Of a snapshot: the tables it was computed from, with the sequence number that each had."""

COMPUTED_PROPERTY = "lakehouse.computed"
"""Of a table: what expired snapshots were computed from, as source → sequence number → days."""

COMPUTED_WHOLE_PROPERTY = "lakehouse.computed-whole"
"""Of a table without partitions: what its rows were computed from, as source → sequence number, once that snapshot expired."""

EMPTIED_PROPERTY = "lakehouse.emptied"
"""Of a table: days that expired snapshots left without rows, as sequence number → days. Such a day has no file."""

BLOCKED_PROPERTY = "lakehouse.held-back"
"""Of a table: days that the quality gate had blocked, by the newest expired snapshot of each."""

HELD_ROWS_PROPERTY = "lakehouse.held-rows"
"""Of a table: days of which the quality gate kept valid rows out of silver, by the newest expired snapshot of each."""

OBJECTS_WITHOUT_ROWS_PROPERTY = "lakehouse.objects-without-rows"
"""Of a snapshot, and of a table for expired ones: landing objects that were read and had no rows, such as a CSV file with
only a header. No row of the table shows that they were ingested."""

REALTIME_SEEN_PROPERTY = "lakehouse.realtime-seen"
"""Of a snapshot of bronze, and of bronze for expired ones: for a realtime table by its UUID, as sequence number → days of
arrival, up to which commit of realtime bronze has each landing object that realtime has rows of."""

MAX_SEEN_DAYS = 60
"""How many days that property holds, the newest. Realtime is kept for a week."""

DEFINITION_PROPERTY = "lakehouse.defined"
"""Of realtime and bronze: the number of the definition that made all rows, or with an hour, all rows that arrived after it."""

EMPTY_TEXTS = {
    COMPUTED_PROPERTY: "{}",
    COMPUTED_WHOLE_PROPERTY: "{}",
    EMPTIED_PROPERTY: "{}",
    BLOCKED_PROPERTY: "",
    HELD_ROWS_PROPERTY: "",
    OBJECTS_WITHOUT_ROWS_PROPERTY: "[]",
    REALTIME_SEEN_PROPERTY: "{}",
}
"""How each property of a table says that nothing is recorded."""

WHOLE = ""
"""The name of the one partition of a table without partitions, in ledgers."""

SequencesBySource = dict[str, dict[date, int]]
"""By source, the sequence number that each day was computed from."""


def sources_of(snapshot: Snapshot) -> dict[str, int]:
    """Return the tables that a snapshot was computed from, with the sequence number that each had."""
    text = _recorded(snapshot, SOURCES_PROPERTY)
    return dict(json.loads(text)) if text else {}


def recorded_sources(table: Table) -> set[str]:
    """Return the tables that rows of any snapshot of a table were computed from, also of expired and undone ones."""
    names = {name for snapshot in table.metadata.snapshots for name in sources_of(snapshot)}
    names |= _parse_computed(table).keys() | json.loads(_property(table, COMPUTED_WHOLE_PROPERTY)).keys()
    return {name for name in names if not is_definition(name)}


def computed_from(table: Table, source: Table | str, days: Iterable[date]) -> dict[date, int]:
    """Find which version of `source` each day was last computed from, as its sequence number.

    Days that were never computed from it are left out. So are those computed from a snapshot that a rollback of `source`
    has undone since; that is known if `source` is the table, and not its name alone.
    """
    if isinstance(source, Table):
        gone = {snapshot.sequence_number for snapshot, _ in undone(source)}
        sequences = _computed_from(table, qualified_name(source), set(days))
        return {day: sequence for day, sequence in sequences.items() if sequence not in gone}
    return _computed_from(table, source, set(days))


def _computed_from(table: Table, source: str, wanted: set[date]) -> dict[date, int]:
    sequences: dict[date, int] = {}
    for snapshot in reversed(history(table)):
        sources = sources_of(snapshot)
        if source not in sources:
            continue
        for day in wanted & _day_ledgers(snapshot).keys():
            sequences.setdefault(day, sources[source])
        if len(sequences) == len(wanted):
            return sequences
    expired = _parse_computed(table).get(source, {})
    return {day: expired[day] for day in wanted & expired.keys()} | sequences


def whole_computed_from(table: Table) -> dict[str, int]:
    """Find which version of each source a table without partitions was computed from, as its sequence number."""
    written = [snapshot for snapshot in history(table) if WHOLE in ledger(snapshot)]
    return sources_of(written[-1]) if written else dict(json.loads(_property(table, COMPUTED_WHOLE_PROPERTY)))


def emptied_days(table: Table) -> dict[date, int]:
    """Return the days that were written without rows, with the sequence number of the newest commit that did so."""
    days = _parse_days_by_sequence(json.loads(_property(table, EMPTIED_PROPERTY)))
    for snapshot in history(table):
        _update_emptied(days, snapshot)
    return days


def blocked_days(table: Table) -> set[date]:
    """Return the days that the quality gate blocked in the newest commit about each: silver was not replaced."""
    return _gated_days(table, BLOCKED_PROPERTY)


def days_with_held_rows(table: Table) -> set[date]:
    """Return the days of which the quality gate kept valid rows out of silver in the newest commit about each."""
    return _gated_days(table, BLOCKED_PROPERTY) | _gated_days(table, HELD_ROWS_PROPERTY)


def day_ledgers(table: Table) -> dict[date, dict[str, Any]]:
    """Return each day's ledger of the newest snapshot that wrote it. Days of expired snapshots are missing."""
    newest: dict[date, dict[str, Any]] = {}
    for snapshot in history(table):
        newest |= _day_ledgers(snapshot)
    return newest


def objects_without_rows(table: Table) -> set[str]:
    """Return the landing objects that were read and had no rows."""
    keys: set[str] = set(json.loads(_property(table, OBJECTS_WITHOUT_ROWS_PROPERTY)))
    return keys.union(*map(_without_rows, history(table)))


def seen_property(realtime: Table, days: Iterable[date], known: Mapping[date, int] | None = None) -> dict[str, str]:
    """Return the property by which bronze records that it has all that `realtime`, as loaded, has of these days of arrival.

    `known` is what was recorded before. Without any day there is no property.
    """
    snapshot = realtime.current_snapshot()
    sequence = (snapshot.sequence_number or 0) if snapshot else 0
    seen = {**(known or {}), **dict.fromkeys(days, sequence)}
    return {REALTIME_SEEN_PROPERTY: _format_seen(str(realtime.metadata.table_uuid), seen)} if seen else {}


def seen_realtime(bronze: Table, realtime: Table) -> dict[date, int]:
    """By day of arrival, the commit of realtime up to which bronze has each landing object that realtime has rows of."""
    uuid = str(realtime.metadata.table_uuid)
    seen: dict[date, int] = {}
    for text in [_property(bronze, REALTIME_SEEN_PROPERTY), *map(_seen_text, history(bronze))]:
        for day, sequence in _parse_days_by_sequence(json.loads(text).get(uuid, {})).items():
            seen[day] = max(seen.get(day, 0), sequence)
    return seen


def defined_by(definition: Definition) -> dict[str, str]:
    """Return the property by which an empty table records that this definition makes all of its rows."""
    return {DEFINITION_PROPERTY: str(definition.number)}


def defined_since(table: Table, definition: Definition) -> str | None:
    """Return the hour of arrival after which this definition made all rows: empty for all of them, None for an unknown hour."""
    number, _, since = table.properties.get(DEFINITION_PROPERTY, "").partition(" ")
    return since if number.isdecimal() and definition.matches(int(number)) else None


def carried_properties(table: Table, expiring: Sequence[Snapshot]) -> dict[str, str]:
    """Return the table properties that have to change so that nothing is lost of what these snapshots recorded."""
    records = _Records.of(table)
    ids = {snapshot.snapshot_id for snapshot in expiring}
    for snapshot in history(table):
        if snapshot.snapshot_id in ids:
            records.add(snapshot)
    return {name: text for name, text in records.as_properties().items() if text != _property(table, name)}


@dataclass(slots=True)
class _Records:
    """The records of expired snapshots, in the form that a table's properties hold."""

    computed: SequencesBySource
    whole: dict[str, int]
    emptied: dict[date, int]
    gated: dict[str, set[date]]
    """By property: what the quality gate decided."""
    without_rows: set[str]
    seen: str

    @classmethod
    def of(cls, table: Table) -> Self:
        return cls(
            computed=_parse_computed(table),
            whole=dict(json.loads(_property(table, COMPUTED_WHOLE_PROPERTY))),
            emptied=_parse_days_by_sequence(json.loads(_property(table, EMPTIED_PROPERTY))),
            gated={name: set(parse_days(_property(table, name))) for name in _IS_GATED},
            without_rows=set(json.loads(_property(table, OBJECTS_WITHOUT_ROWS_PROPERTY))),
            seen=_property(table, REALTIME_SEEN_PROPERTY),
        )

    def add(self, snapshot: Snapshot) -> None:
        """Add what a later snapshot recorded."""
        days = _day_ledgers(snapshot)
        for source, sequence in sources_of(snapshot).items():
            self.computed.setdefault(source, {}).update(dict.fromkeys(days, sequence))
        if WHOLE in ledger(snapshot):
            self.whole = sources_of(snapshot)
        _update_emptied(self.emptied, snapshot)
        for name, days_of_gate in self.gated.items():
            _update_gated(days_of_gate, snapshot, name)
        self.without_rows |= _without_rows(snapshot)
        self.seen = _merge_seen(self.seen, _seen_text(snapshot))

    def as_properties(self) -> dict[str, str]:
        computed = {source: _format_days_by_sequence(days) for source, days in self.computed.items()}
        return {
            COMPUTED_PROPERTY: json.dumps(computed),
            COMPUTED_WHOLE_PROPERTY: json.dumps(self.whole),
            EMPTIED_PROPERTY: json.dumps(_format_days_by_sequence(self.emptied)),
            **{name: format_days(days) for name, days in self.gated.items()},
            OBJECTS_WITHOUT_ROWS_PROPERTY: json.dumps(sorted(self.without_rows)),
            REALTIME_SEEN_PROPERTY: self.seen,
        }


def _property(table: Table, name: str) -> str:
    return table.properties.get(name, EMPTY_TEXTS[name])


def _recorded(snapshot: Snapshot, name: str) -> str | None:
    return snapshot.summary.additional_properties.get(name) if snapshot.summary else None


def _update_emptied(days: dict[date, int], snapshot: Snapshot) -> None:
    for day, counts in _day_ledgers(snapshot).items():
        if counts.get("rows") == 0:
            days[day] = snapshot.sequence_number or 0
        else:
            days.pop(day, None)


def _gated_days(table: Table, name: str) -> set[date]:
    days = set(parse_days(_property(table, name)))
    for snapshot in history(table):
        _update_gated(days, snapshot, name)
    return days


def _update_gated(days: set[date], snapshot: Snapshot, name: str) -> None:
    for day, counts in _day_ledgers(snapshot).items():
        if _IS_GATED[name](counts):
            days.add(day)
        else:
            days.discard(day)


def _has_held_rows(counts: Mapping[str, Any]) -> bool:
    return any(valid for valid, _ in counts.get("blocked_objects", {}).values())


_IS_GATED: Mapping[str, Callable[[Mapping[str, Any]], bool]] = {
    BLOCKED_PROPERTY: lambda counts: bool(counts.get("held_back")),
    HELD_ROWS_PROPERTY: _has_held_rows,
}
"""By property, whether a ledger says so of its day."""


def _day_ledgers(snapshot: Snapshot) -> dict[date, dict[str, Any]]:
    """Return a snapshot's ledgers by day. Those by hour, and those of whole tables, are left out."""
    return {date.fromisoformat(name): counts for name, counts in ledger(snapshot).items() if is_day(name)}


def _without_rows(snapshot: Snapshot) -> set[str]:
    return set(json.loads(_recorded(snapshot, OBJECTS_WITHOUT_ROWS_PROPERTY) or "[]"))


def _seen_text(snapshot: Snapshot) -> str:
    return _recorded(snapshot, REALTIME_SEEN_PROPERTY) or "{}"


def _format_seen(uuid: str, days: Mapping[date, int]) -> str:
    newest = sorted(days)[-MAX_SEEN_DAYS:]
    return json.dumps({uuid: _format_days_by_sequence({day: days[day] for day in newest})})


def _merge_seen(earlier: str, later: str) -> str:
    """Merge two texts of that property. If a realtime table was made anew, only the later one's counts."""
    for uuid, groups in json.loads(later).items():
        known = _parse_days_by_sequence(json.loads(earlier).get(uuid, {}))
        return _format_seen(uuid, known | _parse_days_by_sequence(groups))
    return earlier


def is_day(partition: str) -> bool:
    """Return whether a partition's name is that of a day, not of an hour."""
    return len(partition) == 10 and partition[4] == "-"


def _parse_computed(table: Table) -> SequencesBySource:
    by_source: Mapping[str, Mapping[str, str]] = json.loads(_property(table, COMPUTED_PROPERTY))
    return {source: _parse_days_by_sequence(groups) for source, groups in by_source.items()}


def _parse_days_by_sequence(groups: Mapping[str, str]) -> dict[date, int]:
    return {day: int(sequence) for sequence, text in groups.items() for day in parse_days(text)}


def _format_days_by_sequence(days: Mapping[date, int]) -> dict[str, str]:
    groups: dict[int, list[date]] = {}
    for day, sequence in days.items():
        groups.setdefault(sequence, []).append(day)
    return {str(sequence): format_days(group) for sequence, group in sorted(groups.items())}
