"""Replace or extend a table's partitions in one commit, with its ledger, and compute them again after a commit conflict.

See `storage.iceberg.commit` for how a commit is made.
"""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any, TypeVar

import duckdb
from pyiceberg.expressions import AlwaysTrue, BooleanExpression
from pyiceberg.manifest import DataFile
from pyiceberg.table import Table
from tenacity import Retrying, retry_if_exception_type, stop_after_attempt, wait_random_exponential

from lakehouse.aws import explain
from lakehouse.engine.connection import copy_to_files
from lakehouse.errors import CommitConflictError, LakehouseError, StorageUnavailableError
from lakehouse.pipeline.lake import Lake
from lakehouse.pipeline.lineage.properties import SOURCES_PROPERTY, WHOLE, carried_properties
from lakehouse.storage.iceberg.catalog import qualified_name
from lakehouse.storage.iceberg.commit import CommitResult, commit, discard, upload
from lakehouse.storage.iceberg.manifests import select_files
from lakehouse.storage.iceberg.partitions import NewFile, PartitionValue, partitions_filter
from lakehouse.storage.iceberg.snapshots import expirable, expire
from lakehouse.storage.objects.errors import first_line, is_server_error, unreadable_object

T = TypeVar("T")

MAX_ATTEMPTS = 8
"""How often partitions are computed in all before their run fails with a commit conflict."""

MIN_SNAPSHOTS_KEPT = 48
"""How many snapshots a table keeps at least, whatever their age."""

SNAPSHOTS_KEPT_PROPERTY = "lakehouse.snapshots-kept"
"""Of a table that is committed often: how many snapshots it keeps instead, with none for time travel."""

LEDGER_PROPERTY = "lakehouse.ledger"
"""Of a snapshot: the ledger of each partition it wrote, as JSON."""

RUN_ID_PROPERTY = "lakehouse.run-id"
"""Of a snapshot: the Dagster run that wrote it."""

NO_ROWS = {"rows": 0, "bytes": 0, "files": 0}

NOT_IN_LEDGERS = ("bytes", "files", "seconds")
"""Counts that snapshots do not store, because the files show them."""


@dataclass(frozen=True, slots=True)
class WriteResult:
    """The result of one write to a table: the counts of each partition, by its name, and the commit."""

    table: str
    partitions: Mapping[str, Mapping[str, Any]]
    commit: CommitResult | None = None


def retry_on_conflict(compute: Callable[[], T]) -> T:
    """Run `compute`, and run it again after a commit conflict.

    Raises CommitConflictError after eight attempts, and UnreadableObjectError or StorageUnavailableError if DuckDB can't
    read from storage.
    """
    retrying = Retrying(
        retry=retry_if_exception_type(CommitConflictError),
        stop=stop_after_attempt(MAX_ATTEMPTS),
        wait=wait_random_exponential(multiplier=0.1, max=5),
        reraise=True,
    )
    try:
        return retrying(compute)
    except duckdb.IOException as error:
        if not (isinstance(error, duckdb.HTTPException) or " HTTP " in str(error)):
            raise  # about a file on this machine
        if advice := explain(error, "s3:GetObject"):
            raise LakehouseError(f"DuckDB can't read a file: {advice}") from error
        if is_server_error(reason := first_line(error)):
            raise unreadable_object("DuckDB can't read a file", reason) from error
        raise StorageUnavailableError(f"Storage does not answer as it should; run it again ({reason}).") from error


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
    """Replace the table's partitions of these days with the rows of `select`, all of which are of these days.

    A day without rows is written too, as empty; without days nothing is. Raises CommitConflictError if other writers
    keep committing first.
    """
    if not days:
        return WriteResult(table_name, {})

    def attempt() -> WriteResult:
        table = lake.tables.load(table_name)
        partition = (days[0],) if len(days) == 1 else None
        with lake.engine.scratch() as folder:
            files = copy_to_files(
                cursor or lake.engine.cursor(), select, table, folder, name="part", partition=partition
            )
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
    """Replace all rows of a table without partitions with those of `select`."""

    def attempt() -> WriteResult:
        table = lake.tables.load(table_name)
        with lake.engine.scratch() as folder:
            files = copy_to_files(cursor, select, table, folder, name="all", partition=())
            added = upload(lake.connection, table, files)
            counts = {
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
                ledger={WHOLE: counts},
                sources=sources,
                run_id=run_id,
            )
        return WriteResult(table_name, {WHOLE: counts}, done)

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
    counts: Mapping[date, Mapping[str, Any]] | None = None,
) -> WriteResult:
    """Commit uploaded files as all that these days hold. `counts` go into the ledgers beside rows."""
    touched = partitions_filter(column, days)
    sizes = partition_sizes(files, added)
    partitions = {str(day): {**sizes.get(day, NO_ROWS), **(counts or {}).get(day, {})} for day in days}
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
    """Commit uploaded files in one snapshot, with its run, ledger and other properties, and expire old snapshots.

    `touched` selects the partitions that were read or are written. Raises CommitConflictError if another writer
    committed to them first; the uploaded files are deleted then.
    """
    summary = {
        **(properties or {}),
        RUN_ID_PROPERTY: run_id,
        LEDGER_PROPERTY: json.dumps({name: _row_counts(row) for name, row in ledger.items()}),
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
    """Expire old snapshots, at most 100, and keep what they recorded as table properties.

    This runs little and often, because a commit reads and writes the whole list of snapshots. A table that is committed
    every few minutes says how many it keeps. The others also keep the last one of each day for time travel. Returns how
    many snapshots expired, or would in a dry run.
    """
    kept = table.properties.get(SNAPSHOTS_KEPT_PROPERTY)
    days = 0 if kept else lake.settings.time_travel_days
    old = expirable(table, int(kept or MIN_SNAPSHOTS_KEPT), days=days, at_least=at_least)
    if not old or dry_run:
        return len(old)
    return len(old) if expire(table, old, carried_properties(table, old)) else 0


def partition_sizes(
    files: Sequence[NewFile], added: Sequence[DataFile], position: int = -1
) -> dict[PartitionValue, dict[str, int]]:
    """Sum up rows, bytes and files of what was added, by the partition value at `position`."""
    sizes: dict[PartitionValue, dict[str, int]] = {}
    for file, data_file in zip(files, added, strict=True):
        size = sizes.setdefault(file.partition[position], dict(NO_ROWS))
        size["rows"] += data_file.record_count
        size["bytes"] += data_file.file_size_in_bytes
        size["files"] += 1
    return sizes


def _row_counts(row: Mapping[str, Any]) -> dict[str, Any]:
    """Select the counts that a ledger holds."""
    return {name: value for name, value in row.items() if name not in NOT_IN_LEDGERS}
