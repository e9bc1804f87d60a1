"""Read-only SQL over the lake for this process: a DuckDB connection with every table as a view, and one query's rows.

See `worker_pool` for SQL that arrives over HTTP, and `time_travel` for tables in the past.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import duckdb

from lakehouse.engine.connection import DuckDB
from lakehouse.errors import QueryError
from lakehouse.pipeline.lake import Lake
from lakehouse.pipeline.unified_view import create_views_sql, view_exists, view_names
from lakehouse.serving.query.sandbox import check_read_only, lockdown_sql, resolve_show_tables
from lakehouse.serving.query.snapshot_views import raise_cause, with_table_names
from lakehouse.serving.query.time_travel import SCHEMA, resolve_time_travel
from lakehouse.settings import get_settings
from lakehouse.storage.objects.connection import Connection

BATCH_ROWS = 10_000

NAME = re.compile(r'(?<!\w)(\w++)"?\s*+\.\s*+"?(\w++)')
"""`a.b`. Possessive, because a text of one long word must not take a minute."""

DUCKDB_CATALOG = re.compile(r"\b(information_schema|pg_catalog|duckdb_(tables|views|columns))\b", re.IGNORECASE)
"""Names whose rows depend on all views."""

SEARCH_PATH = ("main", "gold", "serving", "silver", "quarantine", "bronze", "realtime")
"""Schemas that SHOW TABLES lists, and in which a name without a layer is looked up, in this order."""


@dataclass(frozen=True, slots=True)
class QueryRows:
    """A query's columns, and its rows as they are read. The rows can be read once."""

    columns: list[str]
    rows: Iterator[tuple[Any, ...]]


def connect() -> duckdb.DuckDBPyConnection:
    """Open a read-only DuckDB connection in which every table of the lake is a view `layer.name`, as of now.

    SHOW TABLES lists the names without their layers, SHOW ALL TABLES with them. Raises StorageUnavailableError when storage
    is not running.
    """
    lake = Lake(get_settings(), metadata_only=True)
    return _open(lake, [*create_views_sql(lake, view_names(lake)), f"set search_path = '{','.join(SEARCH_PATH)}'"])


def run_query(lake: Lake, sql: str) -> QueryRows:
    """Run one SELECT, DESCRIBE or SHOW TABLES.

    Raises QueryError when it is anything else, or wrong; the message says what and where.
    """
    text, past = resolve_time_travel(lake, resolve_show_tables(sql, lambda: view_names(lake)))
    check_read_only(text)
    if DUCKDB_CATALOG.search(text):
        names = view_names(lake)
    else:
        names = [name for name in sorted(names_mentioned(text)) if view_exists(lake, name)]
    past_views = [f"create schema {SCHEMA}", *(f"create view {name} as {select}" for name, select in past.items())]
    connection = _open(lake, [*create_views_sql(lake, names), *past_views])
    try:
        result = connection.execute(text)
    except duckdb.Error as error:
        raise QueryError(with_table_names(str(error), lambda: view_names(lake))) from error
    columns = [column[0] for column in result.description or []]
    return QueryRows(columns, _fetch(connection, result, text))


def readable_locations(connection: Connection) -> list[str]:
    """Return the URLs of the buckets that hold the lake's tables and objects."""
    return [f"s3://{bucket}/" for bucket in sorted(connection.buckets)]


def names_mentioned(sql: str) -> set[str]:
    """Return every `a.b` in a statement in lower case, whether it is a table or not."""
    return {f"{schema}.{name}".lower() for schema, name in NAME.findall(sql)}


def _open(lake: Lake, statements: Iterable[str]) -> duckdb.DuckDBPyConnection:
    """Open a database that can read the lake's buckets and nothing else, after running these statements."""
    database = DuckDB.of(lake.settings, lake.connection.for_reading()).database
    for statement in statements:
        database.execute(statement)
    for statement in lockdown_sql(readable_locations(lake.connection)):
        database.execute(statement)
    return database


def _fetch(
    connection: duckdb.DuckDBPyConnection, result: duckdb.DuckDBPyConnection, sql: str
) -> Iterator[tuple[Any, ...]]:
    try:
        try:
            while rows := result.fetchmany(BATCH_ROWS):
                yield from rows
        except duckdb.InterruptException as error:
            raise_cause(connection, sql, (), error)
            raise
    except duckdb.Error as error:
        # After some rows, DuckDB puts a preamble before the error.
        raise QueryError(str(error).rpartition("pending query result\nError: ")[2]) from error
    finally:
        connection.close()
