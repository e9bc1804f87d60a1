"""Gold = what silver sums to, and the daily metrics = gold."""

from collections.abc import Iterable
from datetime import date
from functools import partial

from pyiceberg.table import Table

from lakehouse.auditing.context import Context, day_groups, layer_of
from lakehouse.auditing.row_diff import day_differences, table_differences
from lakehouse.contracts.sql import literal, quote
from lakehouse.engine.connection import columns_of, scan_sql
from lakehouse.engine.filters import days_filter
from lakehouse.pipeline.gold import daily_sql, metrics_sql
from lakehouse.pipeline.long_form import DAILY_METRICS
from lakehouse.storage.iceberg.catalog import qualified_name

GOLD = "gold = sums of silver"
METRICS = "daily_metrics = gold"


def check_gold(context: Context) -> None:
    """Compare gold with silver, by event date."""
    silver, gold = context.table("silver"), context.table("gold", "_daily")
    rows = context.rows_by_day(silver)
    days = _comparable(context, silver, gold, GOLD, rows.keys() | context.rows_by_day(gold).keys())
    redefined = context.redefined(gold, "gold", days)
    key = [name for name, kind in columns_of(gold) if kind in ("varchar", "boolean") and name != "dt"]
    select = partial(daily_sql, context.stream, silver)
    rows = {day: rows.get(day, 0) for day in days}
    for day, difference in table_differences(context.lake.engine, gold, select, rows, key=key):
        detail = f"{gold.name()[1]}: {difference}"
        context.report_difference("gold", day, GOLD, detail, "gold", day in redefined)


def check_metrics(context: Context) -> None:
    """Compare the daily metrics with gold, by event date."""
    gold, metrics = context.table("gold", "_daily"), context.intact(DAILY_METRICS)
    rows = context.rows_by_day(gold)
    days = _comparable(context, gold, metrics, METRICS, rows.keys() | context.rows_by_day(metrics, "date_key").keys())
    columns = columns_of(metrics)
    names = ", ".join(quote(name) for name, _ in columns)
    key = ["stream", "metric_name"]
    for group in day_groups({day: rows.get(day, 0) for day in days}):
        of_stream = f"stream = {literal(context.stream.name)} and {days_filter(group, 'date_key')}"
        expected = f"select {names} from ({metrics_sql(context.stream, gold, group)})"
        actual = f"select {names} from {scan_sql(metrics)} where {of_stream}"
        with context.lake.engine.cursor() as cursor:
            differences = day_differences(cursor, expected, actual, columns, day="date_key", key=key)
        for day, difference in differences.items():
            context.report_wrong("gold", day, METRICS, f"daily_metrics: {difference}")


def _comparable(context: Context, source: Table, derived: Table, check: str, days: Iterable[date]) -> list[date]:
    """Select the days that can be compared, and report the stale ones."""
    readable = context.readable(days, layer_of(source), layer_of(derived))
    stale = context.stale(source, derived, readable)
    for day in sorted(stale):
        detail = f"{derived.name()[1]} was computed before {qualified_name(source)} changed"
        context.report_stale("gold", day, check, detail)
    comparable = [day for day in readable if day not in stale]
    context.report.count(qualified_name(derived), len(comparable))
    return comparable
