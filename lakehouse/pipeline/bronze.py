"""Bronze: every landed row as text, by day of arrival and event date. It takes the landing objects it does not hold yet.

Nothing is remembered but the table itself, so a run can be repeated or killed at any point.
"""

import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from functools import partial
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.compute as pc
from pyiceberg.expressions.parser import parse
from pyiceberg.table import Table

from lakehouse.contracts.model import Contract
from lakehouse.contracts.sql import day_sql, literal, quote
from lakehouse.contracts.streams import Stream
from lakehouse.engine.connection import scan_sql
from lakehouse.engine.stream_writer import write_chunks, write_stream
from lakehouse.errors import LakehouseError
from lakehouse.landing.keys import LandingObject, hour_of
from lakehouse.landing.listing import list_days
from lakehouse.landing.readers import InputObject, bronze_batches
from lakehouse.pipeline.lake import Lake
from lakehouse.pipeline.lineage.properties import WITHOUT_ROWS, objects_without_rows, seen_note
from lakehouse.pipeline.lineage.realtime_coverage import note_definition, note_seen, unseen_days
from lakehouse.pipeline.writing import commit_files, measure, recomputing
from lakehouse.storage.iceberg.commit import files_of, partitions_filter, upload
from lakehouse.storage.iceberg.data_file import NewFile

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Landed:
    """What a run of bronze added: rows and objects by day of arrival, and which event dates it touched."""

    table: str
    partitions: Mapping[date, Mapping[str, int]]
    touched: Sequence[date] = ()
    snapshot_id: int | None = None


def land_days(lake: Lake, stream: Stream, days: Sequence[date], *, replace: bool = False, run_id: str = "") -> Landed:
    """Append the landing objects of these days that bronze does not hold; with `replace`, read them all again.

    Rows whose landing object has been deleted since are kept as they are. Raises CommitConflictError when other writers
    of these days keep being first.
    """
    return recomputing(lambda: _attempt(lake, stream, sorted(set(days)), replace, run_id))


def _attempt(lake: Lake, stream: Stream, days: Sequence[date], replace: bool, run_id: str) -> Landed:
    realtime = lake.tables.load(f"realtime.{stream.name}")  # before landing is listed, which then has what this has
    table = lake.tables.load(f"bronze.{stream.name}")
    note_definition(table, stream)
    wanted = set(days)
    listed = list_days(lake.objects, stream.name, days[0], days[-1]) if days else {}
    landings = {one.key: one for day, found in listed.items() if day in wanted for one in found}
    held = _held(lake, table, days)
    known = held | objects_without_rows(table)
    todo = [one for key, one in sorted(landings.items()) if replace or key not in known]
    found = {day: {"rows": 0, "bytes": 0, "files": 0, "objects": 0} for day in days}
    if not todo and not (replace and held):
        note_seen(table, realtime, _seen_days(lake, table, realtime, days, known))
        return Landed(f"bronze.{stream.name}", found)
    seen = _seen_days(lake, table, realtime, days, known | {one.key for one in todo})
    touched = partitions_filter("arrival_dt", days)
    with lake.engine.scratch() as folder:
        files = _write(lake, stream, table, todo, folder)
        empty = sorted({one.key for one in todo} - _objects_in(lake, [str(file.path) for file in files]))
        if replace and (gone := sorted(held - set(landings))):
            files += _keep(lake, table, days, gone, folder)
        added = upload(lake.connection, table, files)
        for day, size in measure(files, added, position=0).items():
            found[day] |= size  # type: ignore[index]
        for one in todo:
            found[one.day]["objects"] += 1
        by_event_day = {str(day): {"rows": size["rows"]} for day, size in measure(files, added).items()}
        removed = files_of(table, touched) if replace else []
        done = commit_files(
            lake, table, added, touched, removed=removed, ledger=by_event_day, run_id=run_id,
            notes=seen_note(realtime, seen) | ({WITHOUT_ROWS: json.dumps(empty)} if empty else {}),
        )  # fmt: skip
    return Landed(f"bronze.{stream.name}", found, [date.fromisoformat(day) for day in by_event_day], done.snapshot_id)


def _seen_days(lake: Lake, table: Table, realtime: Table, days: Sequence[date], taken: set[str]) -> list[date]:
    """Those of the days of arrival, as far as it is not said of them yet, of which realtime has no other landing object.

    What keeps realtime from being read keeps nobody from landing: it is not said then.
    """
    try:
        unseen = unseen_days(table, realtime, days)
        hours = [f"{day}-{hour:02}" for day in unseen for hour in range(24)]
        files = files_of(realtime, partitions_filter("arrival_hour", hours)) if hours else []
        missing = _objects_in(lake, [file.file_path for file in files]) - taken
    except (LakehouseError, OSError, duckdb.Error) as problem:
        log.info("what bronze.%s has of realtime is not noted: %s", table.name()[1], problem)
        return []
    not_here = {hour.date() for key in missing if (hour := hour_of(key)) is not None}
    return [day for day in unseen if day not in not_here]


