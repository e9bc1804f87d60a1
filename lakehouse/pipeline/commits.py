"""Replacing partitions of a table with what a SELECT gives, in one commit; computed again when another writer was first."""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import Any, TypeVar

import duckdb
from pyiceberg.expressions import AlwaysTrue, BooleanExpression
from pyiceberg.manifest import DataFile
from pyiceberg.table import Table
from tenacity import Retrying, retry_if_exception_type, stop_after_attempt, wait_random_exponential

from lakehouse.engine.connection import copy_to_files
from lakehouse.errors import CommitConflictError, StorageUnavailableError
from lakehouse.pipeline.lake import Lake
from lakehouse.pipeline.lineage.properties import SOURCES_PROPERTY, carried_properties
from lakehouse.storage.iceberg.catalog import qualified_name
from lakehouse.storage.iceberg.commit import CommitResult, commit, discard, upload
from lakehouse.storage.iceberg.manifests import select_files
from lakehouse.storage.iceberg.partitions import NewFile, PartitionValue, partitions_filter
from lakehouse.storage.iceberg.snapshots import expirable, expire
from lakehouse.storage.objects.errors import first_line

T = TypeVar("T")

MAX_ATTEMPTS = 8
"""How often a partition that others also write is computed before its run fails."""

MIN_SNAPSHOTS_KEPT = 48
"""Snapshots that every table keeps, whatever their age."""

SNAPSHOTS_KEPT_PROPERTY = "lakehouse.snapshots-kept"
LEDGER_PROPERTY = "lakehouse.ledger"
RUN_ID_PROPERTY = "lakehouse.run-id"


@dataclass(frozen=True, slots=True)
class WriteResult:
    """What one write did to each partition, by its name, and to the table as a whole."""

    table: str
    partitions: Mapping[str, Mapping[str, Any]]
    commit: CommitResult | None = None
    columns: Sequence[tuple[str, str]] = field(default_factory=tuple)


def retry_on_conflict(compute: Callable[[], T]) -> T:
    """Run `compute`, again when a concurrent commit to the same partitions was first.

    Raises CommitConflictError after eight tries, and StorageUnavailableError when what DuckDB reads can't be read.
    """
    retrying = Retrying(
        retry=retry_if_exception_type(CommitConflictError),
        stop=stop_after_attempt(MAX_ATTEMPTS),
        wait=wait_random_exponential(multiplier=0.1, max=5),
        reraise=True,
    )
    try:
        return retrying(compute)
    except duckdb.IOException as problem:
        if not (isinstance(problem, duckdb.HTTPException) or " HTTP " in str(problem)):
            raise  # of a file on this machine
        raise StorageUnavailableError(
            f"Storage does not answer as it should; run it again ({first_line(problem)})."
        ) from problem


def replace_days(
    lake: Lake,
    table_name: str,
    select: str,
    days: Sequence[date],
    *,
    column: str = "dt",
    cursor: duckdb.DuckDBPyConnection | None = None,
    sources: Mapping[str, int] | None = None,
    run_id: str = "",
) -> WriteResult:
    """Make the table's partitions of these days hold exactly the rows that `select` gives for them.

    Every day is written, one without rows too. Raises CommitConflictError when another writer keeps being first.
    """

    def attempt() -> WriteResult:
        table = lake.tables.load(table_name)
        one = (days[0],) if len(days) == 1 else None
        with lake.engine.scratch() as folder:
            files = copy_to_files(cursor or lake.engine.cursor(), select, table, folder, name="part", partition=one)
            added = upload(lake.connection, table, files)
            return commit_days(lake, table, files, added, days, column=column, sources=sources, run_id=run_id)

    return retry_on_conflict(attempt)


