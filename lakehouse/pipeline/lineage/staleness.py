"""Find stale partitions: those whose source or definition changed after they were computed. Only table metadata is read.

A partition changed at the sequence number of the newest commit that wrote it. A derived table's commit records up to
which sequence number of its source it has read. So nothing has to be remembered outside the tables themselves. Where a
table was rolled back, by whatever program, partitions that were computed from what it undid are stale.
"""

from collections.abc import Iterable, Iterator, Mapping
from datetime import date

from pyiceberg.table import Table

from lakehouse.contracts.definition import Definition
from lakehouse.pipeline.lineage.properties import computed_from, emptied_days, is_day
from lakehouse.storage.iceberg.manifests import live_entries
from lakehouse.storage.iceberg.partitions import date_from_days, partition_position
from lakehouse.storage.iceberg.snapshots import history, ledger, undone


def last_changes(table: Table, column: str = "dt", since: int = 0) -> dict[date, int]:
    """Find when each day last changed, as the sequence number of the newest commit that wrote it.

    Args:
        table: The table as loaded.
        column: The partition column that holds the day.
        since: Leave out days that have not changed since the commit of this sequence number.

    """
    if table.current_snapshot() is None:
        return {}
    changes: dict[date, int] = {}
    for day, sequence in _commits(table, column, since):
        if sequence > since:
            changes[day] = max(changes.get(day, 0), sequence)
    return changes


def _commits(table: Table, column: str, since: int) -> Iterator[tuple[date, int]]:
    """Yield each day with the commits that wrote it: of its data files, and of those that left it empty."""
    yield from _file_commits(table, column, since)
    # A partition that became empty has no file. The commit that emptied it records that, and once it has expired the table.
    yield from emptied_days(table).items()
    steps = [(snapshot, snapshot.sequence_number or 0) for snapshot in history(table)]
    # A rollback changes what the undone commits had written back to what the step before them holds.
    for snapshot, sequence in [*steps, *undone(table)]:
        for partition in ledger(snapshot) if sequence > since else ():
            if is_day(partition):
                yield date.fromisoformat(partition), sequence


def _file_commits(table: Table, column: str, since: int) -> Iterator[tuple[date, int]]:
    for entry in live_entries(table, lambda manifest: (manifest.sequence_number or 0) > since):
        position = partition_position(table.specs()[entry.data_file.spec_id], column)
        yield date_from_days(entry.data_file.partition[position]), entry.sequence_number or 0


def stale_days(source: Table, derived: Table, column: str = "dt", since: int = 0) -> list[date]:
    """List the days of `derived` that were computed before `source` last changed there, or never, in order."""
    return sorted(older_days(source, last_changes(source, column, since), derived))


def older_days(source: Table, changes: Mapping[date, int], derived: Table) -> set[date]:
    """Select the days of `changes`, the `last_changes` of `source`, that `derived` computed before, or never."""
    read = computed_from(derived, source, changes)
    return {day for day, sequence in changes.items() if sequence > read.get(day, -1)}


def redefined_days(derived: Table, definition: Definition, days: Iterable[date]) -> set[date]:
    """Select the days that `derived` computed by another contract or SQL than `definition`.

    A day whose definition was not recorded is left out.
    """
    numbers = computed_from(derived, definition.source, days)
    return {day for day, number in numbers.items() if not definition.matches(number)}
