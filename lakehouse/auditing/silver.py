"""Landed = silver + quarantined + duplicates: the contract's cleaning, computed again from bronze and compared row by row.

The de-duplication is written here a second time and plainly, so that a slip in the fast one of `layers.silver` shows.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

import duckdb

from lakehouse.auditing.context import Context, day_groups
from lakehouse.auditing.findings import count_mismatches
from lakehouse.auditing.row_diff import day_differences, day_digests, differing_days
from lakehouse.contracts.sql import clean_sql, latest_sql, quarantine_sql, quote
from lakehouse.engine.connection import bind, columns_of, scan_sql
from lakehouse.engine.filters import days_filter
from lakehouse.storage.iceberg.catalog import qualified_name
from lakehouse.storage.iceberg.snapshots import ledger

CHECK = "landed = silver + quarantined + duplicates"

Ledger = Mapping[str, int]


def check(sight: Context) -> None:
    """Compare silver and quarantine with what bronze gives, by event date."""
    bronze, silver, quarantine = (sight.table(layer) for layer in ("bronze", "silver", "quarantine"))
    landed = sight.days(bronze)
    made = [sight.days(table) for table in (silver, quarantine)]
    days = sight.readable(landed.keys() | made[0].keys() | made[1].keys(), "bronze", "silver", "quarantine")
    late = sight.stale(bronze, quarantine, days)
    for day in sorted(late):
        sight.say("silver", day, CHECK, "was computed before bronze changed", sight.repair(day), state="stale")
    compared = [day for day in days if day not in late]
    for table in (silver, quarantine):
        rows = sight.days(table)
        sight.report.compared(qualified_name(table), len(compared), sum(rows.get(day, 0) for day in compared))
    behind = sight.stale(bronze, silver, compared)
    redefined = sight.redefined(quarantine, "silver", compared) | sight.redefined(silver, "silver", compared)
    ledgers = _newest(sight)
    for group in day_groups({day: landed.get(day, 0) for day in compared}):
        with sight.lake.engine.cursor() as cursor:
            _Days(sight, cursor, group, ledgers, redefined).compare(behind)


def _newest(sight: Context) -> dict[str, dict[str, Any]]:
    """What the newest commits that wrote each day say of it."""
    found: dict[str, dict[str, Any]] = {}
    for snapshot in sorted(sight.table("quarantine").metadata.snapshots, key=lambda s: s.sequence_number or 0):
        found |= ledger(snapshot)
    return found


@dataclass
class _Days:
    """Some event dates on a cursor of their own."""

    sight: Context
    cursor: duckdb.DuckDBPyConnection
    days: Sequence[date]
    ledgers: Mapping[str, Mapping[str, Any]]
    redefined: set[date]
    """Days that were computed by another contract than today's: what differs there is still to be computed."""

    def compare(self, behind: set[date]) -> None:
        """Compare each day; `behind` are those whose silver is older than their quarantine."""
        held = self._clean()
        refused = {day for day, (rows, valid) in held.items() if self._refused(rows, valid)}
        for day in sorted(behind & set(self.days) - refused):
            what = "quarantine was computed and silver was not; the run died between the two"
            self.sight.say("silver", day, CHECK, what, self.sight.repair(day), state="stale")
        fresh = [day for day in self.days if day not in behind]
        self._compare_silver([day for day in fresh if day not in refused])
        # What the gate keeps out of silver, silver keeps as it was.
        kept_back = [day for day in self.days if day in refused]
        self._compare_kept(kept_back)
        self._compare_quarantine([day for day in self.days if day in refused or day in fresh], kept_back)
        self._compare_ledgers(held, [day for day in self.days if day in refused or day in fresh])

    def _refused(self, rows: int, valid: int) -> bool:
        return 0 < valid < rows * self.sight.contract.quality_threshold

    def _clean(self) -> dict[date, tuple[int, int]]:
        """Make what silver is made of, as `survivors`; bronze's rows and valid rows by day."""
        contract = self.sight.contract
        keys = ", ".join(map(quote, contract.key))
        self._make("view bronze", f"from {self._scan('bronze')} where {days_filter(self.days)}")
        self._make("view cleaned", f"select *, hash(dt, {keys}) as _key from ({clean_sql(contract)})")
        self._make("table checked", "select dt, _key, _valid, _object, _row from cleaned")
        self._make(
            "table repeated", "select _key from checked where _valid group by _key having count(*) > 1"
        )  # hashes: a window over every row would sort them all
        latest = latest_sql(contract.key, "(from cleaned where _valid and _key in (from repeated))")
        self._make(
            "view survivors",
            f"from cleaned where _valid and _key not in (from repeated) union all by name (select * from ({latest}))",
        )
        counts = self._ask("select dt, count(*), count(*) filter (_valid) from checked group by dt")
        return {day: (rows, valid) for day, rows, valid in counts}

    def _compare_silver(self, days: Sequence[date]) -> None:
        if not days:
            return
        columns = columns_of(self.sight.table("silver"))
        names = ", ".join(quote(name) for name, _ in columns)
        fields = ", ".join(quote(f.name) for f in self.sight.contract.fields)
        valid = f"select {fields}, dt, _arrived_at from survivors where {days_filter(days)}"
        expected = f"select {names} from ({bind(self.sight.stream.sql('silver'), {'valid': valid})})"
        actual = f"select {names} from {self._scan('silver')} where {days_filter(days)}"
        unlike = differing_days(
            day_digests(self.cursor, expected, columns, "dt"), day_digests(self.cursor, actual, columns, "dt")
        )
        if unlike:
            # Windows look at the whole day, so the filter stands outside.
            found = day_differences(
                self.cursor,
                f"from ({expected}) where {days_filter(unlike)}",
                f"from ({actual}) where {days_filter(unlike)}",
                columns,
                day="dt",
                key=self.sight.contract.key,
            )
            for day, difference in found.items():
                self._say("silver", day, str(difference))

    def _compare_kept(self, days: Sequence[date]) -> None:
        """What silver keeps of days that the gate refused was valid, and each key is there once."""
        if not days:
            return
        key = self.sight.contract.key
        names = ", ".join(map(quote, ("dt", *key)))
        actual = f"select {names} from {self._scan('silver')} where {days_filter(days)}"
        survivors = f"select {names} from survivors where {days_filter(days)}"
        same = " and ".join(f"a.{quote(k)} is not distinct from b.{quote(k)}" for k in ("dt", *key))
        expected = f"select distinct a.* from ({actual}) as a semi join ({survivors}) as b on {same}"
        found = day_differences(self.cursor, expected, actual, [("dt", "date")], day="dt", key=key)
        for day, difference in found.items():
            self._say("silver", day, f"{difference}, in what the gate kept")

    def _compare_quarantine(self, days: Sequence[date], kept_back: Sequence[date]) -> None:
        if not days:
            return
        self._make("view invalid", "select _object, _row from checked where not _valid")
        self._make("view broken", f"from bronze semi join invalid using (_object, _row) where {days_filter(days)}")
        columns = [(name, kind) for name, kind in columns_of(self.sight.table("quarantine"))]
        names = ", ".join(quote(name) for name, _ in columns)
        expected = f"""select {names}
            from ({quarantine_sql(self.sight.contract, "broken")})
            qualify _defect is not null or row_number() over (
              partition by dt, raw, _defect is null
              order by _arrived_at desc, _object desc, _row desc
            ) = 1"""
        actual = f"select {names} from {self._scan('quarantine')} where {days_filter(days)}"
        self._compare_in_quarantine([day for day in days if day not in kept_back], expected, actual, columns)
        if kept_back:
            same = " and ".join(
                f"a.{quote(k)} is not distinct from b.{quote(k)}" for k in ("dt", *self.sight.contract.key)
            )
            held = f"""select a.dt, a._object, a._row
                from survivors as a
                anti join (from {self._scan("silver")} where {days_filter(kept_back)}) as b on {same}"""
            whence = "dt, _object, _row"
            self._compare_in_quarantine(
                kept_back,
                f"select {whence} from ({expected}) union all select * from ({held})",
                f"select {whence} from ({actual})",
                [("dt", "date")],
            )

    def _compare_in_quarantine(
        self, days: Sequence[date], expected: str, actual: str, columns: Sequence[tuple[str, str]]
    ) -> None:
        if not days:
            return
        found = day_differences(
            self.cursor,
            f"from ({expected}) where {days_filter(days)}",
            f"from ({actual}) where {days_filter(days)}",
            columns,
            day="dt",
            key=["_object", "_row"],
        )
        for day, difference in found.items():
            self._say("quarantine", day, str(difference))

    def _compare_ledgers(self, landed: Mapping[date, tuple[int, int]], days: Sequence[date]) -> None:
        """What the commits say of each day, against the rows that there are."""
        rows = {layer: self.sight.days(self.sight.table(layer)) for layer in ("silver", "quarantine")}
        for day in days:
            said = self.ledgers.get(str(day))
            if said is None or "landed" not in said:
                continue
            count, valid = landed.get(day, (0, 0))
            there = {
                "landed": count,
                "valid": valid,
                "silver": rows["silver"].get(day, 0),
                "quarantined": rows["quarantine"].get(day, 0),
            }
            there["duplicates"] = there["landed"] - there["silver"] - there["quarantined"]
            if wrong := count_mismatches(there, said):
                self._say("silver", day, f"the ledger says {wrong}", "ledger")

    def _say(self, layer: str, day: date, what: str, check: str = CHECK) -> None:
        repair = self.sight.repair(day)
        if day in self.redefined:
            what = f"was computed by another contract than today's, by which {what}"
            self.sight.say(layer, day, check, what, repair, state="stale")
        else:
            self.sight.say(layer, day, check, what, repair)

    def _scan(self, layer: str) -> str:
        return scan_sql(self.sight.table(layer))

    def _make(self, what: str, select: str) -> None:
        self.cursor.execute(f"create temp {what} as {select}")

    def _ask(self, select: str) -> list[tuple[Any, ...]]:
        return self.cursor.execute(select).fetchall()
