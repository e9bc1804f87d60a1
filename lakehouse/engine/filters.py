"""Generate the SQL filters that select partitions and landing objects."""

from collections.abc import Iterable
from datetime import date

from lakehouse.contracts.sql import literal


def days_filter(days: Iterable[date], column: str = "dt") -> str:
    """Filter on a date column: `dt in (date '2025-11-20', …)`. Without days it selects nothing."""
    return _in(column, [f"date '{day}'" for day in days])


def hours_filter(hours: Iterable[str]) -> str:
    """Filter on hours of arrival, written as partitions are: `arrival_hour in ('2025-11-20-14', …)`."""
    return _in("arrival_hour", map(literal, hours))


def objects_filter(keys: Iterable[str]) -> str:
    """Filter on the landing objects that rows came from: `_object in ('realtime/…', …)`."""
    return _in("_object", map(literal, keys))


def _in(column: str, values: Iterable[str]) -> str:
    listed = ", ".join(values)
    return f"{column} in ({listed})" if listed else "false"
