"""Compute bronze: every landed row as text, by day of arrival and event date.

A run ingests the landing objects that the table does not hold. Only the table records which those are, so a run can be
killed at any point and repeated.
"""

import dataclasses
import json
import logging
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from functools import partial
from typing import Any, cast

import duckdb
import pyarrow as pa
import pyarrow.compute as pc
from pyiceberg.manifest import DataFile
from pyiceberg.table import Table

from lakehouse.contracts.model import Contract
from lakehouse.contracts.sql import day_sql
from lakehouse.contracts.streams import Stream
from lakehouse.engine.connection import DuckDB
from lakehouse.engine.filters import days_filter
from lakehouse.engine.stream_writer import write_chunks
from lakehouse.engine.workers import Workers
from lakehouse.errors import LakehouseError
from lakehouse.landing.keys import LandingObject, hour_of
from lakehouse.landing.listing import list_days
from lakehouse.landing.readers import bronze_batches
from lakehouse.pipeline import shadow_engine
from lakehouse.pipeline.commits import commit_files, partition_sizes, retry_on_conflict
from lakehouse.pipeline.file_names import FILE_COLUMN, file_column, file_names, has_file_column
from lakehouse.pipeline.ingest import (
    IngestResult,
    count_by_partition,
    fetched_for_all,
    input_objects,
    keep_rows,
    objects_in,
    objects_of_files,
    write_readable,
)
from lakehouse.pipeline.lake import Lake
from lakehouse.pipeline.lineage.properties import (
    OBJECTS_WITHOUT_ROWS_PROPERTY,
    objects_without_rows,
    seen_property,
)
from lakehouse.pipeline.lineage.realtime_coverage import record_definition, record_seen, unseen_days
from lakehouse.pipeline.lineage.retention import is_expired
from lakehouse.storage.iceberg.commit import discarded_on_failure, upload
from lakehouse.storage.iceberg.manifests import select_files
from lakehouse.storage.iceberg.partitions import NewFile, partitions_filter
from lakehouse.storage.objects.store import Objects

log = logging.getLogger(__name__)

EXPIRED = "expired"
"""The count of rows that are older than silver keeps, so that only bronze has them."""


def ingest_days(
    lake: Lake, stream: Stream, days: Sequence[date], *, replace: bool = False, run_id: str = ""
) -> IngestResult[date]:
    """Append the landing objects of these days of arrival that bronze does not hold.

    With `replace`, all of them are read again. Rows whose landing object has been deleted since stay as they are, and so
    do those of objects that storage can't return.
    Raises CommitConflictError when other writers keep committing to these days first.
    """
    return retry_on_conflict(lambda: _ingest(lake, stream, sorted(set(days)), replace, run_id))


def pending_days(lake: Lake, stream: Stream, first: date, last: date) -> list[date]:
    """List the days of arrival from `first` to `last` with landing objects that bronze has not ingested."""
    listed = {day: objects for day, objects in list_days(lake.objects, stream.name, first, last).items() if objects}
    ingested = ingested_objects(lake, lake.tables.load(f"bronze.{stream.name}"), list(listed))
    return [day for day, objects in listed.items() if any(obj.key not in ingested for obj in objects)]


def ingested_objects(lake: Lake, table: Table, days: Sequence[date]) -> set[str]:
    """List the landing objects of these days of arrival that bronze has ingested, including those without rows."""
    return objects_in(lake, table, partitions_filter("arrival_dt", days)) | objects_without_rows(table)


@dataclass(frozen=True, slots=True)
class _Plan:
    """The landing objects of one attempt."""

    landed: set[str]
    """Keys of all that are in landing."""
    held: set[str]
    """Keys that bronze holds rows of."""
    ingested: set[str]
    """Keys that bronze has ingested: `held`, and those that had no rows."""
    to_read: list[LandingObject]

    def kept(self, unreadable: Collection[str]) -> list[str]:
        """Keys that bronze holds rows of, and that landing no longer has or can't return."""
        return sorted(self.held.difference(self.landed).union(self.held.intersection(unreadable)))


