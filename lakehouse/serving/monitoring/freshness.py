"""Freshness: the time of a stream's newest event, from the statistics of its tables' files. No data file is opened."""

from collections.abc import Sequence
from datetime import datetime

from pyiceberg.table import Table

from lakehouse.storage.iceberg.manifests import newest_time


def newest_event(tables: Sequence[Table], event_time: str) -> datetime | None:
    """Return the time of the newest event in these tables; None if they are empty.

    The arrival time counts instead where it is earlier, because some events claim to be from the future.
    """
    times = [
        min(event, arrival)
        for table in tables
        if (event := newest_time(table, event_time)) is not None
        and (arrival := newest_time(table, "_arrived_at")) is not None
    ]
    return max(times, default=None)
