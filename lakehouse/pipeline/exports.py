"""Write Parquet objects for other tools: days of the unified view, dashboards and features.

See `alerts` and `features` for what is computed into tables.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import pyarrow.parquet as pq

from lakehouse.contracts.sql import literal, quote
from lakehouse.contracts.streams import Stream
from lakehouse.engine.connection import scan_sql
from lakehouse.pipeline.gold import metrics_sql
from lakehouse.pipeline.lake import Lake
from lakehouse.pipeline.lineage.properties import SOURCES_PROPERTY
from lakehouse.pipeline.unified_view import unified_sql
from lakehouse.storage.durability import sync
from lakehouse.storage.iceberg.catalog import qualified_name
from lakehouse.storage.iceberg.snapshots import sequence_of


@dataclass(frozen=True, slots=True)
class ExportedObject:
    """An object that was written: its key, rows and bytes."""

    key: str
    rows: int
    bytes: int


def export_unified(lake: Lake, stream: Stream, days: Sequence[date]) -> dict[date, ExportedObject]:
    """Write each day of the unified view as `serving/unified/{stream}/dt=…/data.parquet`, replacing what was there."""
    tables = lake.tables.load(f"silver.{stream.name}"), lake.tables.load(f"realtime.{stream.name}")
    select = unified_sql(stream, *tables, days, uncovered=lake.uncovered(stream, *tables))
    sources = json.dumps({qualified_name(table): sequence_of(table) for table in tables})
    objects: dict[date, ExportedObject] = {}
    with lake.engine.scratch() as folder, lake.engine.cursor() as cursor:
        cursor.execute(f"create temp table unified as {select}")
        for day in days:
            path = folder / f"{day}.parquet"
            cursor.execute(
                f"copy (from unified where dt = date '{day}') to {literal(str(path))}"
                f" (format parquet, compression zstd, kv_metadata {{{quote(SOURCES_PROPERTY)}: {literal(sources)}}})"
            )
            objects[day] = _put(lake, unified_key(stream, day), path)
    sync(lake.connection)
    return objects


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
        exported = _put(lake, key, path)
    sync(lake.connection)
    return exported


def _put(lake: Lake, key: str, path: Path) -> ExportedObject:
    lake.objects.put_file(key, path)
    return ExportedObject(key, pq.read_metadata(path).num_rows, path.stat().st_size)