def _ingest(lake: Lake, stream: Stream, days: Sequence[date], replace: bool, run_id: str) -> IngestResult[date]:
    # Realtime is loaded before landing is listed: the listing then has every object that this version of realtime has.
    realtime = lake.tables.load(f"realtime.{stream.name}")
    table = lake.tables.load(f"bronze.{stream.name}")
    record_definition(table, stream)
    plan = _plan(lake, stream, table, days, replace)
    if not plan.to_read and not (replace and plan.held):
        record_seen(table, realtime, _seen_days(lake, table, realtime, days, plan.ingested))
        return IngestResult(f"bronze.{stream.name}", count_by_partition(days, {}, (), _day_of))
    touched = partitions_filter("arrival_dt", days)
    workers = lake.workers(stream, lambda: sum(map(_size, plan.to_read)))
    groups = [_Group(stream.contract, table, objects) for objects in workers.split(plan.to_read, _size)]
    files, added, with_rows, unreadable = list[NewFile](), list[DataFile](), set[str](), dict[str, str]()
    with discarded_on_failure(lake.connection) as uploaded:
        for part in workers.spread(_read_group, groups):
            files += part.files
            added += part.added
            with_rows |= part.objects
            unreadable |= part.unreadable
            uploaded += part.added
        outcomes = _compare_engines(lake, stream, table, workers, plan, added)
        if replace and (keys := plan.kept(unreadable)):
            kept = _keep_rows(lake, table, days, keys)
            files += kept.files
            added += kept.added
    read = [obj for obj in plan.to_read if obj.key not in unreadable]
    if not read and not replace:
        return IngestResult(f"bronze.{stream.name}", count_by_partition(days, {}, (), _day_of), unreadable=unreadable)
    read_keys = {obj.key for obj in read}
    seen = _seen_days(lake, table, realtime, days, plan.ingested | read_keys)
    by_arrival = cast("dict[date, dict[str, int]]", partition_sizes(files, added, position=0))
    by_event_date = cast("dict[date, dict[str, int]]", partition_sizes(files, added))
    _count_expired(stream, files, added, by_arrival)
    done = commit_files(
        lake,
        table,
        added,
        touched,
        removed=select_files(table, touched) if replace else [],
        ledger={str(day): _ledger(stream, day, size["rows"]) | outcomes for day, size in by_event_date.items()},
        run_id=run_id,
        properties=seen_property(realtime, seen) | _without_rows_property(sorted(read_keys - with_rows)),
    )
    counts = count_by_partition(days, by_arrival, read, _day_of)
    return IngestResult(f"bronze.{stream.name}", counts, done.snapshot_id, list(by_event_date), unreadable)


def _compare_engines(
    lake: Lake, stream: Stream, table: Table, workers: Workers, plan: _Plan, added: Sequence[DataFile]
) -> dict[str, Any]:
    """Read the objects of a share of the days of arrival on the other engine too; returns the outcome for the ledgers."""
    days = shadow_engine.shadowed(lake, table, sorted({obj.day for obj in plan.to_read}))
    objects = [obj for obj in plan.to_read if obj.day in days]

    def read() -> list[shadow_engine.Written]:
        other = lake.other_workers(workers)
        groups = [_Group(stream.contract, table, part) for part in other.split(objects, _size)]
        return [(table, [file for part in other.spread(_read_group, groups) for file in part.added])]

    outcomes = shadow_engine.compare(lake, days, [(table, added)], read, by="arrival_dt")
    worst = max(outcomes.values(), key=("same", "failed", "differs").index, default=None)
    return {shadow_engine.OUTCOME: worst} if worst else {}


def _count_expired(
    stream: Stream, files: Sequence[NewFile], added: Sequence[DataFile], by_arrival: Mapping[date, dict[str, int]]
) -> None:
    """Add to the counts of each day of arrival how many rows are older than silver keeps, where there are any."""
    for file, data_file in zip(files, added, strict=True):
        arrival, day = cast("tuple[date, date]", file.partition)
        if is_expired(stream.contract, "silver", day):
            counts = by_arrival[arrival]
            counts[EXPIRED] = counts.get(EXPIRED, 0) + data_file.record_count


def _ledger(stream: Stream, day: date, rows: int) -> dict[str, int]:
    """Return the ledger of an event date. It also says how many of the rows no layer below bronze will ever have."""
    return {"rows": rows} | ({EXPIRED: rows} if is_expired(stream.contract, "silver", day) else {})


def _plan(lake: Lake, stream: Stream, table: Table, days: Sequence[date], replace: bool) -> _Plan:
    wanted = set(days)
    listed = list_days(lake.objects, stream.name, days[0], days[-1]) if days else {}
    landed = {obj.key: obj for day, objects in listed.items() if day in wanted for obj in objects}
    held = objects_in(lake, table, partitions_filter("arrival_dt", days))
    ingested = held | objects_without_rows(table)
    to_read = [obj for key, obj in sorted(landed.items()) if replace or key not in ingested]
    return _Plan(set(landed), held, ingested, to_read)


