"""Landed = silver + quarantined + duplicates: the contract's cleaning, computed again from bronze and compared row by row.

De-duplication is written here a second time and in plain SQL, so that a mistake in `pipeline.day_groups` shows.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

import duckdb

from lakehouse.auditing.context import Context, day_groups
from lakehouse.auditing.findings import count_mismatches
from lakehouse.auditing.row_diff import day_differences, differences_by_digest
from lakehouse.contracts.sql import clean_sql, latest_sql, quarantine_sql, quote
from lakehouse.engine.connection import bind, columns_of, scan_sql
from lakehouse.engine.filters import days_filter
from lakehouse.pipeline.file_names import FILE_COLUMN
from lakehouse.pipeline.lineage.properties import blocked_days, day_ledgers
from lakehouse.pipeline.lineage.retention import is_expired
from lakehouse.pipeline.open_rows import replaced_sql
from lakehouse.storage.iceberg.catalog import qualified_name

CHECK = "landed = silver + quarantined + duplicates"


def check(context: Context) -> None:
    """Compare silver and quarantine with what bronze gives, by event date."""
    bronze, silver, quarantine = (context.table(layer) for layer in ("bronze", "silver", "quarantine"))
    landed = context.rows_by_day(bronze)
    expired = sum(rows for day, rows in landed.items() if is_expired(context.contract, "silver", day))
    if expired:
        context.report.expired[context.stream.name] = expired
    days_with_rows = set().union(*(context.rows_by_day(table) for table in (bronze, silver, quarantine)))
    days = context.readable(days_with_rows, "bronze", "silver", "quarantine")
    stale = context.stale(bronze, quarantine, days)
    for day in sorted(stale):
        context.report_stale("silver", day, CHECK, "was computed before bronze changed")
    compared = [day for day in days if day not in stale]
    for table in (silver, quarantine):
        rows = context.rows_by_day(table)
        context.report.count(qualified_name(table), len(compared), sum(rows.get(day, 0) for day in compared))
    stale_silver = context.stale(bronze, silver, compared)
    redefined = context.redefined(quarantine, "silver", compared) | context.redefined(silver, "silver", compared)
    ledgers = day_ledgers(quarantine)
    blocked_whole = {day for day in blocked_days(quarantine) if "blocked_objects" not in ledgers.get(day, {})}
    for group in day_groups({day: landed.get(day, 0) for day in compared}):
        with context.lake.engine.cursor() as cursor:
            _Days(context, cursor, group, ledgers, redefined, blocked_whole).compare(stale_silver)


@dataclass
class _Days:
    """Some event dates on a cursor of their own."""

    context: Context
    cursor: duckdb.DuckDBPyConnection
    days: Sequence[date]
    ledgers: Mapping[date, Mapping[str, Any]]
    redefined: set[date]
    """Days that were computed by another contract than the current one. What differs there is only stale."""
    blocked_whole: set[date]
    """Days that a release before the gate judged objects has blocked, with all of their objects."""

    def compare(self, stale_silver: set[date]) -> None:
        """Compare each day. On the days of `stale_silver`, silver is older than quarantine."""
        landed = self._clean()
        gated, blocked = self._judge()
        self._make_survivors()
        for day in sorted(stale_silver & set(self.days) - set(blocked)):
            detail = "quarantine was computed and silver was not; the run died between the two"
            self.context.report_stale("silver", day, CHECK, detail)
        fresh = [day for day in self.days if day not in stale_silver]
        self._compare_silver([day for day in fresh if day not in blocked])
        self._compare_blocked(blocked)
        compared = [day for day in self.days if day in blocked or day in fresh]
        self._compare_quarantine(compared, gated)
        self._compare_ledgers(landed, compared)

    def _judge(self) -> tuple[list[date], list[date]]:
        """Make `blocked`, the landing objects that the gate blocks. Returns the days that have some, and have no others.

        Of the objects in order of their quality, those are blocked that together with all better ones do not reach the
        threshold. Invalid rows that a corrected row of these days replaces are left out.
        """
        self._make(
            "table judged",
            f"""with counted as (
              select dt, _object, _valid,
                not _valid and (_object, _row) in ({replaced_sql(self.context.stream, "bronze")}) as is_replaced
              from checked
            ),
            objects as (
              select dt, _object, count(*) filter (_valid) as valid, count(*) - count(*) filter (is_replaced) as rows
              from counted
              group by dt, _object
            )
            select dt, _object,
              sum(valid) over (partition by dt) > 0
                and sum(valid) over best < sum(rows) over best * {self.context.contract.quality_threshold}::double
                as is_blocked
            from objects
            window best as (
              partition by dt
              order by case when rows = 0 then 1 else valid / rows end desc, _object
              rows unbounded preceding
            )""",
        )
        whole = days_filter(self.blocked_whole & set(self.days))
        self._make(
            "table blocked",
            f"""select dt, _object
            from judged
            where is_blocked or (
              {whole} and dt in (select dt from judged where is_blocked)
            )""",
        )
        days = self._query("""select dt, count(blocked.dt) = count(*)
            from judged
            left join blocked using (dt, _object)
            group by dt
            having count(blocked.dt) > 0
            order by dt""")
        return [day for day, _ in days], [day for day, is_whole in days if is_whole]

    def _clean(self) -> dict[date, tuple[int, int]]:
        """Make `cleaned` and `checked`. Returns how many rows and valid rows each day has."""
        contract = self.context.contract
        keys = ", ".join(map(quote, contract.key))
        self._make("view bronze", f"from {self._scan('bronze')} where {days_filter(self.days)}")
        self._make("view cleaned", f"select *, hash(dt, {keys}) as _key from ({clean_sql(contract)})")
        self._make("table checked", "select dt, _key, _valid, _object, _row from cleaned")
        counts = self._query("select dt, count(*), count(*) filter (_valid) from checked group by dt")
        return {day: (rows, valid) for day, rows, valid in counts}

    def _make_survivors(self) -> None:
        """Make `survivors`, the rows that silver is computed from, and `held`, which the gate keeps out, once per key."""
        key = self.context.contract.key
        # By hashes, because a window over all rows would sort them.
        self._make("table repeated", "select _key from checked where _valid group by _key having count(*) > 1")
        self._make("view passed", "from cleaned anti join blocked using (dt, _object) where _valid")
        latest = latest_sql(key, "(from passed where _key in (from repeated))")
        self._make(
            "view survivors",
            f"from passed where _key not in (from repeated) union all by name (select * from ({latest}))",
        )
        self._make("view held", latest_sql(key, "(from cleaned semi join blocked using (dt, _object) where _valid)"))

    def _compare_silver(self, days: Sequence[date]) -> None:
        if not days:
            return
        columns = columns_of(self.context.table("silver"))
        names = ", ".join(quote(name) for name, _ in columns)
        fields = ", ".join(quote(f.name) for f in self.context.contract.fields)
        valid = f"select {fields}, dt, _arrived_at from survivors where {days_filter(days)}"
        expected = f"select {names} from ({bind(self.context.stream.sql('silver'), {'valid': valid})})"
        actual = f"select {names} from {self._scan('silver')} where {days_filter(days)}"
        key = self.context.contract.key
        for day, difference in differences_by_digest(self.cursor, expected, actual, columns, key=key).items():
            self._report("silver", day, str(difference))

    def _compare_blocked(self, days: Sequence[date]) -> None:
        """Compare what silver kept of blocked days: it was valid, and has each key once."""
        if not days:
            return
        key = self.context.contract.key
        names = ", ".join(map(quote, ("dt", *key)))
        actual = f"select {names} from {self._scan('silver')} where {days_filter(days)}"
        held = f"select {names} from held where {days_filter(days)}"
        same = " and ".join(f"a.{quote(k)} is not distinct from b.{quote(k)}" for k in ("dt", *key))
        expected = f"select distinct a.* from ({actual}) as a semi join ({held}) as b on {same}"
        differences = day_differences(self.cursor, expected, actual, [("dt", "date")], day="dt", key=key)
        for day, difference in differences.items():
            self._report("silver", day, f"{difference}, in what the gate kept")

    def _compare_quarantine(self, days: Sequence[date], gated: Sequence[date]) -> None:
        if not days:
            return
        self._make("view invalid", "select _object, _row from checked where not _valid")
        self._make("view broken", f"from bronze semi join invalid using (_object, _row) where {days_filter(days)}")
        # A file's name is not in the rows: it is kept beside them, and tables of earlier releases lack it.
        columns = [column for column in columns_of(self.context.table("quarantine")) if column[0] != FILE_COLUMN]
        names = ", ".join(quote(name) for name, _ in columns)
        expected = f"""select {names}
            from ({quarantine_sql(self.context.contract, "broken")})
            qualify _defect is not null or row_number() over (
              partition by dt, raw, _defect is null
              order by _arrived_at desc, _object desc, _row desc
            ) = 1"""
        actual = f"select {names} from {self._scan('quarantine')} where {days_filter(days)}"
        self._compare_in_quarantine([day for day in days if day not in gated], expected, actual, columns)
        if gated:
            same = " and ".join(
                f"a.{quote(k)} is not distinct from b.{quote(k)}" for k in ("dt", *self.context.contract.key)
            )
            held_by_gate = f"""select a.dt, a._object, a._row
                from held as a
                anti join (from {self._scan("silver")} where {days_filter(gated)}) as b on {same}"""
            origin = "dt, _object, _row"
            self._compare_in_quarantine(
                [day for day in days if day in gated],
                f"select {origin} from ({expected}) union all select * from ({held_by_gate})",
                f"select {origin} from ({actual})",
                [("dt", "date")],
            )

    def _compare_in_quarantine(
        self, days: Sequence[date], expected: str, actual: str, columns: Sequence[tuple[str, str]]
    ) -> None:
        if not days:
            return
        differences = day_differences(
            self.cursor,
            f"from ({expected}) where {days_filter(days)}",
            f"from ({actual}) where {days_filter(days)}",
            columns,
            day="dt",
            key=["_object", "_row"],
        )
        for day, difference in differences.items():
            self._report("quarantine", day, str(difference))

    def _compare_ledgers(self, landed: Mapping[date, tuple[int, int]], days: Sequence[date]) -> None:
        """Compare the ledger of each day with the rows that the tables hold."""
        rows = {layer: self.context.rows_by_day(self.context.table(layer)) for layer in ("silver", "quarantine")}
        for day in days:
            recorded = self.ledgers.get(day)
            if recorded is None or "landed" not in recorded:
                continue
            count, valid = landed.get(day, (0, 0))
            actual = {
                "landed": count,
                "valid": valid,
                "silver": rows["silver"].get(day, 0),
                "quarantined": rows["quarantine"].get(day, 0),
            }
            actual["duplicates"] = actual["landed"] - actual["silver"] - actual["quarantined"]
            if mismatches := count_mismatches(actual, recorded):
                self._report("silver", day, f"the ledger says {mismatches}", "ledger")

    def _report(self, layer: str, day: date, detail: str, check: str = CHECK) -> None:
        if day in self.redefined:
            detail = f"was computed by another contract than today's, by which {detail}"
            self.context.report_stale(layer, day, check, detail)
        else:
            self.context.report_wrong(layer, day, check, detail)

    def _scan(self, layer: str) -> str:
        return scan_sql(self.context.table(layer))

    def _make(self, what: str, select: str) -> None:
        self.cursor.execute(f"create temp {what} as {select}")

    def _query(self, select: str) -> list[tuple[Any, ...]]:
        return self.cursor.execute(select).fetchall()
