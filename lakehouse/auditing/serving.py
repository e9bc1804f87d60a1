"""What is served = what its SQL gives: alerts and features as tables, and the days of the unified view as objects."""

import json
from collections.abc import Callable, Mapping, Sequence
from datetime import date, timedelta
from functools import partial
from typing import Literal

from lakehouse.auditing.context import Context, day_groups
from lakehouse.auditing.row_diff import day_differences
from lakehouse.contracts.sql import literal, quote
from lakehouse.engine.connection import columns_of, scan_sql
from lakehouse.engine.filters import days_filter
from lakehouse.pipeline.alerts import alerts_sql
from lakehouse.pipeline.exports import unified_key
from lakehouse.pipeline.features import FEATURE_WINDOW_DAYS, features_sql
from lakehouse.pipeline.lineage.properties import SOURCES_PROPERTY, computed_from
from lakehouse.pipeline.lineage.staleness import sequence_of
from lakehouse.pipeline.unified_view import unified_sql
from lakehouse.storage.iceberg.catalog import qualified_name

ALERTS = "alerts = alerts.sql of unified"
FEATURES = "features = features.sql of silver"
OBJECTS = "objects = unified"


def check(sight: Context) -> None:
    """Compare alerts, features and unified objects with what they are computed from, by event date."""
    _check_alerts(sight)
    _check_features(sight)
    _check_objects(sight)


def _check_alerts(sight: Context) -> None:
    silver, realtime, alerts = sight.table("silver"), sight.table("realtime"), sight.table("serving", "_alerts")
    rows = sight.days(silver)
    days = sight.readable(rows.keys() | sight.days(alerts).keys(), "silver", "serving")
    late = sight.stale(silver, alerts, days)
    _say_late(sight, late, ALERTS, "alerts")
    # Realtime changes every few minutes and alerts follow; what it adds to a day can't be compared in between.
    read, fresh = computed_from(alerts, qualified_name(realtime), days), _with_fresh_rows(sight)
    days = [day for day in days if day not in late and (day not in fresh or read.get(day) == sequence_of(realtime))]
    key = ["alert", "entity", "event_key"]
    select = partial(alerts_sql, sight.stream, silver, realtime, uncovered=sight.uncovered)
    _compare(sight, "alerts", ALERTS, days, rows, key, select)


def _check_features(sight: Context) -> None:
    silver, features = sight.table("silver"), sight.table("serving", "_features")
    rows = sight.days(features)
    days = sight.readable(rows.keys() | sight.days(silver).keys(), "silver", "serving")
    # Where silver has let go of the first of the days that features look at, they are not computed again.
    days = [day for day in days if sight.readable(_looked_at(day)[-1:], "silver")]
    touched = sight.changed(silver, whole=True)
    read = computed_from(features, qualified_name(silver), days)
    late = {day for day in days if any(touched.get(of, -1) > read.get(day, -1) for of in _looked_at(day))}
    _say_late(sight, late, FEATURES, "features")
    days = [day for day in days if day not in late]
    columns = columns_of(features)
    key = [name for name, kind in columns if kind == "varchar"]
    _compare(sight, "features", FEATURES, days, rows, key, partial(features_sql, sight.stream, silver))


def _looked_at(day: date) -> list[date]:
    return [day - timedelta(days=back) for back in range(FEATURE_WINDOW_DAYS)]


