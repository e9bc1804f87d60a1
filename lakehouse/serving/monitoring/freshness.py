"""Freshness: the time of a stream's newest event, from the statistics of its tables' files. No data file is opened."""

from collections.abc import Sequence
from datetime import UTC, datetime

from pyiceberg.conversions import from_bytes
from pyiceberg.manifest import ManifestContent
from pyiceberg.table import Table
from pyiceberg.types import PrimitiveType


def newest_event(tables: Sequence[Table], event_time: str) -> datetime | None:
    """Return the time of the newest event in these tables; None if they are empty.

    The arrival time counts instead where it is earlier, because some events claim to be from the future.
    """
    times = [
        min(event, arrival)
        for table in tables
        if (event := largest_time(table, event_time)) is not None
        and (arrival := largest_time(table, "_arrived_at")) is not None
    ]
    return max(times, default=None)


def largest_time(table: Table, column: str) -> datetime | None:
    """Return the largest value of a timestamp column in the table; None if the table is empty."""
    snapshot = table.current_snapshot()
    if snapshot is None:
        return None
    field = table.schema().find_field(column)
    assert isinstance(field.field_type, PrimitiveType), f"{column} is not a timestamp"
    largest: int | None = None
    for manifest in snapshot.manifests(table.io):
        if manifest.content != ManifestContent.DATA:
            continue
        for entry in manifest.fetch_manifest_entry(table.io, discard_deleted=True):
            bound = (entry.data_file.upper_bounds or {}).get(field.field_id)
            if bound is not None:
                value = int(from_bytes(field.field_type, bound))
                largest = value if largest is None else max(largest, value)
    return None if largest is None else datetime.fromtimestamp(largest / 1e6, UTC)
