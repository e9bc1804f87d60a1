"""Write Parquet objects for other tools: days of the unified view, dashboards and features.

See `alerts` and `features` for what is computed into tables.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import pyarrow.parquet as pq

from lakehouse.contracts.sql import literal, quote
from lakehouse.contracts.streams import Stream
from lakehouse.engine.connection import DuckDB, scan_sql
from lakehouse.pipeline.computed_days import size_of_days
from lakehouse.pipeline.gold import metrics_sql
from lakehouse.pipeline.lake import Lake
from lakehouse.pipeline.lineage.properties import SOURCES_PROPERTY
from lakehouse.pipeline.unified_view import unified_sql
from lakehouse.storage.durability import sync
from lakehouse.storage.iceberg.catalog import qualified_name
from lakehouse.storage.iceberg.snapshots import sequence_of
from lakehouse.storage.objects.store import Objects


@dataclass(frozen=True, slots=True)
class ExportedObject:
    """An object that was written: its key, rows and bytes."""

    key: str
    rows: int
    bytes: int


def export_unified(lake: Lake, stream: Stream, days: Sequence[date]) -> dict[date, ExportedObject]:
    """Write each day of the unified view as `serving/unified/{stream}/dt=…/data.parquet`, replacing what was there."""
    tables = lake.tables.load(f"silver.{stream.name}"), lake.tables.load(f"realtime.{stream.name}")
    uncovered = lake.uncovered(stream, *tables)
    sources = json.dumps({qualified_name(table): sequence_of(table) for table in tables})
    workers = lake.workers(stream, lambda: size_of_days(tables[0], days))
    items = [
        _UnifiedDays(
            unified_sql(stream, *tables, part, uncovered=uncovered),
            {day: unified_key(stream, day) for day in part},
            sources,
        )
        for part in workers.split(days)
    ]
    exported = {day: done for part in workers.spread(_export_days, items) for day, done in part.items()}
    sync(lake.connection)
    return exported


@dataclass(frozen=True, slots=True)
class _UnifiedDays:
    """Days of the unified view, as a SELECT, with the key of each one's object."""

    select: str
    keys: Mapping[date, str]
    sources: str


def _export_days(engine: DuckDB, item: _UnifiedDays) -> dict[date, ExportedObject]:
    metadata = f"{{{quote(SOURCES_PROPERTY)}: {literal(item.sources)}}}"
    objects = Objects.from_connection(engine.connection)
    done: dict[date, ExportedObject] = {}
    with engine.scratch() as folder, engine.cursor() as cursor:
        cursor.execute(f"create temp table unified as {item.select}")
        for day, key in item.keys.items():
            path = folder / f"{day}.parquet"
            cursor.execute(
                f"copy (from unified where dt = date '{day}') to {literal(str(path))}"
                f" (format parquet, compression zstd, kv_metadata {metadata})"
            )
            done[day] = _put(objects, key, path)
    return done


def unified_key(stream: Stream, day: date) -> str:
    """Name the object that holds a day of the unified view. Its Parquet metadata record its sources."""
    return f"serving/unified/{stream.name}/dt={day}/data.parquet"


def export_dashboard(lake: Lake, stream: Stream) -> ExportedObject:
    """Write all daily metrics of the stream as `serving/dashboards/{stream}_daily_metrics.parquet`."""
    gold = lake.tables.load(f"gold.{stream.name}_daily")
    select = f"select * from ({metrics_sql(stream, gold)}) order by date_key, metric_name"
    return _export(lake, select, f"serving/dashboards/{stream.name}_daily_metrics.parquet")


def export_features(lake: Lake, stream: Stream) -> ExportedObject:
    """Write each entity's newest features as `serving/analytics/{stream}_features.parquet`."""
    scan = scan_sql(lake.tables.load(f"serving.{stream.name}_features"))
    select = f"select * from {scan} where dt = (select max(dt) from {scan})"
    return _export(lake, select, f"serving/analytics/{stream.name}_features.parquet")


def _export(lake: Lake, select: str, key: str) -> ExportedObject:
    with lake.engine.scratch() as folder, lake.engine.cursor() as cursor:
        path = folder / "export.parquet"
        cursor.execute(f"copy ({select}) to {literal(str(path))} (format parquet, compression zstd)")
        exported = _put(lake.objects, key, path)
    sync(lake.connection)
    return exported


def _put(objects: Objects, key: str, path: Path) -> ExportedObject:
    objects.put_file(key, path)
    return ExportedObject(key, pq.read_metadata(path).num_rows, path.stat().st_size)
