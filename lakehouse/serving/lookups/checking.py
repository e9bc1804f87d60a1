"""Check a declared look-up against the tables that it reads, from metadata alone, and generate the SELECT of its rows."""

import difflib
from collections.abc import Iterable
from typing import Any

import duckdb

from lakehouse.contracts.in_memory import open_in_memory
from lakehouse.contracts.sql import quote
from lakehouse.engine.connection import describe
from lakehouse.pipeline.readable_lake import ReadableLake
from lakehouse.pipeline.table_specs import empty_sql
from lakehouse.pipeline.unified_view import columns_of_view, view_exists, view_names
from lakehouse.serving.lookups.declaration import ROWS, Lookup, lookup_error, sql_error

BIGINT_KINDS = ("hugeint", "uhugeint", "ubigint")
"""Types that become BIGINT, as in tables: a sum of integers is a HUGEINT. One that does not fit into 64 bits fails its run."""

KEPT_KINDS = (
    "tinyint", "smallint", "integer", "bigint", "utinyint", "usmallint", "uinteger", "float", "double", "decimal",
    "boolean", "date", "time", "timestamp", "timestamp with time zone", "varchar", "blob",
)  # fmt: skip


def published_sql(lake: ReadableLake, lookup: Lookup) -> str:
    """Generate the SELECT of the rows to publish: the key as text, named `id`, and the columns, in types that Parquet has.

    Raises LookupFileError, with the line, if a table, a column or the key does not exist, or the SQL is wrong otherwise.
    """
    with open_in_memory() as database:
        for table in lookup.tables:
            if not view_exists(lake, table.name):
                similar = difflib.get_close_matches(table.name, view_names(lake), cutoff=0)
                message = f"there is no table {table.name}; the nearest are {', '.join(similar)}"
                raise lookup_error(lookup.path, table.line, message)
        _create(database, {table.name: empty_sql(tuple(columns_of_view(lake, table.name))) for table in lookup.tables})
        try:
            described = database.execute(f"select * from ({lookup.sql}\n) limit 0").description
            columns = _columns(lookup, {name: kind for name, kind, *_ in described})
            select = f"select {', '.join(columns)} from ({lookup.sql}\n)"
            if lookup.document is not None:
                _check_document(database, lookup, select)
        except duckdb.Error as error:
            raise sql_error(lookup.path, error) from error
    return select


def _create(database: duckdb.DuckDBPyConnection, selects: dict[str, str]) -> None:
    for name, select in selects.items():
        layer, _, short = name.partition(".")
        database.execute(f"create schema if not exists {quote(layer)}")
        database.execute(f"create view {quote(layer)}.{quote(short)} as {select}")


def _columns(lookup: Lookup, by_name: dict[str, Any]) -> list[str]:
    key = next((name for name in by_name if name.lower() == lookup.key.lower()), None)
    if key is None:
        has = ", ".join(by_name)
        raise lookup_error(
            lookup.path, lookup.key_line, f"the key {lookup.key} is no column of the SELECT, which has {has}"
        )
    if key.lower() != "id" and any(name.lower() == "id" for name in by_name):
        message = f"the SELECT has a column id that is not the key; rename it, because {key} is published as id"
        raise lookup_error(lookup.path, lookup.key_line, message)
    columns = [_stored_sql(name, kind) for name, kind in by_name.items() if name.lower() != "id"]
    return [f"{quote(key)}::varchar as id", *columns]


def _stored_sql(name: str, kind: Any) -> str:
    stored = _stored_type(kind)
    return quote(name) if stored == str(kind) else f"{quote(name)}::{stored} as {quote(name)}"


def _stored_type(kind: Any) -> str:
    """Return the type in which Parquet keeps the values of a DuckDB type, as text where it has none."""
    match kind.id:
        case id_ if id_ in KEPT_KINDS:
            return "VARCHAR" if str(kind) == "JSON" else str(kind)
        case id_ if id_ in BIGINT_KINDS:
            return "BIGINT"
        case "timestamp_s" | "timestamp_ms" | "timestamp_ns":
            return "TIMESTAMP"
        case "list" | "array":
            return f"{_stored_type(kind.children[0][1])}[]"
        case "struct":
            return f"STRUCT({_fields(kind.children)})"
        case "map":
            return f"MAP({_stored_type(kind.children[0][1])}, {_stored_type(kind.children[1][1])})"
        case _:
            return "VARCHAR"


def _fields(children: Iterable[tuple[str, Any]]) -> str:
    return ", ".join(f"{quote(name)} {_stored_type(kind)}" for name, kind in children)


def _check_document(database: duckdb.DuckDBPyConnection, lookup: Lookup, select: str) -> None:
    database.execute(f"create view {ROWS} as {select}")
    columns = [name for name, _ in describe(database, lookup.document or "")]
    if "id" not in columns:
        line = (lookup.document or "").rstrip().count("\n") + 1
        raise lookup_error(lookup.path, line, f"the second SELECT must give {ROWS}'s column id")
