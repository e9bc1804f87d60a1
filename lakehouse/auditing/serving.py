"""Serving = what its SQL gives: the tables of alerts and features, live gold, and the objects of the unified view."""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import date
from functools import partial
from typing import Literal

from lakehouse.auditing.context import Context, day_groups
from lakehouse.auditing.realtime import merged_sql
from lakehouse.auditing.row_diff import day_differences, table_differences
from lakehouse.contracts.sql import literal, quote
from lakehouse.engine.connection import columns_of, scan_sql
from lakehouse.engine.filters import days_filter
from lakehouse.pipeline.alerts import alerts_sql
from lakehouse.pipeline.exports import unified_key
from lakehouse.pipeline.features import feature_window, features_sql
from lakehouse.pipeline.lineage.open_days import open_days
from lakehouse.pipeline.lineage.properties import SOURCES_PROPERTY, computed_from
from lakehouse.pipeline.live_gold import live_daily_sql, model_sql
from lakehouse.pipeline.unified_view import unified_sql
from lakehouse.storage.iceberg.catalog import qualified_name
from lakehouse.storage.iceberg.snapshots import sequence_of

ALERTS = "alerts = alerts.sql of unified"
FEATURES = "features = features.sql of silver"
OBJECTS = "objects = unified"
LIVE = "live gold = gold, or gold.sql of unified"


def check_alerts(context: Context) -> None:
    """Compare alerts with what the unified view gives, by event date."""
    if not context.stream.has_alerts:
        return
    silver, realtime, alerts = context.table("silver"), context.table("realtime"), context.table("serving", "_alerts")
    rows = context.rows_by_day(silver)
    days = context.readable(rows.keys() | context.rows_by_day(alerts).keys(), "silver", "serving")
    stale = context.stale(silver, alerts, days)
    _report_stale(context, stale, ALERTS, "alerts")
    # Realtime changes every few minutes and alerts follow. In between, a day with new rows can't be compared.
    read, open_days = computed_from(alerts, realtime, days), context.days_with_new_keys
    days = [
        day for day in days if day not in stale and (day not in open_days or read.get(day) == sequence_of(realtime))
    ]
    key = ["alert", "entity", "event_key"]
    select = partial(alerts_sql, context.stream, silver, realtime, uncovered=context.uncovered)
    _compare_table(context, "alerts", ALERTS, days, rows, key, select)


def check_features(context: Context) -> None:
    """Compare features with what silver gives, by event date."""
    if not context.stream.has_features:
        return
    silver, features = context.table("silver"), context.table("serving", "_features")
    rows = context.rows_by_day(features)
    days = context.readable(rows.keys() | context.rows_by_day(silver).keys(), "silver", "serving")
    # Days whose window silver no longer keeps in full are not computed again.
    days = [day for day in days if context.readable(feature_window(day)[-1:], "silver")]
    lost = context.unreadable.get("silver", set())
    days = [day for day in days if lost.isdisjoint(feature_window(day))]
    changes = context.last_changes(silver, whole=True)
    read = computed_from(features, silver, days)
    stale = {day for day in days if any(changes.get(of, -1) > read.get(day, -1) for of in feature_window(day))}
    _report_stale(context, stale, FEATURES, "features")
    key = [name for name, kind in columns_of(features) if kind == "varchar"]
    select = partial(features_sql, context.stream, silver)
    _compare_table(context, "features", FEATURES, [day for day in days if day not in stale], rows, key, select)


def check_objects(context: Context) -> None:
    """Compare the objects that people download with the unified view, by event date.

    Those with older sources are left out, because they are written anew in minutes.
    """
    silver, realtime = context.table("silver"), context.table("realtime")
    rows = context.rows_by_day(silver)
    days = _comparable_objects(context, rows)
    context.report.count(f"serving/unified/{context.stream.name}", len(days))
    columns = columns_of(silver)
    names = ", ".join(quote(name) for name, _ in columns)
    for group in day_groups({day: rows[day] for day in days}):
        objects = ", ".join(literal(_url(context, unified_key(context.stream, day))) for day in group)
        with context.lake.engine.cursor() as cursor:
            differences = day_differences(
                cursor,
                unified_sql(context.stream, silver, realtime, group, uncovered=context.uncovered),
                f"select {names} from read_parquet([{objects}], hive_partitioning = false)",
                columns,
                day="dt",
                key=context.contract.key,
            )
        for day, difference in differences.items():
            context.report_wrong("serving", day, OBJECTS, f"{unified_key(context.stream, day)}: {difference}")


