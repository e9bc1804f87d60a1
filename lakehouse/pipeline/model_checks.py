"""Evaluate the checks of a model's header over the rows that a run wrote."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date

import duckdb

from lakehouse.contracts.sql import literal, quote
from lakehouse.engine.connection import scan_sql
from lakehouse.engine.filters import days_filter
from lakehouse.models.header import Header
from lakehouse.models.model import Model
from lakehouse.models.sql_tables import tables_read
from lakehouse.pipeline.lake import Lake
from lakehouse.pipeline.model_inputs import Source, open_inputs

THIS = "this"
"""The written rows, in a check's SQL."""

EXAMPLES = 5


@dataclass(frozen=True, slots=True)
class ModelCheck:
    """A check: SQL that returns a row for each violation."""

    name: str
    description: str
    sql: str
    blocking: bool = False
    """Whether what is below the model must not be computed from rows that violate it."""


@dataclass(frozen=True, slots=True)
class CheckResult:
    """The number of a check's violations, and a few of them as text."""

    check: ModelCheck
    violations: int
    examples: Sequence[str]


def list_checks(model: Model) -> list[ModelCheck]:
    """List the checks of a model's header."""
    return [*_checks(model.header)]


def _checks(header: Header) -> Iterator[ModelCheck]:
    checks = header.checks
    if header.key:
        yield ModelCheck(
            "key", f"No two rows have the same {_listed(header.key)}.", _repeated(header.key), blocking=True
        )
    if names := dict.fromkeys([*header.key, *checks.not_null]):
        nulls = " or ".join(f"{quote(name)} is null" for name in names)
        yield ModelCheck("not_null", f"{_listed(names)} is never null.", f"from {THIS} where {nulls}", bool(header.key))
    if checks.unique:
        yield ModelCheck("unique", f"No two rows have the same {_listed(checks.unique)}.", _repeated(checks.unique))
    for column, values in checks.accepted.items():
        accepted = ", ".join(literal(value) if isinstance(value, str) else str(value) for value in values)
        sql = f"select {quote(column)}, count(*) as rows from {THIS} where {quote(column)} not in ({accepted}) group by all"
        yield ModelCheck(f"accepted_{column}", f"{column} is one of {accepted}.", sql)
    for column, target in checks.relationship.items():
        table, _, other = target.rpartition(".")
        sql = f"""select {quote(column)}, count(*) as rows from {THIS} as written
          where {quote(column)} is not null
          and not exists (from {table} as related where related.{quote(other)} = written.{quote(column)}) group by all"""
        yield ModelCheck(f"relationship_{column}", f"{target} has each {column}.", sql)
    if checks.row_count is not None:
        yield ModelCheck(
            "row_count",
            f"A day has at most {checks.row_count:.0%} more or fewer rows than the day before.",
            f"""select dt, rows, before from (
              select dt, count(*) as rows, lag(rows) over (order by dt) as before, lag(dt) over (order by dt) as day_before
              from {THIS} group by dt
            ) where day_before = dt - 1 and abs(rows / before - 1) > {checks.row_count}""",
        )
    for name, sql in checks.nothing.items():
        yield ModelCheck(name, "Returns no row.", sql)


def evaluate_checks(lake: Lake, model: Model, days: Sequence[date]) -> Iterator[CheckResult]:
    """Evaluate the checks of a model over these days, or over all rows of one without partitions."""
    checks = list_checks(model)
    if not checks:
        return
    written = Source(model.name, lake.tables.load(model.name))
    with open_inputs(lake) as inputs:
        for check in checks:
            names = {table.name for table in tables_read(inputs.cursor, check.sql)} - {THIS}
            inputs.show([Source(name, lake.tables.load(name)) for name in names], None)
            dates = [*days, *_days_before(days)] if check.name == "row_count" else days
            where = days_filter(sorted({*dates})) if model.is_partitioned else "true"
            inputs.cursor.execute(f"create or replace view {THIS} as from {scan_sql(written.table)} where {where}")
            yield _evaluate(inputs.cursor, check)


def _evaluate(cursor: duckdb.DuckDBPyConnection, check: ModelCheck) -> CheckResult:
    rows = cursor.execute(f"select count(*) from (\n{check.sql}\n)").fetchone()
    violations = int(rows[0]) if rows else 0
    if not violations:
        return CheckResult(check, 0, ())
    result = cursor.execute(f"select * from (\n{check.sql}\n) limit {EXAMPLES}")
    columns = [column[0] for column in result.description or ()]
    examples = [
        ", ".join(f"{name} {value}" for name, value in zip(columns, row, strict=True)) for row in result.fetchall()
    ]
    return CheckResult(check, violations, examples)


def _days_before(days: Sequence[date]) -> list[date]:
    return [date.fromordinal(day.toordinal() - 1) for day in days]


def _repeated(columns: Sequence[str]) -> str:
    names = ", ".join(map(quote, columns))
    return f"select {names}, count(*) as rows from {THIS} group by {names} having count(*) > 1"


def _listed(names: Sequence[str] | dict[str, None]) -> str:
    return ", ".join(names)
