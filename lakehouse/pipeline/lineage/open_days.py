"""Find open days: those whose gold does not hold all that the unified view has.

A day is closed when gold was computed from silver's newest commit of that day, by today's `gold.sql`, and neither realtime
nor the hot tail has a row of it that silver may lack. Each other day is open. Days that silver no longer keeps are closed,
because gold has them in full and silver does not. Of data files, only the column `dt` is read, and only where it is needed.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from functools import lru_cache
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from pyiceberg.table import Table

from lakehouse.contracts.streams import Stream
from lakehouse.errors import UnreadableTableError
from lakehouse.pipeline.lineage.realtime_coverage import uncovered_hours
from lakehouse.pipeline.lineage.retention import first_kept_day
from lakehouse.pipeline.lineage.staleness import last_changes, older_days, redefined_days, stale_days
from lakehouse.storage.iceberg.catalog import qualified_name
from lakehouse.storage.iceberg.manifests import FileSummary, file_summaries

CACHED_STREAMS = 256
"""Versions of streams whose open days are kept."""

CACHED_FILES = 4096
"""Files whose days are kept. Each is a few bytes, and a file never changes."""


def open_days(stream: Stream, load: Callable[[str], Table], tail: Iterable[str] = ()) -> list[date]:
    """List the open days of a stream, in order.

    `load` returns its tables by name, all of which the caller reads as they are loaded, and `tail` names the hot tail's files.
    Raises UnreadableTableError where it can't be told.
    """
    tables = tuple(
        load(name.format(stream.name)) for name in ("gold.{}_daily", "silver.{}", "realtime.{}", "bronze.{}")
    )
    today = datetime.now(UTC).date()
    days = _open_in_tables(_Version(stream.definition_of("gold").number, today, _locations(tables), stream, tables))
    first = first_kept_day(stream.contract, "silver", today) or date.min
    return sorted(day for day in days.union(*map(_days_in_segment, tail)) if day >= first)


def metrics_open_days(stream: Stream, daily: Table, metrics: Table) -> set[date]:
    """Select the days of a stream whose gold the table of daily metrics does not hold yet, among those that silver keeps."""
    first = first_kept_day(stream.contract, "silver") or date.min
    return {day for day in _stale_in_metrics(_Pair(_locations((daily, metrics)), daily, metrics)) if day >= first}


@dataclass(frozen=True, slots=True)
class _Version:
    """The stream and its tables, by what decides its open days."""

    definition: int
    today: date
    locations: tuple[str, ...]
    stream: Stream = field(compare=False)
    tables: tuple[Table, ...] = field(compare=False)


@dataclass(frozen=True, slots=True)
class _Pair:
    locations: tuple[str, ...]
    source: Table = field(compare=False)
    derived: Table = field(compare=False)


def _locations(tables: Sequence[Table]) -> tuple[str, ...]:
    return tuple(table.metadata_location for table in tables)


@lru_cache(maxsize=CACHED_STREAMS)
def _open_in_tables(version: _Version) -> frozenset[date]:
    stream, (gold, silver, realtime, bronze) = version.stream, version.tables
    changes = last_changes(silver)
    stale = older_days(silver, changes, gold) | redefined_days(gold, stream.definition_of("gold"), changes)
    hours = uncovered_hours(stream, realtime, bronze, silver, today=version.today)
    files = (file for file in file_summaries(realtime) if hours is None or str(file.partition[0]) in hours)
    return frozenset(stale.union(*(_days_in_file(realtime, file) for file in files)))


@lru_cache(maxsize=CACHED_STREAMS)
def _stale_in_metrics(pair: _Pair) -> frozenset[date]:
    return frozenset(stale_days(pair.source, pair.derived))


def _days_in_file(table: Table, file: FileSummary) -> frozenset[date]:
    if file.days is not None and (file.days[1] - file.days[0]).days <= 1:
        return frozenset(file.days)  # its statistics leave no day in between
    return _read_days(_DataFile(file.path, table))


def _days_in_segment(path: str) -> frozenset[date]:
    return _read_days(_DataFile(path))


@dataclass(frozen=True, slots=True)
class _DataFile:
    path: str
    table: Table | None = field(default=None, compare=False)
    """Opens the file; None for a local one."""


@lru_cache(maxsize=CACHED_FILES)
def _read_days(file: _DataFile) -> frozenset[date]:
    source: Any = file.path
    try:
        if file.table is not None:
            source = file.table.io.new_input(file.path).open()
        days: set[date | None] = {*pq.read_table(source, columns=["dt"]).column("dt").unique().to_pylist()}
    except (OSError, pa.ArrowException) as error:
        name = qualified_name(file.table) if file.table is not None else "the hot tail"
        raise UnreadableTableError(f"{name}: {file.path} can't be read ({error})") from error
    return frozenset(day for day in days if day is not None)
