"""Test SQL in memory: the rows that a table's SQL gives for rows written in a YAML file, as `docs/models.md` describes."""

import csv
import io
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from pathlib import Path
from typing import Any

import duckdb
import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from lakehouse.contracts.default_sql import Query
from lakehouse.contracts.in_memory import open_in_memory
from lakehouse.contracts.sql import clean_sql, day_sql, latest_sql, quarantine_sql, quote
from lakehouse.contracts.streams import Stream
from lakehouse.contracts.yaml_lines import line_of
from lakehouse.engine.connection import bind, describe
from lakehouse.errors import SqlTestError
from lakehouse.models.model import Model
from lakehouse.models.returned import show_returned
from lakehouse.pipeline.alerts import alerts_of_sql
from lakehouse.pipeline.features import features_of_sql
from lakehouse.pipeline.lake import Lake
from lakehouse.pipeline.model_days import day_sql as model_day_sql
from lakehouse.pipeline.model_days import days_read
from lakehouse.pipeline.model_specs import day_column
from lakehouse.pipeline.table_specs import table_specs
from lakehouse.storage.iceberg.schema import TableSpec

SHOWN = 10
"""How many missing and unexpected rows a failure shows."""

STREAM_TESTS = "tests.yaml"
"""The file of tests in a stream's folder."""

Rows = Sequence[Mapping[str, Any]]


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    table: str
    name: str = ""
    days: tuple[date, ...] | date | None = None
    given: dict[str, list[dict[str, Any]] | str]
    expect: list[dict[str, Any]] | str


@dataclass(frozen=True)
class SqlTest:
    """A test of the SQL of a table: the rows that it is given, and those that it has to return."""

    path: Path
    name: str
    table: str
    given: Mapping[str, Rows] = field(repr=False)
    expected: Rows = field(repr=False)
    days: Sequence[date] | None = field(repr=False)
    lake: Lake = field(repr=False, compare=False)

    def __str__(self) -> str:
        source = self.path.parent.name if self.path.name == STREAM_TESTS else self.path.stem
        return f"{source}:{self.name}" if self.name else source

    def check(self) -> None:
        """Run the SQL over the rows. Raises AssertionError with the rows that are missing or unexpected, and SqlTestError."""
        if difference := self.difference():
            raise AssertionError(f"{self.path}: {self.name or self.table}\n{difference}")

    def difference(self) -> str:
        """Run the SQL over the rows, and return what differs, a line for each row; empty if nothing does."""
        with open_in_memory() as database:
            try:
                return _difference(database, run_sql(self, database), self)
            except duckdb.Error as error:
                raise SqlTestError(f"{self.path}: {self.table}: {error}") from error


def find_tests(lake: Lake, paths: Iterable[Path | str]) -> list[SqlTest]:
    """Read the tests of these YAML files, and of those in these folders. Raises SqlTestError with the file and line."""
    files = [file for path in map(Path, paths) for file in (sorted(path.rglob("*.yaml")) if path.is_dir() else [path])]
    return [test for file in files for test in _read(lake, file)]


def _read(lake: Lake, path: Path) -> Iterator[SqlTest]:
    try:
        text = path.read_text(encoding="utf-8")
        documents = [*yaml.safe_load_all(text)]
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise SqlTestError(f"{path}: can't be read: {error}") from error
    for document in documents:
        try:
            file = _File.model_validate(document)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"]))
            line = line_of(text, where) if len(documents) == 1 and where else None
            raise SqlTestError(f"{path}: {f'line {line}: ' if line else ''}{where}: {first['msg']}") from error
        days = [file.days] if isinstance(file.days, date) else file.days
        given = {table: _rows(path, rows) for table, rows in file.given.items()}
        yield SqlTest(path, file.name, file.table, given, _rows(path, file.expect), days, lake)


def _rows(path: Path, given: Rows | str) -> Rows:
    """Return rows as they are, or those of CSV: a file beside the test's, or text of several lines."""
    if not isinstance(given, str):
        return given
    if "\n" not in given.strip():
        try:
            given = (path.parent / given.strip()).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise SqlTestError(f"{path}: {given} can't be read ({error}).") from error
    return [{name: value or None for name, value in row.items()} for row in csv.DictReader(io.StringIO(given))]


def run_sql(test: SqlTest, database: duckdb.DuckDBPyConnection) -> str:
    """Create the given tables, compute the tested one, and return the SELECT of its rows."""
    lake, name = test.lake, test.table
    specs = {spec.name: spec for spec in table_specs(lake.streams.values())} | dict(lake.models.specs)
    inputs = inputs_of(lake, name)
    if not inputs:
        raise SqlTestError(f"{test.path}: there is no SQL of a table {name}.")
    if unread := sorted(test.given.keys() - {*inputs}):
        raise SqlTestError(f"{test.path}: {name} reads {', '.join(inputs)}, not {', '.join(unread)}.")
    for table in inputs:
        layer, short = table.split(".")
        database.execute(f"create schema if not exists {quote(layer)}")
        _create(database, _given(table), dict(specs[table].columns), test.given.get(table, ()), test)
        database.execute(f"create view {quote(layer)}.{quote(short)} as from {_given(table)}")
    if model := lake.models.models.by_name.get(name):
        return _run_model(database, test, model, specs)
    stream = _stream_of(lake, name)
    assert stream is not None
    return _stream_sql(test, stream)


def inputs_of(lake: Lake, table: str) -> list[str]:
    """List the tables that the SQL of a table reads; none if it has no SQL that can be tested."""
    if model := lake.models.models.by_name.get(table):
        return model.reads
    if stream := _stream_of(lake, table):
        return [f"bronze.{stream.name}" if table.startswith(("silver", "quarantine")) else f"silver.{stream.name}"]
    return []