def _check_objects(sight: Context) -> None:
    """Objects say what they were written from; those older than that are written anew within minutes."""
    silver, realtime = sight.table("silver"), sight.table("realtime")
    rows = sight.days(silver)
    sources = _sources(sight)
    days = sight.readable(rows.keys() & sources.keys(), "silver")
    touched = sight.changed(silver)
    of_silver, of_realtime = (qualified_name(table) for table in (silver, realtime))
    fresh = _with_fresh_rows(sight)
    compared = [
        day
        for day in days
        if sources[day].get(of_silver, -1) >= touched.get(day, 0)
        and (day not in fresh or sources[day].get(of_realtime) == sequence_of(realtime))
    ]
    sight.report.compared(f"serving/unified/{sight.stream.name}", len(compared))
    columns = columns_of(silver)
    names = ", ".join(quote(name) for name, _ in columns)
    for group in day_groups({day: rows[day] for day in compared}):
        objects = ", ".join(literal(_url(sight, unified_key(sight.stream, day))) for day in group)
        with sight.lake.engine.cursor() as cursor:
            found = day_differences(
                cursor,
                unified_sql(sight.stream, silver, realtime, group, uncovered=sight.uncovered),
                f"select {names} from read_parquet([{objects}], hive_partitioning = false)",
                columns,
                day="dt",
                key=sight.contract.key,
            )
        for day, difference in found.items():
            what = f"{unified_key(sight.stream, day)}: {difference}"
            sight.say("serving", day, OBJECTS, what, sight.repair(day))


def _sources(sight: Context) -> dict[date, dict[str, int]]:
    """What each day's object was written from."""
    name = sight.stream.name
    keys = {info.key for info in sight.lake.objects.list(f"serving/unified/{name}")}
    wanted = {unified_key(sight.stream, day): day for day in sight.days(sight.table("silver"))}
    found = sorted(keys & wanted.keys())
    if not found:
        return {}
    files = {_url(sight, key): wanted[key] for key in found}
    with sight.lake.engine.cursor() as cursor:
        said = cursor.execute(
            f"select file_name, decode(value) from parquet_kv_metadata([{', '.join(map(literal, files))}])"
            f" where decode(key) = {literal(SOURCES_PROPERTY)}"
        ).fetchall()
    return {files[file]: json.loads(text) for file, text in said}


def _with_fresh_rows(sight: Context) -> set[date]:
    """Days on which realtime holds a key that silver does not."""
    key = ", ".join(map(quote, ("dt", *sight.contract.key)))
    silver, realtime = (scan_sql(sight.table(layer)) for layer in ("silver", "realtime"))
    readable = days_filter(sight.readable(sight.days(sight.table("silver")), "silver"))
    with sight.lake.engine.cursor() as cursor:
        rows = cursor.execute(f"""
            with fresh as (select distinct dt, hash({key}) as keyed from {realtime}),
            known as (select hash({key}) as keyed from {silver} where {readable} and dt in (select dt from fresh))
            select distinct dt from fresh anti join known using (keyed)""").fetchall()
    return {day for (day,) in rows}


def _url(sight: Context, key: str) -> str:
    return f"s3://{sight.lake.connection.bucket}/{key}"


def _compare(
    sight: Context,
    what: Literal["alerts", "features"],
    check: str,
    days: Sequence[date],
    rows: Mapping[date, int],
    key: Sequence[str],
    select: Callable[[Sequence[date]], str],
) -> None:
    table = sight.table("serving", f"_{what}")
    columns = columns_of(table)
    names = ", ".join(quote(name) for name, _ in columns)
    close = [name for name, kind in columns if kind == "double"]
    redefined = sight.redefined(table, what, days)
    sight.report.compared(qualified_name(table), len(days), sum(rows.get(day, 0) for day in days))
    for group in day_groups({day: rows.get(day, 0) for day in days}):
        with sight.lake.engine.cursor() as cursor:
            actual = f"select {names} from {scan_sql(table)} where {days_filter(group)}"
            expected = f"select {names} from ({select(group)})"
            found = day_differences(cursor, expected, actual, columns, day="dt", key=key, close=close)
        for day, difference in found.items():
            sight.say_unlike("serving", day, check, f"{table.name()[1]}: {difference}", what, day in redefined)


def _say_late(sight: Context, days: set[date], check: str, what: str) -> None:
    for day in sorted(days):
        said = f"{sight.stream.name}_{what} was computed before silver.{sight.stream.name} changed"
        sight.say("serving", day, check, said, sight.repair(day), state="stale")
