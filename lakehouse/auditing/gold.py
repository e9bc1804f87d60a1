"""Gold = what silver sums to, and the daily metrics = gold."""

from collections.abc import Sequence
from datetime import date

from pyiceberg.table import Table

from lakehouse.auditing.context import Context, day_groups, layer_of
from lakehouse.auditing.row_diff import day_differences
from lakehouse.contracts.sql import literal, quote
from lakehouse.engine.connection import bind, columns_of, scan_sql
from lakehouse.engine.filters import days_filter
from lakehouse.pipeline.gold import DAILY_METRICS, metrics_sql
from lakehouse.storage.iceberg.catalog import qualified_name

GOLD = "gold = sums of silver"
METRICS = "daily_metrics = gold"


def check(sight: Context) -> None:
    """Compare gold with silver, and the daily metrics with gold, by event date."""
    _check_gold(sight)
    _check_metrics(sight)


def _check_gold(sight: Context) -> None:
    silver, gold = sight.table("silver"), sight.table("gold", "_daily")
    rows = sight.days(silver)
    days = _fresh(sight, silver, gold, GOLD, rows.keys() | sight.days(gold).keys())
    redefined = sight.redefined(gold, "gold", days)
    columns = columns_of(gold)
    close = [name for name, kind in columns if kind == "double"]
    key = [name for name, kind in columns if kind in ("varchar", "boolean") and name != "dt"]
    names = ", ".join(quote(name) for name, _ in columns)
    for group in day_groups({day: rows.get(day, 0) for day in days}):
        with sight.lake.engine.cursor() as cursor:
            of_silver = {"silver": f"from {scan_sql(silver)} where {days_filter(group)}"}
            expected = f"select {names} from ({bind(sight.stream.sql('gold'), of_silver)})"
            actual = f"select {names} from {scan_sql(gold)} where {days_filter(group)}"
            found = day_differences(cursor, expected, actual, columns, day="dt", key=key, close=close)
        for day, difference in found.items():
            sight.say_unlike("gold", day, GOLD, f"{gold.name()[1]}: {difference}", "gold", day in redefined)


def _check_metrics(sight: Context) -> None:
    gold, metrics = sight.table("gold", "_daily"), sight.tables[DAILY_METRICS]
    rows = sight.days(gold)
    days = _fresh(sight, gold, metrics, METRICS, rows.keys() | sight.days(metrics, "date_key").keys())
    columns = columns_of(metrics)
    names = ", ".join(quote(name) for name, _ in columns)
    for group in day_groups({day: rows.get(day, 0) for day in days}):
        with sight.lake.engine.cursor() as cursor:
            expected = f"select {names} from ({metrics_sql(sight.stream, gold, group)})"
            mine = f"stream = {literal(sight.stream.name)} and {days_filter(group, 'date_key')}"
            actual = f"select {names} from {scan_sql(metrics)} where {mine}"
            key = ["stream", "metric_name"]
            found = day_differences(cursor, expected, actual, columns, day="date_key", key=key)
        for day, difference in found.items():
            sight.say("gold", day, METRICS, f"daily_metrics: {difference}", sight.repair(day))


def _fresh(sight: Context, source: Table, derived: Table, check: str, days: Sequence[date] | set[date]) -> list[date]:
    """Those of the days that can be compared; of the others it is said why they can't."""
    readable = sight.readable(days, layer_of(source), layer_of(derived))
    late = sight.stale(source, derived, readable)
    for day in sorted(late):
        what = f"{derived.name()[1]} was computed before {qualified_name(source)} changed"
        sight.say("gold", day, check, what, sight.repair(day), state="stale")
    fresh = [day for day in readable if day not in late]
    sight.report.compared(qualified_name(derived), len(fresh))
    return fresh
