"""Compute gold: the daily aggregates of each stream, and the numbers of all of them in long form."""

from collections.abc import Sequence
from datetime import date
from functools import partial

from pyiceberg.table import Table

from lakehouse.contracts.streams import Stream
from lakehouse.engine.connection import bind, scan_sql
from lakehouse.engine.filters import days_filter
from lakehouse.pipeline.commits import WriteResult, replace_days
from lakehouse.pipeline.computed_days import compute_days
from lakehouse.pipeline.lake import Lake
from lakehouse.pipeline.long_form import DAILY_METRICS, NO_METRICS, long_form_sql
from lakehouse.storage.iceberg.snapshots import sequence_of


def write_daily(lake: Lake, stream: Stream, days: Sequence[date], *, run_id: str = "") -> WriteResult:
    """Replace `gold.{stream}_daily` of these days with the stream's `gold.sql` over silver."""
    silver = lake.tables.load(f"silver.{stream.name}")
    sources = {f"silver.{stream.name}": sequence_of(silver), **stream.definition_of("gold").sources}
    return compute_days(
        lake, stream, f"gold.{stream.name}_daily", partial(daily_sql, stream, silver), days,
        reads=(silver, days), sources=sources, run_id=run_id,
    )  # fmt: skip


def daily_sql(stream: Stream, silver: Table, days: Sequence[date]) -> str:
    """Generate the SELECT of the stream's daily aggregates of these days."""
    return bind(stream.sql("gold"), {"silver": f"select * from {scan_sql(silver)} where {days_filter(days)}"})


def write_metrics(lake: Lake, days: Sequence[date], *, run_id: str = "") -> WriteResult:
    """Replace `gold.daily_metrics` of these days with every number of every `gold.{stream}_daily`, one a row."""
    tables = {name: lake.tables.load(f"gold.{name}_daily") for name in lake.streams}
    sources = {f"gold.{name}_daily": sequence_of(table) for name, table in tables.items()}
    selects = [metrics_sql(stream, tables[name], days) for name, stream in lake.streams.items()]
    select = "\nunion all\n".join(f"({select})" for select in selects) or NO_METRICS
    return replace_days(lake, DAILY_METRICS, select, days, column="date_key", sources=sources, run_id=run_id)


def metrics_sql(stream: Stream, daily: Table, days: Sequence[date] | None = None) -> str:
    """Generate the SELECT of a stream's daily aggregates in long form, of these days or of all."""
    where = "true" if days is None else days_filter(days)
    return long_form_sql(stream, daily, f"from {scan_sql(daily)} where {where}")
