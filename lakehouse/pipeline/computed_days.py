"""Compute days of a table by SQL on the lake's workers, each from the days it reads, and replace them in one commit."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date

from pyiceberg.manifest import DataFile
from pyiceberg.table import Table

from lakehouse.contracts.streams import Stream
from lakehouse.engine.connection import DuckDB, copy_to_files
from lakehouse.pipeline import shadow_engine
from lakehouse.pipeline.commits import WriteResult, commit_days, retry_on_conflict
from lakehouse.pipeline.lake import Lake
from lakehouse.storage.iceberg.commit import discarded_on_failure, upload
from lakehouse.storage.iceberg.manifests import select_files
from lakehouse.storage.iceberg.partitions import NewFile, partitions_filter

SelectOf = Callable[[Sequence[date]], str]
"""Generates the SELECT of the rows of some days."""


def compute_days(
    lake: Lake,
    stream: Stream,
    table_name: str,
    select_of: SelectOf,
    days: Sequence[date],
    *,
    reads: tuple[Table, Sequence[date]],
    sources: Mapping[str, int],
    run_id: str = "",
) -> WriteResult:
    """Replace the stream's table's partitions of these days with the rows that `select_of` gives for them.

    `reads` is the table whose days it reads most of. A day without rows is written too, as empty; without days nothing is.
    Raises CommitConflictError if other writers keep committing first.
    """
    if not days:
        return WriteResult(table_name, {})

    def attempt() -> WriteResult:
        table = lake.tables.load(table_name)
        workers = lake.workers(stream, lambda: size_of_days(*reads))
        items = [_Days(table, select_of(part), part) for part in workers.split(days)]
        files, added = list[NewFile](), list[DataFile]()
        with discarded_on_failure(lake.connection) as uploaded:
            for part_files, part_added in workers.spread(_write, items):
                files += part_files
                added += part_added
                uploaded += part_added
            shadows = shadow_engine.shadowed(lake, table, days)
            alone = [_Days(table, select_of([day]), [day]) for day in shadows]

            def compute_again() -> list[shadow_engine.Written]:
                parts = lake.other_workers(workers).spread(_write, alone)
                return [(table, [file for _, part in parts for file in part])]

            outcomes = shadow_engine.compare(lake, shadows, [(table, added)], compute_again)
        counts = {day: shadow_engine.counted(outcomes, day) for day in days}
        return commit_days(lake, table, files, added, days, sources=sources, run_id=run_id, counts=counts)

    return retry_on_conflict(attempt)


@dataclass(frozen=True, slots=True)
class _Days:
    """Days of a table, and the SELECT of their rows."""

    table: Table
    select: str
    days: Sequence[date]


def _write(engine: DuckDB, item: _Days) -> tuple[list[NewFile], list[DataFile]]:
    """Write the rows of some days, and upload their files."""
    partition = (item.days[0],) if len(item.days) == 1 else None
    with engine.scratch() as folder, engine.cursor() as cursor:
        files = copy_to_files(cursor, item.select, item.table, folder, name="part", partition=partition)
        return files, upload(engine.connection, item.table, files)


def size_of_days(table: Table, days: Sequence[date]) -> int:
    """Sum up the bytes of the data files that the table's partitions of these days hold."""
    return sum(file.file_size_in_bytes for file in select_files(table, partitions_filter("dt", days)))
