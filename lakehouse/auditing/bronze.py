"""Landed = bronze: every landing object is in bronze with all of its rows, once, and as it landed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date

import duckdb

from lakehouse.auditing.context import Context, day_groups
from lakehouse.auditing.data_files import report_unreadable
from lakehouse.auditing.findings import Difference
from lakehouse.auditing.row_diff import FETCHED_ROWS, day_differences
from lakehouse.contracts.sql import day_sql, quote, raw_sql
from lakehouse.engine.connection import scan_sql
from lakehouse.engine.filters import days_filter, objects_filter
from lakehouse.landing.keys import LandingObject
from lakehouse.landing.readers import bronze_rows, is_empty
from lakehouse.landing.upload import changed_since_upload
from lakehouse.pipeline.bronze import ingested_objects
from lakehouse.pipeline.ingest import input_objects
from lakehouse.pipeline.lineage.properties import objects_without_rows
from lakehouse.pipeline.lineage.retention import first_kept_day

CHECK = "landed = bronze"
CONTENT_CHECK = "objects hold what was loaded"


@dataclass(frozen=True, slots=True)
class _HeldObject:
    """The rows that bronze holds of a landing object."""

    rows: int
    highest: int
    """The highest row number."""
    sums: tuple[int, int]
    """The sums of the row numbers and of their squares."""
    hashes: int
    """The sum of the rows' hashes."""

    @property
    def is_whole(self) -> bool:
        """Whether the rows are those from 1 to the highest, each once."""
        n = self.highest
        return self.rows == n and self.sums == (n * (n + 1) // 2, n * (n + 1) * (2 * n + 1) // 6)


def check(context: Context) -> None:
    """Compare bronze with landing, by day of arrival."""
    bronze = context.table("bronze")
    rows = context.rows_by_day(bronze, "arrival_dt")
    landed = {day for day, objects in context.landed.items() if objects}
    days = context.readable(rows.keys() | landed, "bronze")
    context.report.count(f"bronze.{context.stream.name}", len(days), sum(rows.get(day, 0) for day in days))
    rowless = objects_without_rows(bronze)
    for group in day_groups({day: rows.get(day, 0) for day in days}):
        with context.lake.engine.cursor() as cursor:
            bronze_objects = _held_objects(context, cursor, group)
            ingested = ingested_objects(context.lake, bronze, group)
            for day in group:
                _check_pending(context, day, ingested)
                _check_rowless(context, day, rowless - context.erased.keys() - bronze_objects.get(day, {}).keys())
                for key, obj in sorted(bronze_objects.get(day, {}).items()):
                    _check_object(context, day, key, obj)
            _check_dates(context, cursor, group)
            if context.read_landing:
                _compare_rows(context, cursor, group, bronze_objects)


def _held_objects(
    context: Context, cursor: duckdb.DuckDBPyConnection, days: Sequence[date]
) -> dict[date, dict[str, _HeldObject]]:
    by_day: dict[date, dict[str, _HeldObject]] = {}
    rows = cursor.execute(f"""
        select arrival_dt, _object, count(*), max(_row), sum(_row::hugeint), sum(_row::hugeint * _row),
          sum({_hash_sql(context)})
        from {scan_sql(context.table("bronze"))}
        where {days_filter(days, "arrival_dt")}
        group by arrival_dt, _object""")
    while batch := rows.fetchmany(FETCHED_ROWS):
        for day, key, count, highest, total, squares, hashes in batch:
            by_day.setdefault(day, {})[key] = _HeldObject(count, highest, (total, squares), hashes)
    return by_day


def _hash_sql(context: Context) -> str:
    # Of a defect only its presence counts, because a later reader may word it otherwise.
    fields = ", ".join(quote(field.name) for field in context.contract.fields)
    return f"hash(_row, {fields}, _extra, _raw, _defect is null)::hugeint"


def _check_pending(context: Context, day: date, ingested: set[str]) -> None:
    """Report landing objects that bronze has not ingested yet, or can't, because storage can't return them."""
    report_unreadable(context, [obj for obj in context.landed.get(day, ()) if obj.key not in ingested])
    if pending := sorted({obj.key for obj in context.landed.get(day, ())} - ingested):
        detail = f"{len(pending)} landing objects are not in bronze yet, such as {pending[0]}"
        context.report_stale("bronze", day, CHECK, detail)


def _check_rowless(context: Context, day: date, rowless: set[str]) -> None:
    """Report landing objects that are not empty and were read as no row, not even as a defect."""
    landed = [obj for obj in context.landed.get(day, ()) if obj.size and obj.key in rowless]
    for obj, content in zip(landed, input_objects(context.lake.objects, landed), strict=True):
        if not is_empty(context.contract, content):
            detail = f"{obj.key} has {obj.size} bytes in landing and no row in bronze"
            context.report_finding("bronze", day, CHECK, detail, context.repair_command(day))


def _check_object(context: Context, day: date, key: str, obj: _HeldObject) -> None:
    """Report repeated and missing rows of a landing object, and one that was deleted too early."""
    is_deleted = key not in context.keys_landed
    missing = obj.highest - obj.rows
    if not obj.is_whole and missing <= 0:
        context.report_finding("bronze", day, CHECK, f"rows of {key} are there twice", _fix(context, day, is_deleted))
    elif missing > context.erased.get(key, 0):
        context.report_finding(
            "bronze", day, CHECK, f"{missing} rows of {key} are missing", _fix(context, day, is_deleted)
        )
    elif is_deleted and key not in context.erased and _is_kept(context, day):
        detail = f"{key} is gone before its retention is over; bronze holds its {obj.rows} rows"
        fix = "find out who deletes landing objects; no row is lost"
        context.report_finding("landing", day, CHECK, detail, fix)


def _is_kept(context: Context, day: date) -> bool:
    first = first_kept_day(context.contract, "landing")
    return first is None or day >= first


def _fix(context: Context, day: date, is_deleted: bool) -> str:
    if is_deleted:
        return "the landing object is gone as well: bring it back from a backup, and run this again with --repair"
    return context.repair_command(day)


def _check_dates(context: Context, cursor: duckdb.DuckDBPyConnection, days: Sequence[date]) -> None:
    """Report rows that lie under another date than that of their event, because a contract changed what that is."""
    rows = cursor.execute(f"""
        select arrival_dt, count(*)
        from {scan_sql(context.table("bronze"))} as bronze
        where {days_filter(days, "arrival_dt")} and dt is distinct from {day_sql(context.contract)}
        group by arrival_dt""").fetchall()
    for day, count in rows:
        detail = f"{count} rows lie under another date than the contract gives them now"
        fix = f"`lakehouse quarantine replay {context.stream.name}` moves them"
        context.report_finding("bronze", day, "dated", detail, fix, state="stale")


def _compare_rows(
    context: Context,
    cursor: duckdb.DuckDBPyConnection,
    days: Sequence[date],
    bronze_objects: Mapping[date, Mapping[str, _HeldObject]],
) -> None:
    """Read the landing objects again and compare their rows with those that bronze holds."""
    objects = {
        obj.key: obj
        for day in days
        for obj in context.landed.get(day, ())
        if obj.key in bronze_objects.get(day, {}) and obj.key not in context.erased
    }
    if not objects:
        return
    landed = bronze_rows(cursor, context.contract, input_objects(context.lake.objects, objects.values()))
    select = f"select _object::varchar, sum({_hash_sql(context)}) from landed group by _object"
    hashes = dict(landed.query("landed", select).fetchall())
    unlike = [obj for key, obj in objects.items() if bronze_objects[obj.day][key].hashes != hashes.get(key)]
    for key, difference in _differences(context, cursor, days, unlike).items():
        if changed_since_upload(context.lake.objects, key):
            _report_changed(context, objects[key])
            continue
        context.report_wrong("bronze", objects[key].day, CHECK, f"{key} as it is in landing: {difference}")


def _report_changed(context: Context, obj: LandingObject) -> None:
    """Report a landing object that is damaged, so that nothing is computed from it, and leave it out of the other checks."""
    context.landed[obj.day].remove(obj)
    detail = f"{obj.key} does not hold what was loaded: its SHA-256 is not the one in its name"
    fix = "bring it back from a backup, or load the file again after deleting the object; what bronze holds of it stays"
    context.report_finding("landing", obj.day, CONTENT_CHECK, detail, fix)


def _differences(
    context: Context, cursor: duckdb.DuckDBPyConnection, days: Sequence[date], objects: Sequence[LandingObject]
) -> dict[str, Difference]:
    """Find how bronze differs from these objects. A field is no difference if the contract did not know it at the time."""
    if not objects:
        return {}
    bronze_rows(cursor, context.contract, input_objects(context.lake.objects, objects)).create_view("read_again")
    where = f"{objects_filter(obj.key for obj in objects)} and {days_filter(days, 'arrival_dt')}"
    # Known and unknown fields are compared as one set of names and values.
    values = f"list_sort(map_entries(({raw_sql(context.contract)})::json::map(varchar, json)))"
    row = f"_object::varchar as _object, _row, hash(_raw, case when _raw is null then {values} end) as content"
    differences = day_differences(
        cursor,
        f"select {row} from read_again",
        f"select {row} from {scan_sql(context.table('bronze'))} where {where}",
        [("content", "ubigint")],
        day="_object",
        key=["_row"],
    )
    return {str(key): difference for key, difference in differences.items()}
