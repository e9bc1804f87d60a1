"""Delete and change rows of a table, whichever partitions they are in. What is computed from them is up to the caller."""

from collections.abc import Mapping, Sequence
from datetime import date
from functools import partial

from lakehouse.contracts.sql import literal, quote
from lakehouse.engine.connection import scan_sql
from lakehouse.engine.stream_writer import write_stream
from lakehouse.pipeline.commits import commit_files, retry_on_conflict
from lakehouse.pipeline.lake import Lake
from lakehouse.storage.iceberg.commit import upload
from lakehouse.storage.iceberg.manifests import select_files
from lakehouse.storage.iceberg.partitions import PartitionValue, partitions_filter, stored_value

ROWS_PER_BATCH = 122_880
"""Rows of one DuckDB row group."""


def delete_rows(lake: Lake, table_name: str, where: str, *, run_id: str) -> None:
    """Delete the rows of a table that match `where`, by writing the partitions that hold them again.

    Raises CommitConflictError if other writers keep committing first.
    """
    retry_on_conflict(partial(_attempt, lake, table_name, where, {}, run_id))


def change_rows(lake: Lake, table_name: str, where: str, changed: Mapping[str, str], *, run_id: str) -> None:
    """Change columns, the SQL of their values by name, in the partitions that hold rows matching `where`.

    The SQL is computed for every row of these partitions. Raises CommitConflictError as `delete_rows` does.
    """
    retry_on_conflict(partial(_attempt, lake, table_name, where, changed, run_id))


def _attempt(lake: Lake, table_name: str, where: str, changed: Mapping[str, str], run_id: str) -> None:
    """Replace the partitions that hold rows matching `where` with their other rows, or with their changed rows."""
    table = lake.tables.load(table_name)
    columns = [part.name for part in table.spec().fields]
    keys = ", ".join(map(quote, columns))
    with lake.engine.cursor() as cursor, lake.engine.scratch() as folder:
        partitions: list[tuple[PartitionValue, ...]] = cursor.execute(
            f"select distinct {keys} from {scan_sql(table)} where {where}"
        ).fetchall()
        if not partitions:
            return
        selects = (_partition_sql(columns, partition) for partition in partitions)
        cursor.execute("create temp table partitions as " + " union all ".join(selects))
        touched = partitions_filter(columns[0], [partition[0] for partition in partitions])
        internal = {tuple(stored_value(value) for value in partition) for partition in partitions}
        removed = [
            file
            for file in select_files(table, touched)
            if tuple(file.partition[position] for position in range(len(columns))) in internal
        ]
        names = [column.name for column in table.schema().fields]
        fields = ", ".join(f"{changed[name]} as {quote(name)}" if name in changed else quote(name) for name in names)
        kept = cursor.execute(
            f"select {fields} from {scan_sql(table)} semi join partitions using ({keys})"
            f" where {'true' if changed else f'not {where}'}"
        )
        files = write_stream(lake.engine, iter(kept.to_arrow_reader(ROWS_PER_BATCH)), "from chunk", table, folder)
        added = upload(lake.connection, table, files)
        ledger = {_ledger_name(columns[-1], partition[-1]): {"rows": 0} for partition in partitions}
        for file, data_file in zip(files, added, strict=True):
            ledger[_ledger_name(columns[-1], file.partition[-1])]["rows"] += data_file.record_count
        commit_files(lake, table, added, touched, removed=removed, ledger=ledger, run_id=run_id)


def _partition_sql(columns: Sequence[str], partition: Sequence[PartitionValue]) -> str:
    return "select " + ", ".join(
        f"date '{value}' as {quote(name)}" if isinstance(value, date) else f"{literal(str(value))} as {quote(name)}"
        for name, value in zip(columns, partition, strict=True)
    )


def _ledger_name(column: str, value: PartitionValue) -> str:
    """Return the partition's name in the conservation ledger."""
    return f"{value}:00" if column == "arrival_hour" else str(value)
