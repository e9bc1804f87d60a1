"""Share what bronze and realtime do to ingest landing objects: find those they lack, read them, count them."""

import logging
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import date
from functools import partial
from pathlib import Path
from typing import Generic, TypeVar

from pyiceberg.expressions import BooleanExpression
from pyiceberg.table import Table

from lakehouse.contracts.sql import literal, quote
from lakehouse.engine.connection import DuckDB, scan_sql
from lakehouse.engine.filters import objects_filter
from lakehouse.engine.stream_writer import write_stream
from lakehouse.errors import UnreadableObjectError
from lakehouse.landing.fetched_objects import FetchedObjects, fetched_objects
from lakehouse.landing.keys import LandingObject
from lakehouse.landing.readers import InputObject
from lakehouse.landing.shared import open_landing
from lakehouse.pipeline.lake import Lake
from lakehouse.storage.iceberg.manifests import select_files
from lakehouse.storage.iceberg.partitions import NewFile
from lakehouse.storage.objects.errors import first_line
from lakehouse.storage.objects.store import Objects

log = logging.getLogger(__name__)

MAX_NAMED_OBJECTS = 10

CONCURRENT_READS = 8

READ_BYTES = 1 << 20

READ_BATCH_ROWS = 122_880
"""Rows that are read from a table at once: one Parquet row group."""

W = TypeVar("W")
P = TypeVar("P")
"""A partition: a day of arrival in bronze, an hour of arrival in realtime."""


@dataclass(frozen=True, slots=True)
class IngestResult(Generic[P]):
    """The result of one ingesting run, by partition of arrival: rows, bytes, files and landing objects."""

    table: str
    partitions: Mapping[P, Mapping[str, int]]
    snapshot_id: int | None = None
    """None when there was nothing to commit."""
    event_dates: Sequence[date] = ()
    """The event dates of the rows, which silver has to compute again. Only bronze reports them."""
    unreadable: Mapping[str, str] = field(default_factory=dict)
    """Landing objects that were left out because storage can't return them, each with the reason. The next run asks again."""


def objects_in(lake: Lake, table: Table, partitions: BooleanExpression) -> set[str]:
    """List the landing objects that the table holds rows of, in the partitions that a filter selects."""
    # Iceberg finds the files by their partitions; DuckDB's scan would read the metadata of all of them.
    return objects_of_files(lake.engine, [data_file.file_path for data_file in select_files(table, partitions)])


def objects_of_files(engine: DuckDB, paths: Sequence[str]) -> set[str]:
    """List the landing objects that Parquet files hold rows of."""
    if not paths:
        return set()
    files = ", ".join(map(literal, paths))
    with engine.cursor() as cursor:
        rows = cursor.execute(
            f"select distinct _object from read_parquet([{files}], hive_partitioning = false)"
        ).fetchall()
    return {key for (key,) in rows}


def input_objects(
    store: Objects, objects: Iterable[LandingObject], fetched: FetchedObjects | None = None
) -> list[InputObject]:
    """Open landing objects for the readers; an object is fetched when its reader comes to it."""
    return [
        InputObject(obj.key, obj.arrived_at, obj.size, partial(open_landing, store, obj, fetched)) for obj in objects
    ]


def fetched_for_all(engine: DuckDB) -> FetchedObjects:
    """Return the shared objects that this process has fetched: one for all streams of a run."""
    return fetched_objects(engine.connection.endpoint, engine.connection.bucket, engine.spill.parent, os.getpid())


def write_readable(
    store: Objects, objects: Sequence[LandingObject], write: Callable[[Sequence[LandingObject]], W]
) -> tuple[W, dict[str, str]]:
    """Write the rows of those objects that storage can return. The second value says why it can't return the others."""
    try:
        return write(objects), {}
    except UnreadableObjectError:
        unreadable = _unreadable_objects(store, objects)
        if not unreadable:
            raise
    log.warning("Left out: %s", describe_unreadable(unreadable))
    return write([obj for obj in objects if obj.key not in unreadable]), unreadable


def describe_unreadable(unreadable: Mapping[str, str]) -> str:
    """Name landing objects that can't be read, with the reason of the first; empty if there are none."""
    if not unreadable:
        return ""
    names = ", ".join([*unreadable][:MAX_NAMED_OBJECTS])
    more = f" and {len(unreadable) - MAX_NAMED_OBJECTS:,} more" if len(unreadable) > MAX_NAMED_OBJECTS else ""
    return f"{names}{more}: {next(iter(unreadable.values()))}"


def _unreadable_objects(store: Objects, objects: Sequence[LandingObject]) -> dict[str, str]:
    """Read each object to its end, and return those for which storage answers with an error, with its reason."""
    with ThreadPoolExecutor(CONCURRENT_READS, thread_name_prefix="read") as pool:
        reasons = pool.map(partial(_reason_unreadable, store), objects)
        return {obj.key: reason for obj, reason in zip(objects, reasons, strict=True) if reason}


def _reason_unreadable(store: Objects, obj: LandingObject) -> str | None:
    try:
        file = open_landing(store, obj)
        while file.read(READ_BYTES):
            pass
    except UnreadableObjectError as error:
        return first_line(error)
    return None


def keep_rows(lake: Lake, table: Table, partitions: str, objects: Sequence[str], folder: Path) -> list[NewFile]:
    """Write the rows that a table holds of landing objects again as they are, in the partitions that a filter selects."""
    columns = ", ".join(quote(column.name) for column in table.schema().fields)
    with lake.engine.cursor() as cursor:
        kept = cursor.execute(
            f"select {columns} from {scan_sql(table)} where {partitions} and {objects_filter(objects)}"
        )
        return write_stream(lake.engine, iter(kept.to_arrow_reader(READ_BATCH_ROWS)), "from chunk", table, folder)


def count_by_partition(
    partitions: Iterable[P],
    sizes: Mapping[P, Mapping[str, int]],
    objects: Iterable[LandingObject],
    partition_of: Callable[[LandingObject], P],
) -> dict[P, dict[str, int]]:
    """Count rows, bytes, files and landing objects of each partition, also of those without any."""
    counts = {partition: {"rows": 0, "bytes": 0, "files": 0, "objects": 0} for partition in partitions}
    for partition, size in sizes.items():
        counts[partition] |= size
    for obj in objects:
        counts[partition_of(obj)]["objects"] += 1
    return counts
