"""Serving: what people and programs read beside tables: unified days, alerts, dashboards and features as objects."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pyarrow.parquet as pq
from pyiceberg.table import Table

from lakehouse.contracts.sql import literal, quote
from lakehouse.contracts.streams import Stream
from lakehouse.engine.connection import bind, scan_sql
from lakehouse.pipeline.gold import among, metrics_sql
from lakehouse.pipeline.lake import Lake
from lakehouse.pipeline.lineage.properties import SOURCES
from lakehouse.pipeline.lineage.retention import first_kept
from lakehouse.pipeline.lineage.staleness import sequence_of
from lakehouse.pipeline.unified_view import unified_sql
from lakehouse.pipeline.writing import Written, replace_days

WINDOW_DAYS = 30
"""How far back features look, the day itself included."""


@dataclass(frozen=True, slots=True)
class Exported:
    """An object that was written: its key, rows and bytes."""

    key: str
    rows: int
    bytes: int


def export_unified(lake: Lake, stream: Stream, days: Sequence[date]) -> dict[date, Exported]:
    """Write each day of the unified view as `serving/unified/{stream}/dt=…/data.parquet`, replacing what was there."""
    tables = lake.tables.load(f"silver.{stream.name}"), lake.tables.load(f"realtime.{stream.name}")
    select = unified_sql(stream, *tables, days, uncovered=lake.uncovered(stream, *tables))
    sources = json.dumps({".".join(table.name()): sequence_of(table) for table in tables})
    found: dict[date, Exported] = {}
    with lake.engine.scratch() as folder, lake.engine.cursor() as cursor:
        cursor.execute(f"create temp table unified as {select}")
        for day in days:
            path = folder / f"{day}.parquet"
            cursor.execute(
                f"copy (from unified where dt = date '{day}') to {literal(str(path))}"
                f" (format parquet, compression zstd, kv_metadata {{{quote(SOURCES)}: {literal(sources)}}})"
            )
            found[day] = _put(lake, unified_key(stream, day), path)
    return found


def unified_key(stream: Stream, day: date) -> str:
    """The object that holds a day of the unified view; its Parquet metadata say what it was written from."""
    return f"serving/unified/{stream.name}/dt={day}/data.parquet"


def write_alerts(lake: Lake, stream: Stream, days: Sequence[date], *, run_id: str = "") -> Written:
    """The alerts of these days of the unified view, into the table and one JSON object a kind and day.

    An object is `serving/alerts/{kind}_YYYYMMDD.json`: an array of alerts, newest first.
    """
    tables = lake.tables.load(f"silver.{stream.name}"), lake.tables.load(f"realtime.{stream.name}")
    sources = {".".join(table.name()): sequence_of(table) for table in tables} | stream.definition_of("alerts").sources
    select = alerts_sql(stream, *tables, days, uncovered=lake.uncovered(stream, *tables))
    name = f"serving.{stream.name}_alerts"
    before = _kinds(lake, name, days)
    written = replace_days(lake, name, select, days, sources=sources, run_id=run_id)
    _export_alerts(lake, name, days, before)
    return written


def alerts_sql(
    stream: Stream, silver: Table, realtime: Table, days: Sequence[date], *, uncovered: Sequence[str] | None
) -> str:
    """A SELECT of the alerts of these days; of realtime these hours are read, as `unified_sql` has it."""
    return bind(stream.sql("alerts"), {"events": unified_sql(stream, silver, realtime, days, uncovered=uncovered)})


def _kinds(lake: Lake, name: str, days: Sequence[date]) -> set[tuple[date, str]]:
    with lake.engine.cursor() as cursor:
        found = cursor.execute(f"select distinct dt, alert from {scan_sql(lake.tables.load(name))} where {among(days)}")
        return {(day, kind) for day, kind in found.fetchall()}


def _export_alerts(lake: Lake, name: str, days: Sequence[date], before: set[tuple[date, str]]) -> None:
    with lake.engine.cursor() as cursor:
        result = cursor.execute(
            f"select * from {scan_sql(lake.tables.load(name))} where {among(days)} order by event_time desc, event_key"
        )
        columns = [column[0] for column in result.description or []]
        by_kind: dict[tuple[date, str], list[dict[str, object]]] = {key: [] for key in before}
        for row in result.fetchall():
            alert = dict(zip(columns, row, strict=True))
            by_kind.setdefault((alert["dt"], alert["alert"]), []).append(alert)
    for (day, kind), alerts in by_kind.items():
        body = json.dumps(alerts, default=_plain, ensure_ascii=False, indent=1).encode()
        lake.objects.put(f"serving/alerts/{kind}_{day:%Y%m%d}.json", body)


def export_dashboard(lake: Lake, stream: Stream) -> Exported:
    """Write all daily metrics of the stream as `serving/dashboards/{stream}_daily_metrics.parquet`."""
    select = f"select * from ({metrics_sql(lake, stream)}) order by date_key, metric_name"
    return _export(lake, select, f"serving/dashboards/{stream.name}_daily_metrics.parquet")


def export_features(lake: Lake, stream: Stream) -> Exported:
    """Write each entity's newest features as `serving/analytics/{stream}_features.parquet`."""
    scan = scan_sql(lake.tables.load(f"serving.{stream.name}_features"))
    select = f"select * from {scan} where dt = (select max(dt) from {scan})"
    return _export(lake, select, f"serving/analytics/{stream.name}_features.parquet")


