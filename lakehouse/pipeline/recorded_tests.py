"""Record a test of SQL from rows of the lake: what a table's SQL reads, and what it gives for that."""

import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import date, datetime
from pathlib import Path
from typing import Any

import duckdb
import yaml

from lakehouse.contracts.in_memory import open_in_memory
from lakehouse.engine.connection import describe, scan_sql
from lakehouse.engine.filters import days_filter
from lakehouse.errors import SqlTestError
from lakehouse.pipeline.features import feature_window
from lakehouse.pipeline.lake import Lake
from lakehouse.pipeline.model_days import days_read
from lakehouse.pipeline.model_specs import DAY_COLUMNS, day_column
from lakehouse.pipeline.sql_tests import Rows, SqlTest, inputs_of, run_sql, text_of

MAX_ROWS = 1_000
"""The most rows of one table that a test may hold."""

_WORD = re.compile(r"\w+")


@dataclass(frozen=True, slots=True)
class RecordedTest:
    """A test as YAML, the numbers of rows that it is given by table, and how many it expects."""

    text: str
    given: Mapping[str, int]
    expected: int


def record_test(lake: Lake, table: str, where: str) -> RecordedTest:
    """Record the rows of a table for which a condition holds, and the rows that they are computed from.

    What the table reads is filtered by the same condition where it has the columns, and by the days of the rows.
    Raises SqlTestError if there are no such rows, or too many to read.
    """
    if not (inputs := inputs_of(lake, table)):
        raise SqlTestError(f"There is no SQL of a table {table} that can be tested.")
    days = _days(lake, table, where)
    whole = {name: _given(lake, name, where, _read(lake, table, days)) for name in inputs}
    test = SqlTest(Path("recorded"), "", table, whole, (), days or None, lake)
    expected = _computed(test)
    given = _without_unnamed(test, expected)
    file: dict[str, Any] = {"table": table, "given": {**given}, "expect": expected}
    if days:
        file = {"table": table, "days": days, **file}
    text = yaml.safe_dump(file, sort_keys=False, allow_unicode=True, default_flow_style=None, width=160)
    return RecordedTest(text, {name: len(rows) for name, rows in given.items()}, len(expected))


def _computed(test: SqlTest) -> list[dict[str, Any]]:
    """Compute the rows that the table's SQL gives."""
    with open_in_memory() as database:
        return _fetch(database, f"from ({run_sql(test, database)}) order by all")


def _without_unnamed(test: SqlTest, expected: Rows) -> Mapping[str, Rows]:
    """Return the given rows without the columns that the SQL does not name, or all of them if the result needs these."""
    if not (text := text_of(test.lake, test.table)):
        return test.given
    words = {*DAY_COLUMNS, *_WORD.findall(text.lower())}
    given = {
        name: [{column: value for column, value in row.items() if column.lower() in words} for row in rows]
        for name, rows in test.given.items()
    }
    with suppress(duckdb.Error):  # a star or a function may need the others
        if _computed(replace(test, given=given)) == expected:
            return given
    return test.given


def _days(lake: Lake, table: str, where: str) -> list[date]:
    """List the days of the rows; none of a table without days."""
    loaded = lake.tables.load(table)
    column = day_column(field.name for field in loaded.spec().fields)
    try:
        with lake.engine.cursor() as cursor:
            rows = cursor.execute(
                f"select distinct {column or 'null'} from {scan_sql(loaded)} where {where}"
            ).fetchall()
    except duckdb.Error as error:
        raise SqlTestError(f"--where: {error}") from error
    if not rows:
        raise SqlTestError(f"{table} has no row for which {where}.")
    return sorted(day for (day,) in rows if day is not None)


def _read(lake: Lake, table: str, days: Sequence[date]) -> list[date]:
    """List the days that these days of a table are computed from."""
    if model := lake.models.models.by_name.get(table):
        return sorted({read for day in days for read in days_read(model, day)})
    return sorted({read for day in days for read in feature_window(day)}) if table.endswith("_features") else [*days]


def _given(lake: Lake, name: str, where: str, days: Sequence[date]) -> list[dict[str, Any]]:
    table = lake.tables.load(name)
    column = day_column(field.name for field in table.spec().fields)
    select = f"from {scan_sql(table)}" + (f" where {days_filter(days, column)}" if column and days else "")
    with lake.engine.cursor() as cursor:
        with suppress(duckdb.BinderException):  # it lacks a column of the condition
            filtered = f"from ({select}) where {where}"
            describe(cursor, filtered)
            select = filtered
        rows = _fetch(cursor, f"from ({select}) order by all limit {MAX_ROWS + 1}")
    if len(rows) > MAX_ROWS:
        raise SqlTestError(f"{name} has more than {MAX_ROWS:,} rows on these days; narrow --where.")
    return rows


def _fetch(cursor: duckdb.DuckDBPyConnection, select: str) -> list[dict[str, Any]]:
    """Fetch rows without their nulls, in the types that YAML has."""
    result = cursor.execute(select)
    columns = [column[0] for column in result.description or ()]
    return [
        {name: _value(value) for name, value in zip(columns, row, strict=True) if value is not None}
        for row in result.fetchall()
    ]


def _value(value: Any) -> Any:
    is_plain = isinstance(value, str | int | float | bool | date | list | dict) and not isinstance(value, datetime)
    return value if is_plain else str(value)
