"""What has to be computed again: the partitions whose source changed after they were computed. Metadata alone is read.

A source's partition changed at the sequence number of the newest commit that wrote it; a derived table's commit records
up to which sequence number of its source it has read. So nothing is remembered outside the tables themselves.
"""

from collections.abc import Mapping
from datetime import date

from pyiceberg.table import Table

from lakehouse.pipeline.lineage.properties import computed_from, emptied_days, is_day
from lakehouse.storage.iceberg.catalog import qualified_name
from lakehouse.storage.iceberg.manifests import live_entries
from lakehouse.storage.iceberg.partitions import date_from_days, partition_position
from lakehouse.storage.iceberg.snapshots import ledger


def sequence_of(table: Table) -> int:
    """The sequence number of the table's newest snapshot; 0 when it has none."""
    snapshot = table.current_snapshot()
    return (snapshot.sequence_number or 0) if snapshot else 0


def last_changes(table: Table, column: str = "dt", since: int = 0) -> dict[date, int]:
    """Each day of `column` with the sequence number of the newest commit that touched it, if later than `since`."""
    days: dict[date, int] = {}
    if table.current_snapshot() is None:
        return days
    for entry in live_entries(table, lambda manifest: (manifest.sequence_number or 0) > since):
        sequence = entry.sequence_number or 0
        if sequence > since:
            position = partition_position(table.specs()[entry.data_file.spec_id], column)
            day = date_from_days(entry.data_file.partition[position])
            days[day] = max(days.get(day, 0), sequence)
    # A partition that became empty has no file to say so; the commit that emptied it does, and the table after it.
    for day, sequence in emptied_days(table).items():
        if sequence > since:
            days[day] = max(days.get(day, 0), sequence)
    for kept in table.metadata.snapshots:
        if (sequence := kept.sequence_number or 0) > since:
            for name in ledger(kept):
                if is_day(name):
                    day = date.fromisoformat(name)
                    days[day] = max(days.get(day, 0), sequence)
    return days


def stale_days(source: Table, derived: Table, column: str = "dt", since: int = 0) -> list[date]:
    """The days of `derived` that were computed before `source` last changed there, or never, in order."""
    touched: Mapping[date, int] = last_changes(source, column, since)
    read = computed_from(derived, qualified_name(source), touched)
    return sorted(day for day, sequence in touched.items() if sequence > read.get(day, -1))
