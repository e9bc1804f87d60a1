"""Unified = silver and realtime merged by key; and realtime's rows are rows that landed."""

from collections.abc import Sequence
from datetime import date

import duckdb

from lakehouse.auditing.context import Context, day_groups
from lakehouse.auditing.row_diff import day_differences, day_digests, differing_days
from lakehouse.contracts.sql import clean_sql, quote
from lakehouse.engine.connection import columns_of, scan_sql
from lakehouse.engine.filters import days_filter
from lakehouse.pipeline.unified_view import unified_sql

UNIFIED = "unified = silver + realtime"
REALTIME = "realtime = landed"


def check(sight: Context) -> None:
    """Compare realtime with what landed, by day of arrival, and the unified view with both, by event date."""
    realtime = sight.table("realtime")
    rows = sight.days(realtime, "arrival_hour")
    days = sight.readable(rows, "realtime", "bronze", "silver")
    sight.report.compared(f"realtime.{sight.stream.name}", len(days), sum(rows[day] for day in days))
    for group in day_groups({day: rows[day] for day in days}):
        with sight.lake.engine.cursor() as cursor:
            _compare_realtime(sight, cursor, group)
    with sight.lake.engine.cursor() as cursor:
        fresh = cursor.execute(
            f"select dt, count(*) from {scan_sql(realtime)} where {_range(sight)} group by dt"
        ).fetchall()
    silver = sight.days(sight.table("silver"))
    both = {day: count + silver.get(day, 0) for day, count in fresh}
    readable = sight.readable(both, "silver")
    sight.report.compared(f"serving.unified_{sight.stream.name}", len(readable))
    for group in day_groups({day: both[day] for day in readable}):
        with sight.lake.engine.cursor() as cursor:
            _compare_unified(sight, cursor, group)


def _range(sight: Context) -> str:
    return f"dt between date '{sight.first}' and date '{sight.last}'"


def _hours(days: Sequence[date]) -> str:
    return "arrival_hour[:10] in (" + ", ".join(f"'{day}'" for day in days) + ")"


def _compare_realtime(sight: Context, cursor: duckdb.DuckDBPyConnection, days: Sequence[date]) -> None:
    realtime, bronze, contract = scan_sql(sight.table("realtime")), scan_sql(sight.table("bronze")), sight.contract
    fields = [(field.name, field.type.sql) for field in contract.fields]
    names = ", ".join([*(quote(name) for name, _ in fields), "dt", "_object", "_row"])
    arrived = "arrival_hour[:10]::date as arrival_dt"
    cursor.execute(f"create temp table fresh as select {arrived}, {names} from {realtime} where {_hours(days)}")
    objects = cursor.execute("select distinct arrival_dt, _object from fresh").fetchall()
    cursor.execute(f"create temp view bronze as from {bronze} where {days_filter(days, 'arrival_dt')}")
    held = {key for (key,) in cursor.execute("select distinct _object from bronze").fetchall()}
    for day, key in sorted(objects):
        if key not in held and key not in sight.keys_landed and key not in sight.erased:
            what = f"{key} is gone, bronze does not hold it, and realtime holds rows of it"
            sight.say("landing", day, REALTIME, what, "bring the landing object back from a backup")
    cursor.execute("create temp table known as select distinct _object from bronze semi join fresh using (_object)")
    key = ", ".join(map(quote, ("dt", *contract.key)))
    landed = f"""select cast(_arrived_at as date) as arrival_dt, {names}
        from ({clean_sql(contract)}) as cleaned
        semi join known using (_object)
        where _valid"""
    # What realtime lacks is seen as long as silver has it: a contract may have learnt to accept it since.
    touched = [day for (day,) in cursor.execute("select distinct dt from fresh").fetchall()]
    silver = f"select hash({key}) from {scan_sql(sight.table('silver'))} where {days_filter(sight.readable(touched, 'silver'))}"
    expected = f"""select *
        from ({landed}) as landed
        where (_object, _row) in (select (_object, _row) from fresh) or hash({key}) not in ({silver})"""
    found = day_differences(
        cursor,
        expected,
        f"select {names}, arrival_dt from fresh semi join known using (_object)",
        [*fields, ("dt", "date")],
        day="arrival_dt",
        key=["_object", "_row"],
    )
    for day, difference in found.items():
        sight.say("realtime", day, REALTIME, str(difference), sight.repair(day))


def _compare_unified(sight: Context, cursor: duckdb.DuckDBPyConnection, days: Sequence[date]) -> None:
    silver, realtime, contract = sight.table("silver"), sight.table("realtime"), sight.contract
    columns = columns_of(silver)
    names = ", ".join(quote(name) for name, _ in columns)
    key = ", ".join(map(quote, ("dt", *contract.key)))
    actual = unified_sql(sight.stream, silver, realtime, days, uncovered=sight.uncovered)
    # The same in other words, and of all of realtime: of the rows of a key the first in this order.
    expected = f"""select {names}
        from (
          select {names}, 0 as _rank, null as _object, null as _row from {scan_sql(silver)} where {days_filter(days)}
          union all
          select {names}, 1, _object, _row from {scan_sql(realtime)} where {days_filter(days)}
        )
        qualify row_number() over (
          partition by {key} order by _rank, _arrived_at desc, _object desc, _row desc
        ) = 1"""
    unlike = differing_days(day_digests(cursor, expected, columns, "dt"), day_digests(cursor, actual, columns, "dt"))
    if unlike:
        found = day_differences(
            cursor,
            f"from ({expected}) where {days_filter(unlike)}",
            f"from ({actual}) where {days_filter(unlike)}",
            columns,
            day="dt",
            key=contract.key,
        )
        for day, difference in found.items():
            sight.say("serving", day, UNIFIED, f"unified_{sight.stream.name}: {difference}", sight.repair(day))
