"""Two SELECTs compared row by row, by day. What the rows mean is not known here."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

import duckdb

from lakehouse.auditing.findings import Difference, format_key
from lakehouse.contracts.sql import quote

RELATIVE_TOLERANCE = 1e-9
"""Sums of floating-point numbers depend on their order; they may differ by so much of themselves."""


@dataclass(frozen=True, slots=True)
class DayDigest:
    """What a day's rows add up to: equal rows in any order give equal sums."""

    rows: int = 0
    hashes: int = 0


def day_digests(
    cursor: duckdb.DuckDBPyConnection, select: str, columns: Sequence[tuple[str, str]], day: str
) -> dict[date, DayDigest]:
    """The sum of each day of a SELECT, over these columns as (name, type)."""
    found = cursor.execute(
        f"select {quote(day)}, count(*), sum({_hash(columns)}) from ({select}) group by {quote(day)}"
    ).fetchall()
    return {of: DayDigest(rows, hashes) for of, rows, hashes in found}


def differing_days(expected: Mapping[date, DayDigest], actual: Mapping[date, DayDigest]) -> list[date]:
    """The days whose sums differ, in order."""
    return sorted(
        day for day in expected.keys() | actual.keys() if expected.get(day, DayDigest()) != actual.get(day, DayDigest())
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
    """The days on which the SELECTs differ, and how: rows of one `key` are compared in all `columns` (name, type);
    those in `close` are floating-point numbers that may differ in their last digits.
    """
    exact = [(name, kind) for name, kind in columns if name not in close]
    lists = "".join(
        f", coalesce(list_sort(list({quote(name)}) filter (_{side})), []) as {quote(f'{name} {side}')}"
        for name in close
        for side in ("expected", "actual")
    )
    unlike = "".join(f" or {quote(f'{name} expected')} is distinct from {quote(f'{name} actual')}" for name in close)
    keys = ", ".join(map(quote, (day, *key)))
    values = "".join(f", {quote(name)}" for name in close if name not in key)
    rows = cursor.execute(f"""
        with rows_of_both as (
          select {keys}{values}, {_hash(exact)} as _hash, true as _expected, false as _actual from ({expected})
          union all by name
          select {keys}{values}, {_hash(exact)} as _hash, false as _expected, true as _actual from ({actual})
        )
        select {keys},
          count(*) filter (_expected) as _expected_rows,
          count(*) filter (_actual) as _actual_rows,
          sum(_hash) filter (_expected) is not distinct from sum(_hash) filter (_actual) as _same{lists}
        from rows_of_both
        group by {keys}
        having _expected_rows <> _actual_rows or not _same{unlike}
        order by {keys}""")
    found: dict[date, Difference] = {}
    while batch := rows.fetchmany(10_000):
        for row in batch:
            one = _difference(row, key, len(close))
            if one is not None:
                found[row[0]] = _added(found.get(row[0]), one)
    return found


def _difference(row: tuple[Any, ...], key: Sequence[str], close: int) -> Difference | None:
    expected, actual, same, *lists = row[1 + len(key) :]
    if same and expected == actual and all(_close(*lists[2 * n : 2 * n + 2]) for n in range(close)):
        return None
    of = format_key(key, row[1 : 1 + len(key)])
    if actual == 0:
        return Difference(missing=expected, example=of)
    if expected == 0:
        return Difference(extra=actual, example=of)
    if actual > expected:
        return Difference(repeated=actual - expected, example=of)
    return Difference(missing=expected - actual, example=of) if actual < expected else Difference(changed=1, example=of)


def _close(expected: Sequence[float | None], actual: Sequence[float | None]) -> bool:
    return len(expected) == len(actual) and all(
        one == other
        or (
            one is not None
            and other is not None
            and math.isclose(one, other, rel_tol=RELATIVE_TOLERANCE, abs_tol=RELATIVE_TOLERANCE)
        )
        for one, other in zip(expected, actual, strict=True)
    )


def _added(one: Difference | None, other: Difference) -> Difference:
    if one is None:
        return other
    return Difference(
        one.missing + other.missing,
        one.extra + other.extra,
        one.repeated + other.repeated,
        one.changed + other.changed,
        one.example,
    )


def _hash(columns: Sequence[tuple[str, str]]) -> str:
    """A row's hash. Types are named, for a number's hash depends on how it is kept."""
    # A map's order is that of its making; its text would differ.
    parts = (
        f"list_sort(map_entries({quote(name)}))" if kind.startswith("map(") else f"{quote(name)}::{kind}"
        for name, kind in columns
    )
    return f"hash({', '.join(parts)})::hugeint"