def replace_table(
    lake: Lake,
    table_name: str,
    select: str,
    *,
    cursor: duckdb.DuckDBPyConnection,
    sources: Mapping[str, int] | None = None,
    run_id: str = "",
) -> WriteResult:
    """Make a table without partitions hold exactly the rows that `select` gives."""

    def attempt() -> WriteResult:
        table = lake.tables.load(table_name)
        with lake.engine.scratch() as folder:
            files = copy_to_files(cursor, select, table, folder, name="all", partition=())
            added = upload(lake.connection, table, files)
            size = {
                "rows": sum(file.record_count for file in added),
                "bytes": sum(file.file_size_in_bytes for file in added),
                "files": len(added),
            }
            done = commit_files(
                lake,
                table,
                added,
                AlwaysTrue(),
                removed=select_files(table, AlwaysTrue()),
                ledger={"": size},
                sources=sources,
                run_id=run_id,
            )
        return WriteResult(table_name, {"": size}, done)

    return retry_on_conflict(attempt)


def commit_days(
    lake: Lake,
    table: Table,
    files: Sequence[NewFile],
    added: Sequence[DataFile],
    days: Sequence[date],
    *,
    column: str = "dt",
    sources: Mapping[str, int] | None = None,
    run_id: str = "",
    counts: Mapping[date, Mapping[str, int]] | None = None,
) -> WriteResult:
    """Commit the files, which are uploaded, as all that these days hold; `counts` go to the ledger beside rows."""
    touched = partitions_filter(column, days)
    sizes = partition_sizes(files, added)
    partitions = {str(day): {**sizes.get(day, _EMPTY), **(counts or {}).get(day, {})} for day in days}
    done = commit_files(
        lake, table, added, touched, removed=select_files(table, touched), ledger=partitions,
        sources=sources, run_id=run_id,
    )  # fmt: skip
    return WriteResult(qualified_name(table), partitions, done)


def commit_files(
    lake: Lake,
    table: Table,
    added: Sequence[DataFile],
    touched: BooleanExpression,
    *,
    removed: Iterable[DataFile] = (),
    ledger: Mapping[str, Mapping[str, Any]],
    sources: Mapping[str, int] | None = None,
    run_id: str = "",
    properties: Mapping[str, str] | None = None,
) -> CommitResult:
    """One snapshot with its run, ledger and notes; what was uploaded is deleted again when the commit conflicts."""
    summary = {
        **(properties or {}),
        RUN_ID_PROPERTY: run_id,
        LEDGER_PROPERTY: json.dumps({name: _counts(row) for name, row in ledger.items()}),
    }
    if sources is not None:
        summary[SOURCES_PROPERTY] = json.dumps(sources)
    try:
        done = commit(table, added, touched=touched, removed=removed, properties=summary)
    except CommitConflictError:
        discard(lake.connection, added)
        raise
    expire_snapshots(lake, table)
    return done


def expire_snapshots(lake: Lake, table: Table, *, at_least: int | None = None, dry_run: bool = False) -> int:
    """Let old snapshots go, at most 100, what they say being carried; how many went, or in a dry run would go.

    Little and often, for a commit reads and writes the whole list. Tables committed every few minutes say how many they
    keep; the others also keep the last one of each day for time travel.
    """
    often = table.properties.get(SNAPSHOTS_KEPT_PROPERTY)
    days = 0 if often else lake.settings.time_travel_days
    old = expirable(table, int(often or MIN_SNAPSHOTS_KEPT), days=days, at_least=at_least)
    if not old or dry_run:
        return len(old)
    return len(old) if expire(table, old, carried_properties(table, old)) else 0


def partition_sizes(
    files: Sequence[NewFile], added: Sequence[DataFile], position: int = -1
) -> dict[PartitionValue, dict[str, int]]:
    """Rows, bytes and files of what was added, by the partition value at `position`."""
    sizes: dict[PartitionValue, dict[str, int]] = {}
    for file, data_file in zip(files, added, strict=True):
        size = sizes.setdefault(file.partition[position], dict(_EMPTY))
        size["rows"] += data_file.record_count
        size["bytes"] += data_file.file_size_in_bytes
        size["files"] += 1
    return sizes


_EMPTY = {"rows": 0, "bytes": 0, "files": 0}
_SIZES = ("bytes", "files", "seconds")


def _counts(row: Mapping[str, Any]) -> dict[str, Any]:
    """A ledger keeps counts of rows; sizes can be read off the files."""
    return {name: value for name, value in row.items() if name not in _SIZES}