def text_of(lake: Lake, table: str) -> str:
    """Return the SQL of a model or of a table below silver as it was written; empty if it reads every column."""
    if model := lake.models.models.by_name.get(table):
        return "" if model.function else model.select
    stream = _stream_of(lake, table)
    queries: dict[str, Query] = {"daily": "gold", "features": "features", "alerts": "alerts"}
    query = queries.get(table.rpartition("_")[2])
    return stream.sql(query) if stream and query and not table.startswith(("silver.", "quarantine.")) else ""


def _given(table: str) -> str:
    return quote(f"given {table}")


def _stream_of(lake: Lake, table: str) -> Stream | None:
    below = ("silver.{}", "quarantine.{}", "gold.{}_daily", "serving.{}_features", "serving.{}_alerts")
    return next((it for it in lake.streams.values() if table in [name.format(it.name) for name in below]), None)


def _create(
    database: duckdb.DuckDBPyConnection, name: str, types: Mapping[str, str], rows: Rows, test: SqlTest
) -> None:
    """Create a table of these columns with these rows. A column that a row lacks is null."""
    database.execute(f"create table {name} ({', '.join(f'{quote(column)} {kind}' for column, kind in types.items())})")
    for row in rows:
        if unknown := sorted(row.keys() - types.keys()):
            raise SqlTestError(f"{test.path}: there is no column {', '.join(unknown)}; there are {', '.join(types)}.")
        columns = ", ".join(map(quote, row))
        values = ", ".join(f"cast(? as {types[column]})" for column in row)
        given = [_text(value) if types[column] == "VARCHAR" else value for column, value in row.items()]
        database.execute(f"insert into {name} ({columns}) select {values}", given)


def _text(value: Any) -> Any:
    """Write a value as the text that a landing object may have for it."""
    match value:
        case bool() | list() | dict():
            return json.dumps(value)
        case datetime() | date():
            return value.isoformat()
        case None:
            return None
        case _:
            return str(value)


def _run_model(database: duckdb.DuckDBPyConnection, test: SqlTest, model: Model, specs: Mapping[str, TableSpec]) -> str:
    """Compute a model's days, each from the days that it reads, as a run does."""
    if not model.is_partitioned:
        show_returned(database, model)
        return model.select
    columns = {name: day_column(specs[name].partition_by) for name in model.reads}
    given = " union ".join(f"select {column} as day from {_given(name)}" for name, column in columns.items() if column)
    days = test.days or [day for (day,) in database.execute(f"from ({given}) where day is not null").fetchall()]
    types = ", ".join(f"{quote(name)} {kind}" for name, kind in specs[model.name].columns)
    database.execute(f"create table computed ({types})")
    for day in sorted(days):
        read = days_read(model, day)
        for name, column in columns.items():
            where = f" where {column} between date '{read[-1]}' and date '{day}'" if column else ""
            layer, short = map(quote, name.split("."))
            database.execute(f"create or replace view {layer}.{short} as from {_given(name)}{where}")
        show_returned(database, model)
        database.execute(f"insert into computed by name {model_day_sql(model, day)}")
    return "from computed"


def _stream_sql(test: SqlTest, stream: Stream) -> str:
    layer, contract, silver = test.table.partition(".")[0], stream.contract, f"select * from silver.{stream.name}"
    arrived = "coalesce(_arrived_at, now()::timestamp) as _arrived_at"
    landed = f"select * replace ({arrived}) from bronze.{stream.name}"
    bronze = (
        f"with landed as ({landed}), bronze as (select * replace ({day_sql(contract, 'landed')} as dt) from landed)"
    )
    match layer:
        case "silver":
            valid = f"select * exclude (_valid, _object, _row) from ({latest_sql(contract.key, 'cleaned', '_valid')})"
            sql = bind(stream.sql("silver"), {"valid": valid})
            return f"from ({bronze}, cleaned as ({clean_sql(contract)}) from ({sql}))"
        case "quarantine":
            return f"from ({bronze} from ({quarantine_sql(contract)}))"
        case "gold":
            return bind(stream.sql("gold"), {"silver": silver})
    if test.table.endswith("_alerts"):
        return alerts_of_sql(stream, silver)
    if test.days is None:
        raise SqlTestError(f"{test.path}: days: name the days as of which {test.table} is computed.")
    return features_of_sql(stream, silver, test.days)


def _difference(database: duckdb.DuckDBPyConnection, select: str, test: SqlTest) -> str:
    types = dict(describe(database, select))
    named = list(dict.fromkeys(column for row in test.expected for column in row)) or list(types)
    if unknown := [column for column in named if column not in types]:
        raise SqlTestError(
            f"{test.path}: expect: {test.table} has no column {', '.join(unknown)}; it has {', '.join(types)}."
        )
    _create(database, "expected", {name: types[name] for name in named}, test.expected, test)
    columns = ", ".join(_comparable(name, types[name]) for name in named)
    expected, actual = f"select {columns} from expected", f"select {columns} from ({select})"
    lines = [
        f"  {what}: {', '.join(f'{name}={value}' for name, value in zip(named, row, strict=True))}"
        for what, one, other in (("missing", expected, actual), ("unexpected", actual, expected))
        for row in database.execute(f"({one}) except all ({other}) order by all limit {SHOWN}").fetchall()
    ]
    return "\n".join(lines)


def _comparable(name: str, kind: str) -> str:
    """Write a number with the 12 digits that do not depend on the order of a sum."""
    return f"printf('%.12g', {quote(name)}) as {quote(name)}" if kind in ("DOUBLE", "FLOAT") else quote(name)