def write_features(lake: Lake, stream: Stream, days: Sequence[date], *, run_id: str = "") -> Written:
    """The features of every entity as of these days, from silver of the 30 days up to each."""
    silver = lake.tables.load(f"silver.{stream.name}")
    sources = {f"silver.{stream.name}": sequence_of(silver), **stream.definition_of("features").sources}
    select = features_sql(stream, silver, days)
    return replace_days(lake, f"serving.{stream.name}_features", select, days, sources=sources, run_id=run_id)


def features_sql(stream: Stream, silver: Table, days: Sequence[date]) -> str:
    """A SELECT of the features of every entity as of these days."""
    looked_at = {day - timedelta(days=back) for day in days for back in range(WINDOW_DAYS)}
    wanted = ", ".join(f"(date '{day}')" for day in days)
    inputs = {
        "events": f"select * from {scan_sql(silver)} where {among(sorted(looked_at))}",
        "days": f"select * from (values {wanted}) as days(dt)" if days else "select null::date as dt limit 0",
    }
    return bind(stream.sql("features"), inputs)


def feature_days(lake: Lake, stream: Stream, touched: Sequence[date]) -> list[date]:
    """The days whose features look at a touched day: these themselves, and later ones within 30 days that exist."""
    later = {
        day for day in _days_with_features(lake, stream) for moved in touched if 0 < (day - moved).days < WINDOW_DAYS
    }
    return computable_features(lake, stream, later | set(touched))


def computable_features(lake: Lake, stream: Stream, days: Iterable[date]) -> list[date]:
    """Those of the days whose features don't look back on days that silver has let go of, or that have none yet."""
    first = first_kept(stream.contract, "silver")
    if first is None:
        return sorted(days)
    known = _days_with_features(lake, stream)
    return sorted(day for day in days if day - timedelta(days=WINDOW_DAYS - 1) >= first or day not in known)


def _days_with_features(lake: Lake, stream: Stream) -> set[date]:
    scan = scan_sql(lake.tables.load(f"serving.{stream.name}_features"))
    with lake.engine.cursor() as cursor:
        return {day for (day,) in cursor.execute(f"select distinct dt from {scan}").fetchall()}


def _export(lake: Lake, select: str, key: str) -> Exported:
    with lake.engine.scratch() as folder, lake.engine.cursor() as cursor:
        path = folder / "export.parquet"
        cursor.execute(f"copy ({select}) to {literal(str(path))} (format parquet, compression zstd)")
        return _put(lake, key, path)


def _put(lake: Lake, key: str, path: Path) -> Exported:
    lake.objects.put_file(key, path)
    return Exported(key, pq.read_metadata(path).num_rows, path.stat().st_size)


def _plain(value: object) -> str:
    if isinstance(value, datetime):
        return value.isoformat() + "Z"
    return str(value) if isinstance(value, date | Decimal) else repr(value)