def check_live_gold(context: Context) -> None:
    """Compare live gold with gold on closed days, and with what `gold.sql` gives over the unified view on open ones."""
    stream, daily = context.stream, context.table("gold", "_daily")
    silver, realtime = context.table("silver"), context.table("realtime")
    rows = context.rows_by_day(silver)
    open_ = open_days(stream, context.intact)
    new = context.days_with_new_keys
    days = context.readable({*rows, *context.rows_by_day(daily), *open_, *new}, "silver", "gold")
    days = [day for day in days if context.covers(str(day))]
    context.report.count(qualified_name(daily).replace("gold.", "serving.live_"), len(days))
    behind = new | context.stale(silver, daily, days) | context.redefined(daily, "gold", days)
    for day in sorted(behind.intersection(days).difference(open_)):
        context.report_wrong(
            "serving", day, LIVE, f"live_{daily.name()[1]} takes {day} from gold, which lacks newer rows"
        )

    def live(group: Sequence[date]) -> str:
        opened = [day for day in group if day in open_]
        unified = unified_sql(stream, silver, realtime, opened, uncovered=context.uncovered)
        return f"from ({live_daily_sql(daily, opened, model_sql(stream, daily, unified))}) where {days_filter(group)}"

    def expected(group: Sequence[date]) -> str:
        opened = [day for day in group if day in open_]
        closed = f"from {scan_sql(daily)} where {days_filter(day for day in group if day not in open_)}"
        return f"{closed}\nunion all by name\n{model_sql(stream, daily, merged_sql(context, opened))}"

    columns = columns_of(daily)
    names = ", ".join(quote(name) for name, _ in columns)
    key = [name for name, kind in columns if kind in ("varchar", "boolean")]
    for group in day_groups({day: rows.get(day, 0) for day in days}):
        with context.lake.engine.cursor() as cursor:
            differences = day_differences(
                cursor,
                f"select {names} from ({expected(group)})",
                f"select {names} from ({live(group)})",
                columns,
                day="dt",
                key=key,
                close=[name for name, kind in columns if kind == "double"],
            )
        for day, difference in differences.items():
            context.report_wrong("serving", day, LIVE, f"live_{daily.name()[1]}: {difference}")


def _comparable_objects(context: Context, rows: Mapping[date, int]) -> list[date]:
    """Select the days whose object was written from the newest silver, and realtime if that has new keys there."""
    silver, realtime = context.table("silver"), context.table("realtime")
    sources = _object_sources(context)
    changes, open_days = context.last_changes(silver), context.days_with_new_keys

    def is_comparable(day: date) -> bool:
        read = sources[day]
        from_newest_silver = read.get(qualified_name(silver), -1) >= changes.get(day, 0)
        return from_newest_silver and (
            day not in open_days or read.get(qualified_name(realtime)) == sequence_of(realtime)
        )

    return [day for day in context.readable(rows.keys() & sources.keys(), "silver") if is_comparable(day)]


def _object_sources(context: Context) -> dict[date, dict[str, int]]:
    """Read which version of each table every day's object was written from."""
    stored = {info.key for info in context.lake.objects.list(f"serving/unified/{context.stream.name}")}
    keys = {unified_key(context.stream, day): day for day in context.rows_by_day(context.table("silver"))}
    files = {_url(context, key): keys[key] for key in sorted(stored & keys.keys() - context.lost_exports)}
    if not files:
        return {}
    with context.lake.engine.cursor() as cursor:
        rows = cursor.execute(
            f"select file_name, decode(value) from parquet_kv_metadata([{', '.join(map(literal, files))}])"
            f" where decode(key) = {literal(SOURCES_PROPERTY)}"
        ).fetchall()
    return {files[file]: json.loads(text) for file, text in rows}


def _url(context: Context, key: str) -> str:
    return f"s3://{context.lake.connection.bucket}/{key}"


def _compare_table(
    context: Context,
    name: Literal["alerts", "features"],
    check: str,
    days: Sequence[date],
    rows: Mapping[date, int],
    key: Sequence[str],
    select: Callable[[Sequence[date]], str],
) -> None:
    """Compare a table of serving with what `select` gives for these days."""
    table = context.table("serving", f"_{name}")
    redefined = context.redefined(table, name, days)
    rows = {day: rows.get(day, 0) for day in days}
    context.report.count(qualified_name(table), len(days), sum(rows.values()))
    for day, difference in table_differences(context.lake.engine, table, select, rows, key=key):
        detail = f"{table.name()[1]}: {difference}"
        context.report_difference("serving", day, check, detail, name, day in redefined)


def _report_stale(context: Context, days: Iterable[date], check: str, name: str) -> None:
    stream = context.stream.name
    for day in sorted(days):
        context.report_stale("serving", day, check, f"{stream}_{name} was computed before silver.{stream} changed")
