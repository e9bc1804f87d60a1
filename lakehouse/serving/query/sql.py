"""Read-only SQL over the lake for this process: a DuckDB connection with every table as a view, and one query's rows.

See `worker_pool` for SQL that arrives over HTTP, and `time_travel` for tables in the past.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import duckdb
import pyarrow as pa
from pyiceberg.table import Table

from lakehouse.contracts.sql import quote
from lakehouse.engine.connection import DuckDB
from lakehouse.errors import LakehouseError, QueryError, StorageUnavailableError
from lakehouse.pipeline.lake import Lake
from lakehouse.pipeline.unified_view import create_views_sql, source_tables, view_exists, view_names, view_sql
from lakehouse.serving.query.information_schema import resolve_information_schema
from lakehouse.serving.query.linked_tail import LakeWithTail, LinkedTail, link_tail
from lakehouse.serving.query.sandbox import (
    ForbiddenQueryError,
    check_query,
    check_read_only,
    lockdown_sql,
    resolve_show_tables,
)
from lakehouse.serving.query.snapshot_views import (
    Parameters,
    query_error_text,
    raise_cause,
    storage_failure,
    with_table_names,
)
from lakehouse.serving.query.table_reads import run_unless_silent
from lakehouse.serving.query.time_travel import resolve_time_travel
from lakehouse.settings import get_settings
from lakehouse.storage.iceberg.damaged_files import named_failure
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
    """A query's columns, and its rows as they are read, some at a time. The rows can be read once."""

    schema: pa.Schema
    tables: Iterator[pa.Table]

    @property
    def columns(self) -> list[str]:
        """The names of the columns."""
        return list(self.schema.names)

    @property
    def rows(self) -> Iterator[tuple[Any, ...]]:
        """The rows as tuples of Python values."""
        for table in self.tables:
            yield from zip(*(column.to_pylist() for column in table.columns), strict=True)


def connect() -> duckdb.DuckDBPyConnection:
    """Open a read-only DuckDB connection in which every table of the lake is a view `layer.name`, as of now.

    The unified views have the events of the last seconds when the serving process of the home runs. SHOW TABLES lists the
    names without their layers, SHOW ALL TABLES with them. Raises StorageUnavailableError when storage is not running.
    """
    settings = get_settings()
    tail = link_tail(settings)  # before tables are loaded
    lake = LakeWithTail(Lake(settings, metadata_only=True), tail.files)
    search_path = f"set search_path = '{','.join(SEARCH_PATH)}'"
    return _open(lake.lake, tail, [*create_views_sql(lake, view_names(lake)), search_path])


def run_query(lake: Lake, sql: str, parameters: Parameters = ()) -> QueryRows:
    """Run one SELECT, DESCRIBE or SHOW TABLES, by the rules of SQL that arrives over HTTP, with values for its parameters.

    A statement that these forbid because it reaches beyond the data is run too, since it runs as the user who sent it.
    Raises QueryError when it does more than read, or is wrong; the message says what and where.
    """
    text, past = resolve_time_travel(lake, resolve_show_tables(sql, lambda: view_names(lake)))
    text, described = resolve_information_schema(lake, text, view_names(lake) if DUCKDB_CATALOG.search(text) else ())
    check_read_only(text)
    names = [name for name in sorted(names_mentioned(text)) if view_exists(lake, name)]
    is_fresh = any(source_tables(lake, name) != [name] for name in names)
    tail = link_tail(lake.settings) if is_fresh else LinkedTail()  # before tables are loaded
    try:
        fresh = LakeWithTail(lake, tail.files)
        views = {name: view_sql(fresh, name) for name in names} | past | described
        statements = _create_sql(views)
        if DUCKDB_CATALOG.search(text):
            statements += create_views_sql(fresh, (name for name in view_names(lake) if name not in views))
        connection = _open(lake, tail, statements)
        reader = _execute(lake, connection, text, parameters, views)
    except BaseException:
        tail.remove()
        raise
    return QueryRows(reader.schema, _fetch(lake, connection, reader, text, parameters, tail, _tables(lake, views)))


