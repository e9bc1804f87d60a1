"""Compare two SELECTs row by row, and report their differences by day. The callers know what the rows mean."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

import duckdb
from pyiceberg.table import Table

from lakehouse.auditing.context import day_groups
from lakehouse.auditing.findings import Difference, format_key
from lakehouse.contracts.sql import quote
from lakehouse.engine.connection import DuckDB, columns_of, scan_sql
from lakehouse.engine.filters import days_filter

RELATIVE_TOLERANCE = 1e-9
"""How far floating-point sums may differ: their last digits depend on the order of summation."""

FETCHED_ROWS = 10_000


@dataclass(frozen=True, slots=True)
class DayDigest:
    """A digest of a day's rows. Equal rows in any order give equal digests."""

    rows: int = 0
    hashes: int = 0


def differences_by_digest(
    cursor: duckdb.DuckDBPyConnection,
    expected: str,
    actual: str,
    columns: Sequence[tuple[str, str]],
    *,
    key: Sequence[str],
) -> dict[date, Difference]:
    """Find the values of `dt` on which two SELECTs differ, and how, as `day_differences` does.

    Digests of whole days are compared first. They take less memory than rows grouped by key, and mostly nothing differs.
    """
    digests = [_day_digests(cursor, select, columns) for select in (expected, actual)]
    days = sorted(
        day
        for day in digests[0].keys() | digests[1].keys()
        if digests[0].get(day, DayDigest()) != digests[1].get(day, DayDigest())
    )
    if not days:
        return {}
    # The filter stands outside of the SELECTs, because their windows see whole days.
    return day_differences(
        cursor,
        f"from ({expected}) where {days_filter(days)}",
        f"from ({actual}) where {days_filter(days)}",
        columns,
        day="dt",
        key=key,
    )


def day_differences(
    cursor: duckdb.DuckDBPyConnection,
    expected: str,
    actual: str,
    columns: Sequence[tuple[str, str]],
    *,
    day: str,
    key: Sequence[str],
    close: Sequence[str] = (),
) -> dict[date, Difference]:
    """Find the days on which two SELECTs differ, and how.

    Args:
        cursor: Runs the SELECTs.
        expected: The SELECT of the rows that should be there.
        actual: The SELECT of the rows that are there.
        columns: The columns that are compared, as (name, DuckDB type).
        day: The column to report differences by; it need not hold days.
        key: The columns that identify a row within its day.
        close: Those of the columns that hold floating-point numbers and may differ in their last digits.

    """
    rows = cursor.execute(_differences_sql(expected, actual, columns, day, key, close))
    differences: dict[date, Difference] = {}
    while batch := rows.fetchmany(FETCHED_ROWS):
        for row in batch:
            difference = _difference(row, key, len(close))
            if difference is not None:
                differences[row[0]] = _add(differences.get(row[0]), difference)
    return differences


def table_differences(
    engine: DuckDB,
    table: Table,
    select: Callable[[Sequence[date]], str],
    rows: Mapping[date, int],
    *,
    key: Sequence[str],
) -> Iterator[tuple[date, Difference]]:
    """Find the days on which a table differs from what `select` gives for them, and how.

    Floating-point columns are compared within the tolerance. `rows` has the days to compare and about how many rows
    each has, so that those of a group of days fit into memory.
    """
    columns = columns_of(table)
    close = [name for name, kind in columns if kind == "double"]
    names = ", ".join(quote(name) for name, _ in columns)
    for group in day_groups(rows):
        expected = f"select {names} from ({select(group)})"
        actual = f"select {names} from {scan_sql(table)} where {days_filter(group)}"
        with engine.cursor() as cursor:
            differences = day_differences(cursor, expected, actual, columns, day="dt", key=key, close=close)
        yield from differences.items()


def _differences_sql(
    expected: str,
    actual: str,
    columns: Sequence[tuple[str, str]],
    day: str,
    key: Sequence[str],
    close: Sequence[str],
) -> str:
    exact = [(name, kind) for name, kind in columns if name not in close]
    lists = "".join(
        f", coalesce(list_sort(list({quote(name)}) filter (_{side})), []) as {quote(f'{name} {side}')}"
        for name in close
        for side in ("expected", "actual")
    )
    unlike = "".join(f" or {quote(f'{name} expected')} is distinct from {quote(f'{name} actual')}" for name in close)
    keys = ", ".join(map(quote, (day, *key)))
    values = "".join(f", {quote(name)}" for name in close if name not in key)
    return f"""
        with rows_of_both as (
          select {keys}{values}, {_hash_sql(exact)} as _hash, true as _expected, false as _actual from ({expected})
          union all by name
          select {keys}{values}, {_hash_sql(exact)} as _hash, false as _expected, true as _actual from ({actual})
        )
        select {keys},
          count(*) filter (_expected) as _expected_rows,
          count(*) filter (_actual) as _actual_rows,
          sum(_hash) filter (_expected) is not distinct from sum(_hash) filter (_actual) as _same{lists}
        from rows_of_both
        group by {keys}
        having _expected_rows <> _actual_rows or not _same{unlike}
        order by {keys}"""


def _day_digests(
    cursor: duckdb.DuckDBPyConnection, select: str, columns: Sequence[tuple[str, str]]
) -> Mapping[date, DayDigest]:
    rows = cursor.execute(f"select dt, count(*), sum({_hash_sql(columns)}) from ({select}) group by dt").fetchall()
    return {day: DayDigest(count, hashes) for day, count, hashes in rows}


def _difference(row: tuple[Any, ...], key: Sequence[str], close: int) -> Difference | None:
    """Read a row of `_differences_sql`; None if its sides differ by no more than rounding."""
    expected, actual, same, *lists = row[1 + len(key) :]
    if same and expected == actual and all(_are_close(*lists[2 * n : 2 * n + 2]) for n in range(close)):
        return None
    example = format_key(key, row[1 : 1 + len(key)])
    if actual == 0:
        return Difference(missing=expected, example=example)
    if expected == 0:
        return Difference(extra=actual, example=example)
    if actual > expected:
        return Difference(repeated=actual - expected, example=example)
    if actual < expected:
        return Difference(missing=expected - actual, example=example)
    return Difference(changed=1, example=example)


def _are_close(expected: Sequence[float | None], actual: Sequence[float | None]) -> bool:
    return len(expected) == len(actual) and all(
        a == b
        or (
            a is not None
            and b is not None
            and math.isclose(a, b, rel_tol=RELATIVE_TOLERANCE, abs_tol=RELATIVE_TOLERANCE)
        )
        for a, b in zip(expected, actual, strict=True)
    )


def _add(total: Difference | None, more: Difference) -> Difference:
    if total is None:
        return more
    return Difference(
        total.missing + more.missing,
        total.extra + more.extra,
        total.repeated + more.repeated,
        total.changed + more.changed,
        total.example,
    )


def _hash_sql(columns: Sequence[tuple[str, str]]) -> str:
    """Generate a row's hash. Columns are cast, because the hash of a number depends on its type."""
    # A map's entries are sorted, because their order is that of their insertion.
    values = (
        f"list_sort(map_entries({quote(name)}))" if kind.startswith("map(") else f"{quote(name)}::{kind}"
        for name, kind in columns
    )
    return f"hash({', '.join(values)})::hugeint"