def missed_days(lake: Lake, stream: Stream, first: date, last: date) -> list[date]:
    """Days from `first` to `last` with landing objects that bronze does not hold."""
    listed = {day: found for day, found in list_days(lake.objects, stream.name, first, last).items() if found}
    held = taken(lake, lake.tables.load(f"bronze.{stream.name}"), list(listed))
    return [day for day, found in listed.items() if any(one.key not in held for one in found)]


def held_objects(lake: Lake, table: Table, where: str) -> set[str]:
    """The landing objects that the table holds rows of, in the partitions that `where` selects, such as `dt in ('…')`."""
    # Iceberg finds the files by their partitions; DuckDB's scan would read what the table says of all of them.
    paths = [data_file.file_path for data_file in files_of(table, parse(where))]
    return _objects_in(lake, paths)


def taken(lake: Lake, table: Table, days: Sequence[date]) -> set[str]:
    """The landing objects of these days of arrival that bronze has read, those without rows too."""
    return _held(lake, table, days) | objects_without_rows(table)


def _objects_in(lake: Lake, paths: Sequence[str]) -> set[str]:
    if not paths:
        return set()
    files = ", ".join(map(literal, paths))
    with lake.engine.cursor() as cursor:
        rows = cursor.execute(
            f"select distinct _object from read_parquet([{files}], hive_partitioning = false)"
        ).fetchall()
    return {key for (key,) in rows}


def _held(lake: Lake, table: Table, days: Sequence[date]) -> set[str]:
    return held_objects(lake, table, _arrived_in(days)) if days else set()


def _arrived_in(days: Sequence[date]) -> str:
    return "arrival_dt in (" + ", ".join(f"'{day}'" for day in days) + ")"


def sources(lake: Lake, landings: Sequence[LandingObject]) -> list[InputObject]:
    """Landing objects as the readers want them."""
    return [InputObject(one.key, one.arrived_at, one.size, partial(lake.objects.open, one.key)) for one in landings]


def _write(lake: Lake, stream: Stream, table: Table, todo: Sequence[LandingObject], folder: Path) -> list[NewFile]:
    batches = bronze_batches(stream.contract, sources(lake, todo))
    return write_chunks(lake.engine, batches, partial(_with_days, stream.contract), table, folder)


def _with_days(contract: Contract, cursor: duckdb.DuckDBPyConnection, chunk: pa.Table) -> pa.Table:
    """The chunk with `arrival_dt` and `dt`. Both are computed once for all rows that tell the same time."""
    time = contract.event_time
    if pc.count_distinct(chunk["_arrived_at"]).as_py() == 1:
        told: Any = chunk[time].combine_chunks().dictionary_encode(null_encoding="encode")
        times = pa.table(
            {time: told.dictionary, "_arrived_at": pa.repeat(chunk["_arrived_at"][0], len(told.dictionary))}
        )
        days = _days(contract, cursor, times).take(told.indices)
    else:
        days = _days(contract, cursor, chunk.select([time, "_arrived_at"]))
    return chunk.append_column("arrival_dt", days["arrival_dt"]).append_column("dt", days["dt"])


def _days(contract: Contract, cursor: duckdb.DuckDBPyConnection, times: pa.Table) -> pa.Table:
    """The days of each of these times, in their order, which DuckDB keeps unless it is told not to."""
    cursor.register("times", times)
    select = f"select cast(_arrived_at as date) as arrival_dt, {day_sql(contract, 'times')} as dt from times"
    return cursor.execute(select).to_arrow_table()


def _keep(lake: Lake, table: Table, days: Sequence[date], gone: Sequence[str], folder: Path) -> list[NewFile]:
    """Rows of objects that are no longer in landing, as they are."""
    keys = ", ".join(map(literal, gone))
    columns = ", ".join(quote(column.name) for column in table.schema().fields)
    with lake.engine.cursor() as cursor:
        kept = cursor.execute(
            f"select {columns} from {scan_sql(table)} where {_arrived_in(days)} and _object in ({keys})"
        )
        return write_stream(lake.engine, _reader(kept), "from chunk", table, _subfolder(folder, "kept"))


def _reader(result: duckdb.DuckDBPyConnection) -> Iterator[pa.RecordBatch]:
    yield from result.to_arrow_reader(122_880)


def _subfolder(folder: Path, name: str) -> Path:
    (folder / name).mkdir()
    return folder / name
