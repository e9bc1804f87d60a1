"""Compute a stream's alerts: its `alerts.sql` over the unified view, as a table and as JSON objects."""

import json
from collections.abc import Sequence
from datetime import date, datetime
from decimal import Decimal

from pyiceberg.table import Table

from lakehouse.contracts.streams import Stream
from lakehouse.engine.connection import bind, scan_sql
from lakehouse.engine.filters import days_filter
from lakehouse.pipeline.commits import WriteResult, replace_days
from lakehouse.pipeline.lake import Lake
from lakehouse.pipeline.unified_view import unified_sql
from lakehouse.storage.iceberg.catalog import qualified_name
from lakehouse.storage.iceberg.snapshots import sequence_of


def write_alerts(lake: Lake, stream: Stream, days: Sequence[date], *, run_id: str = "") -> WriteResult:
    """Replace the alerts of these days, in `serving.{stream}_alerts` and as one JSON object for each kind and day.

    An object is `serving/alerts/{kind}_YYYYMMDD.json`: an array of alerts, newest first.
    """
    tables = lake.tables.load(f"silver.{stream.name}"), lake.tables.load(f"realtime.{stream.name}")
    sources = {qualified_name(table): sequence_of(table) for table in tables} | stream.definition_of("alerts").sources
    select = alerts_sql(stream, *tables, days, uncovered=lake.uncovered(stream, *tables))
    name = f"serving.{stream.name}_alerts"
    existing = _kinds(lake, name, days)
    written = replace_days(lake, name, select, days, sources=sources, run_id=run_id)
    _export(lake, name, days, existing)
    return written


def alerts_sql(
    stream: Stream, silver: Table, realtime: Table, days: Sequence[date], *, uncovered: Sequence[str] | None
) -> str:
    """Generate the SELECT of the alerts of these days; see `unified_sql` for `uncovered`."""
    return bind(stream.sql("alerts"), {"events": unified_sql(stream, silver, realtime, days, uncovered=uncovered)})


def _kinds(lake: Lake, name: str, days: Sequence[date]) -> set[tuple[date, str]]:
    scan = scan_sql(lake.tables.load(name))
    with lake.engine.cursor() as cursor:
        rows = cursor.execute(f"select distinct dt, alert from {scan} where {days_filter(days)}").fetchall()
    return {(day, kind) for day, kind in rows}


def _export(lake: Lake, name: str, days: Sequence[date], existing: set[tuple[date, str]]) -> None:
    """Write the alerts as objects. A kind of `existing` that has no alerts now gets an empty array."""
    scan = scan_sql(lake.tables.load(name))
    by_kind: dict[tuple[date, str], list[dict[str, object]]] = {key: [] for key in existing}
    with lake.engine.cursor() as cursor:
        result = cursor.execute(f"select * from {scan} where {days_filter(days)} order by event_time desc, event_key")
        columns = [column[0] for column in result.description or []]
        for row in result.fetchall():
            alert = dict(zip(columns, row, strict=True))
            by_kind.setdefault((alert["dt"], alert["alert"]), []).append(alert)
    for (day, kind), alerts in by_kind.items():
        body = json.dumps(alerts, default=_json_value, ensure_ascii=False, indent=1).encode()
        lake.objects.put(f"serving/alerts/{kind}_{day:%Y%m%d}.json", body)


def _json_value(value: object) -> str:
    if isinstance(value, datetime):
        return value.isoformat() + "Z"
    return str(value) if isinstance(value, date | Decimal) else repr(value)
