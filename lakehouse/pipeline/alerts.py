"""Compute a stream's alerts: its `alerts.sql` over the unified view, as a table and as JSON objects."""

import json
from collections.abc import Iterable, Sequence
from datetime import date, datetime
from decimal import Decimal
from functools import partial
from urllib.parse import quote

from pyiceberg.table import Table

from lakehouse.contracts.streams import Stream
from lakehouse.engine.connection import bind, scan_sql
from lakehouse.engine.filters import days_filter
from lakehouse.pipeline.commits import WriteResult
from lakehouse.pipeline.computed_days import compute_days
from lakehouse.pipeline.lake import Lake
from lakehouse.pipeline.table_specs import ALERT_COLUMNS
from lakehouse.pipeline.unified_view import unified_sql
from lakehouse.storage.durability import sync
from lakehouse.storage.iceberg.catalog import qualified_name
from lakehouse.storage.iceberg.snapshots import sequence_of


def write_alerts(lake: Lake, stream: Stream, days: Sequence[date], *, run_id: str = "") -> WriteResult:
    """Replace the alerts of these days, in `serving.{stream}_alerts` and as one JSON object for each kind and day.

    An object is an array of alerts, newest first; see `alerts_key` for its name.
    """
    tables = lake.tables.load(f"silver.{stream.name}"), lake.tables.load(f"realtime.{stream.name}")
    sources = {qualified_name(table): sequence_of(table) for table in tables} | stream.definition_of("alerts").sources
    select_of = partial(alerts_sql, stream, *tables, uncovered=lake.uncovered(stream, *tables))
    name = f"serving.{stream.name}_alerts"
    existing = alert_kinds(lake, stream, days)
    reads = tables[0], days  # silver, beside which realtime is small
    written = compute_days(lake, stream, name, select_of, days, reads=reads, sources=sources, run_id=run_id)
    _export(lake, stream, days, existing)
    return written


def alerts_sql(
    stream: Stream, silver: Table, realtime: Table, days: Sequence[date], *, uncovered: Sequence[str] | None
) -> str:
    """Generate the SELECT of the alerts of these days; see `unified_sql` for `uncovered`."""
    return alerts_of_sql(stream, unified_sql(stream, silver, realtime, days, uncovered=uncovered))


def alerts_of_sql(stream: Stream, events: str) -> str:
    """Generate the SELECT of the alerts of these events, in the types of the table of alerts."""
    columns = ",\n  ".join(f"{name}::{kind} as {name}" for name, kind in ALERT_COLUMNS)
    return f"select\n  {columns}\nfrom (\n{bind(stream.sql('alerts'), {'events': events})}\n)"


def alerts_key(stream: Stream, kind: str, day: date) -> str:
    """Name the object that holds a day's alerts of one kind.

    Objects of your own streams lie in a folder of their stream, because two streams may have alerts of one kind. Those of
    the package keep the names by which other programs read them.
    """
    folder = "serving/alerts" if stream.is_shipped else f"serving/alerts/{stream.name}"
    return f"{folder}/{quote(str(kind), safe=' ')}_{day:%Y%m%d}.json"


def alert_kinds(lake: Lake, stream: Stream, days: Iterable[date]) -> set[tuple[date, str]]:
    """List the days and kinds of which the stream's table has alerts."""
    scan = scan_sql(lake.tables.load(f"serving.{stream.name}_alerts"))
    with lake.engine.cursor() as cursor:
        rows = cursor.execute(f"select distinct dt, alert from {scan} where {days_filter(days)}").fetchall()
    return {(day, kind) for day, kind in rows}


def _export(lake: Lake, stream: Stream, days: Sequence[date], existing: set[tuple[date, str]]) -> None:
    """Write the alerts as objects. A kind of `existing` that has no alerts now gets an empty array."""
    scan = scan_sql(lake.tables.load(f"serving.{stream.name}_alerts"))
    by_kind: dict[tuple[date, str], list[dict[str, object]]] = {key: [] for key in existing}
    with lake.engine.cursor() as cursor:
        result = cursor.execute(f"select * from {scan} where {days_filter(days)} order by event_time desc, event_key")
        columns = [column[0] for column in result.description or []]
        for row in result.fetchall():
            alert = dict(zip(columns, row, strict=True))
            by_kind.setdefault((alert["dt"], alert["alert"]), []).append(alert)
    for (day, kind), alerts in by_kind.items():
        body = json.dumps(alerts, default=_json_value, ensure_ascii=False, indent=1).encode()
        lake.objects.put(alerts_key(stream, kind, day), body)
    sync(lake.connection)


def _json_value(value: object) -> str:
    if isinstance(value, datetime):
        return value.isoformat() + "Z"
    return str(value) if isinstance(value, date | Decimal) else repr(value)
