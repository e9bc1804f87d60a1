"""Check that realtime holds the valid rows that landed, and that the unified view merges silver and realtime by key."""

from collections.abc import Sequence
from datetime import date

import duckdb

from lakehouse.auditing.context import Context, day_groups
from lakehouse.auditing.row_diff import day_differences, differences_by_digest
from lakehouse.contracts.sql import clean_sql, quote
from lakehouse.engine.connection import columns_of, scan_sql
from lakehouse.engine.filters import days_filter
from lakehouse.pipeline.unified_view import unified_sql

UNIFIED = "unified = silver + realtime"
REALTIME = "realtime = landed"

ARRIVAL_DAY = "arrival_hour[:10]::date"


def check_realtime(context: Context) -> None:
    """Compare realtime with what landed, by day of arrival."""
    rows = context.rows_by_day(context.table("realtime"), "arrival_hour")
    days = context.readable(rows, "realtime", "bronze", "silver")
    context.report.count(f"realtime.{context.stream.name}", len(days), sum(rows[day] for day in days))
    for group in day_groups({day: rows[day] for day in days}):
        with context.lake.engine.cursor() as cursor:
            _make_realtime(context, cursor, group)
            _check_objects(context, cursor)
            _compare_realtime(context, cursor)


def _make_realtime(context: Context, cursor: duckdb.DuckDBPyConnection, days: Sequence[date]) -> None:
    """Make the rows of these days of arrival: `fresh` of realtime, and `bronze`."""
    realtime, bronze = scan_sql(context.table("realtime")), scan_sql(context.table("bronze"))
    cursor.execute(f"""create temp table fresh as
        select {ARRIVAL_DAY} as arrival_dt, {_names_sql(context)}
        from {realtime}
        where {days_filter(days, ARRIVAL_DAY)}""")
    cursor.execute(f"create temp view bronze as from {bronze} where {days_filter(days, 'arrival_dt')}")


def _names_sql(context: Context) -> str:
    return ", ".join([*(quote(field.name) for field in context.contract.fields), "dt", "_object", "_row"])


def _check_objects(context: Context, cursor: duckdb.DuckDBPyConnection) -> None:
    """Report landing objects that were deleted before bronze ingested them."""
    objects = cursor.execute("select distinct arrival_dt, _object from fresh").fetchall()
    in_bronze = {key for (key,) in cursor.execute("select distinct _object from bronze").fetchall()}
    for day, key in sorted(objects):
        if key not in in_bronze and key not in context.keys_landed and key not in context.erased:
            detail = f"{key} is gone, bronze does not hold it, and realtime holds rows of it"
            context.report_finding("landing", day, REALTIME, detail, "bring the landing object back from a backup")


def _compare_realtime(context: Context, cursor: duckdb.DuckDBPyConnection) -> None:
    """Compare realtime with the valid rows of bronze, of the landing objects that both have ingested."""
    contract, names = context.contract, _names_sql(context)
    cursor.execute("create temp table in_both as select distinct _object from bronze semi join fresh using (_object)")
    key = ", ".join(map(quote, ("dt", *contract.key)))
    landed = f"""select cast(_arrived_at as date) as arrival_dt, {names}
        from ({clean_sql(contract)}) as cleaned
        semi join in_both using (_object)
        where _valid"""
    # A valid row that realtime lacks is no difference if silver has it: a changed contract may accept it since.
    event_dates = [day for (day,) in cursor.execute("select distinct dt from fresh").fetchall()]
    in_silver = days_filter(context.readable(event_dates, "silver"))
    silver = f"select hash({key}) from {scan_sql(context.table('silver'))} where {in_silver}"
    differences = day_differences(
        cursor,
        f"""select *
        from ({landed}) as landed
        where (_object, _row) in (select (_object, _row) from fresh) or hash({key}) not in ({silver})""",
        f"select {names}, arrival_dt from fresh semi join in_both using (_object)",
        [*((field.name, field.type.sql) for field in contract.fields), ("dt", "date")],
        day="arrival_dt",
        key=["_object", "_row"],
    )
    for day, difference in differences.items():
        context.report_wrong("realtime", day, REALTIME, str(difference))


def check_unified(context: Context) -> None:
    """Compare the unified view with silver and realtime, by event date."""
    realtime = scan_sql(context.table("realtime"))
    audited = f"dt between date '{context.first}' and date '{context.last}'"
    with context.lake.engine.cursor() as cursor:
        rows = cursor.execute(f"select dt, count(*) from {realtime} where {audited} group by dt").fetchall()
    silver = context.rows_by_day(context.table("silver"))
    row_counts = {day: count + silver.get(day, 0) for day, count in rows}
    days = context.readable(row_counts, "silver")
    context.report.count(f"serving.unified_{context.stream.name}", len(days))
    for group in day_groups({day: row_counts[day] for day in days}):
        with context.lake.engine.cursor() as cursor:
            _compare_unified(context, cursor, group)


def _compare_unified(context: Context, cursor: duckdb.DuckDBPyConnection, days: Sequence[date]) -> None:
    silver, realtime = context.table("silver"), context.table("realtime")
    expected = merged_sql(context, days)
    actual = unified_sql(context.stream, silver, realtime, days, uncovered=context.uncovered)
    differences = differences_by_digest(cursor, expected, actual, columns_of(silver), key=context.contract.key)
    for day, difference in differences.items():
        context.report_wrong("serving", day, UNIFIED, f"unified_{context.stream.name}: {difference}")


def merged_sql(context: Context, days: Sequence[date]) -> str:
    """Generate the unified view in another way and over all of realtime: of the rows of a key, the first in one order."""
    silver, realtime = context.table("silver"), context.table("realtime")
    names = ", ".join(quote(name) for name, _ in columns_of(silver))
    key = ", ".join(map(quote, ("dt", *context.contract.key)))
    where = days_filter(days)
    return f"""select {names}
        from (
          select {names}, 0 as _rank, null as _object, null as _row from {scan_sql(silver)} where {where}
          union all
          select {names}, 1, _object, _row from {scan_sql(realtime)} where {where}
        )
        qualify row_number() over (
          partition by {key} order by _rank, _arrived_at desc, _object desc, _row desc
        ) = 1"""
