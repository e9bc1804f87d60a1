"""Share what bronze and realtime do to ingest landing objects: find those they lack, read them, count them."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from functools import partial
from typing import Generic, TypeVar

from pyiceberg.expressions import BooleanExpression
from pyiceberg.table import Table

from lakehouse.contracts.sql import literal
from lakehouse.engine.connection import DuckDB
from lakehouse.landing.keys import LandingObject
from lakehouse.landing.readers import InputObject
from lakehouse.landing.shared import open_landing
from lakehouse.pipeline.lake import Lake
from lakehouse.storage.iceberg.manifests import select_files
from lakehouse.storage.objects.store import Objects

READ_BATCH_ROWS = 122_880
"""Rows that are read from a table at once: one Parquet row group."""

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


def input_objects(store: Objects, objects: Iterable[LandingObject]) -> list[InputObject]:
    """Open landing objects for the readers; an object is fetched when its reader comes to it."""
    return [InputObject(obj.key, obj.arrived_at, obj.size, partial(open_landing, store, obj)) for obj in objects]


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