def _seen_days(lake: Lake, table: Table, realtime: Table, days: Sequence[date], ingested: set[str]) -> list[date]:
    """List the days of arrival that bronze has not recorded as seen yet and can now: realtime has no other object there.

    Where realtime can't be read nothing is recorded, because bronze does not depend on it.
    """
    try:
        unseen = unseen_days(table, realtime, days)
        hours = [f"{day}-{hour:02}" for day in unseen for hour in range(24)]
        only_in_realtime = objects_in(lake, realtime, partitions_filter("arrival_hour", hours)) - ingested
    except (LakehouseError, OSError, duckdb.Error) as error:
        log.info("bronze.%s does not record what it has seen of realtime: %s", table.name()[1], error)
        return []
    open_days = {hour.date() for key in only_in_realtime if (hour := hour_of(key)) is not None}
    return [day for day in unseen if day not in open_days]


def _without_rows_property(keys: Sequence[str]) -> dict[str, str]:
    return {OBJECTS_WITHOUT_ROWS_PROPERTY: json.dumps(keys)} if keys else {}


def _day_of(obj: LandingObject) -> date:
    return obj.day


@dataclass(frozen=True, slots=True)
class _Group:
    """Landing objects to read together."""

    contract: Contract
    table: Table
    objects: Sequence[LandingObject]


@dataclass(frozen=True, slots=True)
class _Written:
    """Uploaded files, and the landing objects that they hold rows of."""

    files: list[NewFile]
    added: list[DataFile]
    objects: set[str] = field(default_factory=set)
    unreadable: dict[str, str] = field(default_factory=dict)
    """Objects that storage can't return, each with the reason."""


def _read_group(engine: DuckDB, group: _Group) -> _Written:
    """Read landing objects and upload their rows, but for objects that storage can't return."""
    store = Objects.from_connection(engine.connection)
    written, unreadable = write_readable(store, group.objects, partial(_write, engine, store, group))
    return dataclasses.replace(written, unreadable=unreadable)


def _write(engine: DuckDB, store: Objects, group: _Group, objects: Sequence[LandingObject]) -> _Written:
    batches = bronze_batches(group.contract, input_objects(store, objects, fetched_for_all(engine)))
    names = file_names(store, [obj.key for obj in objects]) if has_file_column(group.table) else {}
    with engine.scratch() as folder:
        files = write_chunks(engine, batches, partial(_with_days, group.contract, names), group.table, folder)
        with_rows = objects_of_files(engine, [str(file.path) for file in files])
        return _Written(files, upload(engine.connection, group.table, files), with_rows)


def _size(obj: LandingObject) -> int:
    return obj.size


def _with_days(
    contract: Contract, names: Mapping[str, str], cursor: duckdb.DuckDBPyConnection, chunk: pa.Table
) -> pa.Table:
    """Add `arrival_dt` and `dt`, computed once for each distinct time, and the names of files, by landing object."""
    time = contract.event_time
    if pc.count_distinct(chunk["_arrived_at"]).as_py() == 1:
        encoded: Any = chunk[time].combine_chunks().dictionary_encode(null_encoding="encode")
        times = pa.table(
            {time: encoded.dictionary, "_arrived_at": pa.repeat(chunk["_arrived_at"][0], len(encoded.dictionary))}
        )
        days = _days(contract, cursor, times).take(encoded.indices)
    else:
        days = _days(contract, cursor, chunk.select([time, "_arrived_at"]))
    chunk = chunk.append_column(FILE_COLUMN, file_column(chunk["_object"], names))
    return chunk.append_column("arrival_dt", days["arrival_dt"]).append_column("dt", days["dt"])


def _days(contract: Contract, cursor: duckdb.DuckDBPyConnection, times: pa.Table) -> pa.Table:
    """Compute the days of each of these times, in their order; DuckDB preserves insertion order by default."""
    cursor.register("times", times)
    select = f"select cast(_arrived_at as date) as arrival_dt, {day_sql(contract, 'times')} as dt from times"
    return cursor.execute(select).to_arrow_table()


def _keep_rows(lake: Lake, table: Table, days: Sequence[date], objects: Sequence[str]) -> _Written:
    """Upload the rows of landing objects again as they are."""
    with lake.engine.scratch() as folder:
        files = keep_rows(lake, table, days_filter(days, "arrival_dt"), objects, folder)
        return _Written(files, upload(lake.connection, table, files))
