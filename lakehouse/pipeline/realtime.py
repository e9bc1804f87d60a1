"""Compute realtime: the valid rows of the landing micro-batches by hour of arrival, minutes after they landed.

A run ingests the landing objects that the table does not hold, and cleans them with the SQL that silver uses. The table
may hold several rows of one key; readers take the latest. See `unified_view`.
"""

from collections.abc import Sequence
from datetime import date
from functools import partial
from pathlib import Path
from typing import cast

from pyiceberg.table import Table

from lakehouse.contracts.sql import BRONZE_COLUMNS, clean_sql, day_sql, quote
from lakehouse.contracts.streams import Stream
from lakehouse.engine.connection import bind, scan_sql
from lakehouse.engine.filters import hours_filter
from lakehouse.engine.stream_writer import write_stream
from lakehouse.landing.keys import ARRIVAL_HOUR_FORMAT, LandingObject, arrival_hour, parse_hour
from lakehouse.landing.listing import list_hour
from lakehouse.landing.readers import bronze_batches
from lakehouse.pipeline.commits import commit_files, partition_sizes, retry_on_conflict
from lakehouse.pipeline.ingest import (
    IngestResult,
    count_by_partition,
    fetched_for_all,
    input_objects,
    keep_rows,
    objects_in,
    write_readable,
)
from lakehouse.pipeline.lake import Lake
from lakehouse.pipeline.lineage.realtime_coverage import record_definition
from lakehouse.storage.iceberg.commit import upload
from lakehouse.storage.iceberg.manifests import select_files
from lakehouse.storage.iceberg.partitions import NewFile, partitions_filter


def ingest_hours(
    lake: Lake, stream: Stream, hours: Sequence[str], *, replace: bool = False, run_id: str = ""
) -> IngestResult[str]:
    """Append the micro-batches of these hours of arrival (`2025-11-20-14:00`) that realtime does not hold.

    With `replace`, all of them are read again; rows of objects that storage can't return stay as they are. Raises
    CommitConflictError when other writers keep committing to these hours first.
    """
    return retry_on_conflict(lambda: _ingest(lake, stream, sorted(set(hours)), replace, run_id))


def _ingest(lake: Lake, stream: Stream, hours: Sequence[str], replace: bool, run_id: str) -> IngestResult[str]:
    name = f"realtime.{stream.name}"
    table = lake.tables.load(name)
    record_definition(table, stream)
    touched = partitions_filter("arrival_hour", map(arrival_hour_of, hours))
    landed = [obj for hour in hours for obj in list_hour(lake.objects, stream.name, hour)]
    held = set() if replace or not landed else objects_in(lake, table, touched)
    to_read = [obj for obj in landed if obj.key not in held]
    if not to_read and not replace:
        return IngestResult(name, count_by_partition(hours, {}, (), _hour_of))
    with lake.engine.scratch() as folder:
        files, unreadable = write_readable(lake.objects, to_read, partial(_write, lake, stream, table, folder))
        if replace and unreadable:
            (kept := folder / "kept").mkdir()
            files += keep_rows(lake, table, hours_filter(map(arrival_hour_of, hours)), sorted(unreadable), kept)
        added = upload(lake.connection, table, files)
        removed = select_files(table, touched) if replace else []
        sizes = cast("dict[str, dict[str, int]]", partition_sizes(files, added))
        read = [obj for obj in to_read if obj.key not in unreadable]
        by_hour = {hour: sizes.get(arrival_hour_of(hour), {}) for hour in hours}
        counts = count_by_partition(hours, by_hour, read, _hour_of)
        if not added and not removed:
            return IngestResult(name, counts, unreadable=unreadable)
        done = commit_files(lake, table, added, touched, removed=removed, ledger=counts, run_id=run_id)
    return IngestResult(name, counts, done.snapshot_id, unreadable=unreadable)


def arrival_hour_of(hour: str) -> str:
    """Convert a Dagster hour (`2025-11-20-14:00`) to the table's partition value (`2025-11-20-14`)."""
    return arrival_hour(parse_hour(hour))


def valid_rows_sql(stream: Stream) -> str:
    """Generate the SELECT of realtime's rows over bronze rows, as the readers return them, in `chunk`."""
    contract = stream.contract
    columns = ", ".join([*(quote(f.name) for f in contract.fields), *BRONZE_COLUMNS])
    fields = ", ".join([*(quote(f.name) for f in contract.fields), "dt", "_arrived_at", "_object", "_row"])
    enriched = bind(
        stream.sql("silver"),
        {
            "bronze": f"select {columns}, {day_sql(contract, 'chunk')} as dt from chunk",
            "valid": f"select {fields} from ({clean_sql(contract)}) where _valid",
        },
    )
    return f"select *, strftime(_arrived_at, '{ARRIVAL_HOUR_FORMAT}') as arrival_hour from ({enriched})"


def event_dates_of(lake: Lake, stream: Stream, hours: Sequence[str]) -> list[date]:
    """List the event dates of the rows that arrived in these hours, in order."""
    scan = scan_sql(lake.tables.load(f"realtime.{stream.name}"))
    where = hours_filter(map(arrival_hour_of, hours))
    with lake.engine.cursor() as cursor:
        rows = cursor.execute(f"select distinct dt from {scan} where {where} order by dt").fetchall()
    return [day for (day,) in rows]


def _hour_of(obj: LandingObject) -> str:
    return obj.hour


def _write(lake: Lake, stream: Stream, table: Table, folder: Path, objects: Sequence[LandingObject]) -> list[NewFile]:
    if not objects:
        return []
    batches = bronze_batches(stream.contract, input_objects(lake.objects, objects, fetched_for_all(lake.engine)))
    return write_stream(lake.engine, batches, valid_rows_sql(stream), table, folder)
