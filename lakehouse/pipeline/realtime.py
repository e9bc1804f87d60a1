"""Realtime: the valid rows of the landing micro-batches by hour of arrival, minutes after they landed.

It takes the landing objects it does not hold yet and runs the cleaning that silver runs. Rows of one key may be there
twice; whoever reads them keeps the latest.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from pyiceberg.table import Table

from lakehouse.contracts.sql import BRONZE_COLUMNS, clean_sql, day_sql, literal, quote
from lakehouse.contracts.streams import Stream
from lakehouse.engine.connection import bind, scan_sql
from lakehouse.engine.stream_writer import write_stream
from lakehouse.landing.keys import ARRIVAL_HOUR_FORMAT, LandingObject, arrival_hour, parse_hour
from lakehouse.landing.listing import list_hour
from lakehouse.landing.readers import bronze_batches
from lakehouse.pipeline.bronze import held_objects, sources
from lakehouse.pipeline.lake import Lake
from lakehouse.pipeline.lineage.realtime_coverage import note_definition
from lakehouse.pipeline.writing import commit_files, measure, recomputing
from lakehouse.storage.iceberg.commit import files_of, partitions_filter, upload
from lakehouse.storage.iceberg.data_file import NewFile


@dataclass(frozen=True, slots=True)
class Fresh:
    """What a run of realtime added to each hour: rows, bytes, files and the landing objects read."""

    table: str
    partitions: Mapping[str, Mapping[str, int]]
    snapshot_id: int | None = None


def refresh_hours(
    lake: Lake, stream: Stream, hours: Sequence[str], *, replace: bool = False, run_id: str = ""
) -> Fresh:
    """Append the micro-batches of these hours (`2025-11-20-14:00`) that the table does not hold; or read them all again.

    Raises CommitConflictError when other writers of these hours keep being first.
    """
    return recomputing(lambda: _attempt(lake, stream, sorted(set(hours)), replace, run_id))


def _attempt(lake: Lake, stream: Stream, hours: Sequence[str], replace: bool, run_id: str) -> Fresh:
    table = lake.tables.load(f"realtime.{stream.name}")
    note_definition(table, stream)
    landings = [one for hour in hours for one in list_hour(lake.objects, stream.name, hour)]
    values = [partition_of(hour) for hour in hours]
    hour_of_value = dict(zip(values, hours, strict=True))
    found = {hour: {"rows": 0, "bytes": 0, "files": 0, "objects": 0} for hour in hours}
    held = set() if replace or not landings else _held(lake, table, values)
    todo = [one for one in landings if one.key not in held]
    if not todo and not replace:
        return Fresh(f"realtime.{stream.name}", found)
    touched = partitions_filter("arrival_hour", values)
    with lake.engine.scratch() as folder:
        files = _write(lake, stream, table, todo, folder)
        added = upload(lake.connection, table, files)
        removed = files_of(table, touched) if replace else []
        for value, size in measure(files, added).items():
            found[hour_of_value[str(value)]] |= size
        for one in todo:
            found[one.hour]["objects"] += 1
        if not added and not removed:
            return Fresh(f"realtime.{stream.name}", found)
        done = commit_files(lake, table, added, touched, removed=removed, ledger=found, run_id=run_id)
    return Fresh(f"realtime.{stream.name}", found, done.snapshot_id)


def partition_of(hour: str) -> str:
    """The table's partition value of a Dagster hour: `2025-11-20-14`, for a colon is awkward in the names of objects."""
    return arrival_hour(parse_hour(hour))


def _held(lake: Lake, table: Table, values: Sequence[str]) -> set[str]:
    return held_objects(lake, table, f"arrival_hour in ({', '.join(map(literal, values))})")


def _write(lake: Lake, stream: Stream, table: Table, todo: Sequence[LandingObject], folder: Path) -> list[NewFile]:
    if not todo:
        return []
    batches = bronze_batches(stream.contract, sources(lake, todo))
    return write_stream(lake.engine, batches, rows_sql(stream), table, folder)


def rows_sql(stream: Stream) -> str:
    """A SELECT of the table's rows over landed ones, as the readers give them, in `chunk`."""
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


def days_of(lake: Lake, stream: Stream, hours: Sequence[str]) -> list[date]:
    """The event dates of the rows that arrived in these hours."""
    table = lake.tables.load(f"realtime.{stream.name}")
    values = ", ".join(literal(partition_of(hour)) for hour in hours)
    with lake.engine.cursor() as cursor:
        rows = cursor.execute(
            f"select distinct dt from {scan_sql(table)} where arrival_hour in ({values}) order by dt"
        ).fetchall()
    return [day for (day,) in rows]