def _create_sql(views: dict[str, str]) -> list[str]:
    """Generate the statements that create these views in an empty database."""
    names = {name: name.partition(".")[::2] for name in views}
    schemas = sorted({schema for schema, _ in names.values()})
    return [f"create schema if not exists {quote(schema)}" for schema in schemas] + [
        f"create view {quote(schema)}.{quote(short)} as {views[name]}" for name, (schema, short) in names.items()
    ]


def _execute(
    lake: Lake, connection: duckdb.DuckDBPyConnection, sql: str, parameters: Parameters, views: dict[str, str]
) -> pa.RecordBatchReader:
    reads_tables = True
    try:
        check_query(connection, sql, views)
    except ForbiddenQueryError:
        reads_tables = False
    except QueryError as error:
        raise QueryError(with_table_names(str(error), lambda: view_names(lake))) from error
    tables = _tables(lake, views)
    try:
        return run_unless_silent(
            lambda: connection.execute(sql, parameters).to_arrow_reader(BATCH_ROWS), lake.connection, tables
        )
    except duckdb.Error as error:
        raise (as_lakehouse_error(lake, tables, error) if reads_tables else QueryError(str(error))) from error


def readable_locations(connection: Connection) -> list[str]:
    """Return the URLs of the buckets that hold the lake's tables and objects."""
    return [f"s3://{bucket}/" for bucket in sorted(connection.buckets)]


def names_mentioned(sql: str) -> set[str]:
    """Return every `a.b` in a statement in lower case, whether it is a table or not."""
    return {f"{schema}.{name}".lower() for schema, name in NAME.findall(sql)}


def _open(lake: Lake, tail: LinkedTail, statements: Iterable[str]) -> duckdb.DuckDBPyConnection:
    """Open a database that can read the lake's buckets, the tail and nothing else, after running these statements."""
    database = DuckDB.of(lake.settings, lake.connection.for_reading()).database
    if lake.connection.data_directory is not None:
        # Embedded storage looks for a damaged object for 13 s in each attempt, and finds it in none.
        database.execute("set global http_retries = 0")
    for statement in statements:
        database.execute(statement)
    folders = [f"{tail.folder}/"] if tail.folder else []
    for statement in lockdown_sql([*readable_locations(lake.connection), *folders]):
        database.execute(statement)
    return database


def _fetch(
    lake: Lake,
    connection: duckdb.DuckDBPyConnection,
    reader: pa.RecordBatchReader,
    sql: str,
    parameters: Parameters,
    tail: LinkedTail,
    tables: Sequence[Table],
) -> Iterator[pa.Table]:
    try:
        try:
            while (batch := run_unless_silent(lambda: next(reader, None), lake.connection, tables)) is not None:
                yield pa.Table.from_batches([batch])
        except (duckdb.InterruptException, OSError) as error:
            raise_cause(connection, sql, parameters, error)
            raise
        connection.close()  # only here, because closing waits for a read that still goes on
    except (duckdb.Error, pa.ArrowException, OSError) as error:
        raise as_lakehouse_error(lake, tables, error) from error
    finally:
        tail.remove()


def _tables(lake: Lake, views: Iterable[str]) -> list[Table]:
    """Return the tables behind these views."""
    names = dict.fromkeys(table for name in views if view_exists(lake, name) for table in source_tables(lake, name))
    return [lake.tables.load(name) for name in names if lake.tables.exists(name)]


def as_lakehouse_error(lake: Lake, tables: Sequence[Table], error: Exception) -> LakehouseError:
    """Return the error of a query over these tables, as HTTP answers it."""
    if detail := storage_failure(error):
        return named_failure(lake.connection, tables, detail) or StorageUnavailableError(detail)
    return QueryError(with_table_names(query_error_text(error), lambda: view_names(lake)))
