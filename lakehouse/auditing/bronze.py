"""Landed = bronze: every landing object is in bronze with all of its rows, once, and as it landed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date

import duckdb

from lakehouse.auditing.context import Context, day_groups
from lakehouse.auditing.row_diff import day_differences
from lakehouse.contracts.sql import day_sql, literal, quote, raw_sql
from lakehouse.engine.connection import scan_sql
from lakehouse.engine.filters import days_filter
from lakehouse.landing.keys import LandingObject
from lakehouse.landing.readers import bronze_rows
from lakehouse.pipeline.bronze import ingested_objects
from lakehouse.pipeline.ingest import input_objects
from lakehouse.pipeline.lineage.retention import first_kept_day

CHECK = "landed = bronze"


@dataclass(frozen=True, slots=True)
class _Held:
    """What bronze holds of a landing object."""

    rows: int
    highest: int
    """The highest row number."""
    sums: tuple[int, int]
    """Of the row numbers and of their squares."""
    hashes: int
    """The sum of the rows' hashes."""

    @property
    def whole(self) -> bool:
        """Whether the rows are those from 1 to the highest, each once."""
        n = self.highest
        return self.rows == n and self.sums == (n * (n + 1) // 2, n * (n + 1) * (2 * n + 1) // 6)


def check(sight: Context, *, read: bool) -> None:
    """Compare bronze with landing, by day of arrival; without `read`, by the names of objects and the numbers of rows."""
    bronze = sight.table("bronze")
    rows = sight.days(bronze, "arrival_dt")
    landed = [day for day, found in sight.landed.items() if found]
    days = sight.readable(rows.keys() | set(landed), "bronze")
    sight.report.compared(f"bronze.{sight.stream.name}", len(days), sum(rows.get(day, 0) for day in days))
    for group in day_groups({day: rows.get(day, 0) for day in days}):
        with sight.lake.engine.cursor() as cursor:
            held = _held(sight, cursor, group)
            known = ingested_objects(sight.lake, bronze, group)
            for day in group:
                _compare_names(sight, day, held.get(day, {}), known)
            _compare_dates(sight, cursor, group)
            if read:
                _compare_rows(sight, cursor, group, held)


def _held(sight: Context, cursor: duckdb.DuckDBPyConnection, days: Sequence[date]) -> dict[date, dict[str, _Held]]:
    found: dict[date, dict[str, _Held]] = {}
    rows = cursor.execute(f"""
        select arrival_dt, _object, count(*), max(_row), sum(_row::hugeint), sum(_row::hugeint * _row),
          sum({_hash(sight)})
        from {scan_sql(sight.table("bronze"))}
        where {days_filter(days, "arrival_dt")}
        group by arrival_dt, _object""")
    while batch := rows.fetchmany(10_000):
        for day, key, count, highest, first, second, hashes in batch:
            found.setdefault(day, {})[key] = _Held(count, highest, (first, second), hashes)
    return found


def _hash(sight: Context) -> str:
    # What the reader says of a defect may be worded otherwise by a later one.
    fields = ", ".join(quote(field.name) for field in sight.contract.fields)
    return f"hash(_row, {fields}, _extra, _raw, _defect is null)::hugeint"


def _compare_names(sight: Context, day: date, held: Mapping[str, _Held], taken: set[str]) -> None:
    landed = {one.key for one in sight.landed.get(day, ())}
    if waiting := sorted(landed - taken):
        what = f"{len(waiting)} landing objects are not in bronze yet, such as {waiting[0]}"
        sight.say("bronze", day, CHECK, what, sight.repair(day), state="stale")
    for key, one in sorted(held.items()):
        gone = key not in sight.keys_landed
        missing = one.highest - one.rows
        if not one.whole and missing <= 0:
            sight.say("bronze", day, CHECK, f"rows of {key} are there twice", _mend(sight, day, gone))
        elif missing > sight.erased.get(key, 0):
            sight.say("bronze", day, CHECK, f"{missing} rows of {key} are missing", _mend(sight, day, gone))
        elif gone and key not in sight.erased and _early(sight, day):
            what = f"{key} is gone before its retention is over; bronze holds its {one.rows} rows"
            sight.say("landing", day, CHECK, what, "find out who deletes landing objects; no row is lost")


def _early(sight: Context, day: date) -> bool:
    first = first_kept_day(sight.contract, "landing")
    return first is None or day >= first


def _mend(sight: Context, day: date, gone: bool) -> str:
    if gone:
        return "the landing object is gone as well: bring it back from a backup, and run this again with --repair"
    return sight.repair(day)


def _compare_dates(sight: Context, cursor: duckdb.DuckDBPyConnection, days: Sequence[date]) -> None:
    """Rows lie under the date of their event; where a contract changed what a date is, they wait to be moved."""
    rows = cursor.execute(f"""
        select arrival_dt, count(*)
        from {scan_sql(sight.table("bronze"))} as bronze
        where {days_filter(days, "arrival_dt")} and dt is distinct from {day_sql(sight.contract)}
        group by arrival_dt""").fetchall()
    for day, count in rows:
        what = f"{count} rows lie under another date than the contract gives them now"
        sight.say(
            "bronze", day, "dated", what, f"`lakehouse quarantine replay {sight.stream.name}` moves them", state="stale"
        )


def _compare_rows(
    sight: Context, cursor: duckdb.DuckDBPyConnection, days: Sequence[date], held: Mapping[date, Mapping[str, _Held]]
) -> None:
    """Read the landing objects again and compare what they say with what bronze holds of them."""
    found = {
        one.key: (day, one)
        for day in days
        for one in sight.landed.get(day, ())
        if one.key in held.get(day, {}) and one.key not in sight.erased
    }
    if not found:
        return
    landed = bronze_rows(cursor, sight.contract, input_objects(sight.lake, [one for _, one in found.values()]))
    select = f"select _object::varchar, sum({_hash(sight)}) from landed group by _object"
    read = dict(landed.query("landed", select).fetchall())
    unlike = [key for key, (day, _) in found.items() if held[day][key].hashes != read.get(key)]
    for key, what in _differences(sight, cursor, days, [found[key][1] for key in unlike]).items():
        day = found[key][0]
        sight.say("bronze", day, CHECK, f"{key} as it is in landing: {what}", sight.repair(day))


def _differences(
    sight: Context,
    cursor: duckdb.DuckDBPyConnection,
    days: Sequence[date],
    landings: Sequence[LandingObject],
) -> dict[str, str]:
    """How bronze differs from these objects; a field that the contract did not know when they were taken is none."""
    if not landings:
        return {}
    bronze_rows(cursor, sight.contract, input_objects(sight.lake, landings)).create_view("read_again")
    of_these = f"_object in ({', '.join(literal(one.key) for one in landings)}) and {days_filter(days, 'arrival_dt')}"
    # Fields and what was unknown as one set of names and values.
    values = f"list_sort(map_entries(({raw_sql(sight.contract)})::json::map(varchar, json)))"
    row = f"_object::varchar as _object, _row, hash(_raw, case when _raw is null then {values} end) as said"
    unlike = day_differences(
        cursor,
        f"select {row} from read_again",
        f"select {row} from {scan_sql(sight.table('bronze'))} where {of_these}",
        [("said", "ubigint")],
        day="_object",
        key=["_row"],
    )  # fmt: skip
    return {str(key): str(one) for key, one in unlike.items()}
