"""Export tables of the lake to one DuckDB file: a copy of one lake snapshot, for tools that read such a file."""

import fnmatch
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import duckdb

from lakehouse.contracts.sql import literal, quote
from lakehouse.engine.connection import DuckDB
from lakehouse.errors import LakehouseError, QueryError
from lakehouse.pipeline.lake import Lake
from lakehouse.pipeline.unified_view import create_views_sql, view_names

DEFAULT_PATTERNS = ("silver.*", "quarantine.*", "gold.*", "serving.*")
"""The tables that are exported without a pattern. Bronze and realtime hold the same rows again."""


@dataclass(frozen=True, slots=True)
class ExportedTable:
    """A table that has been copied to the file."""

    name: str
    rows: int


def select_tables(lake: Lake, patterns: Sequence[str]) -> list[str]:
    """Return the tables and views that match these patterns (`gold.*`). Raises QueryError for one that matches none."""
    names = view_names(lake)
    selected: dict[str, None] = {}
    for pattern in patterns or DEFAULT_PATTERNS:
        matching = fnmatch.filter(names, pattern)
        if not matching:
            raise QueryError(f"There is no table {pattern}. There are: {', '.join(names)}")
        selected |= dict.fromkeys(matching)
    return list(selected)


def export_duckdb(lake: Lake, names: Sequence[str], path: Path) -> Iterator[ExportedTable]:
    """Copy these tables, as of now, to a DuckDB file that replaces `path` when it is complete.

    Yields each table after its copy. Raises LakehouseError when the file can't be written.
    """
    if not path.parent.is_dir():
        raise LakehouseError(f"There is no folder {path.parent}. Create it first.")
    if path.exists() and not _is_duckdb(path):
        raise LakehouseError(f"{path} exists and is not a DuckDB file. Remove it or choose another name.")
    partial = path.with_name(f".{path.name}.{uuid4().hex[:8]}")
    engine = DuckDB.of(lake.settings, lake.connection)
    try:
        database = engine.database
        # All views before the first copy, so that every table is of the same time.
        for statement in create_views_sql(lake, names):
            database.execute(statement)
        database.execute(f"attach {literal(str(partial))} as file")
        for name in names:
            yield _copy(database, name)
        database.execute("detach file")
        partial.replace(path)
    except duckdb.IOException as error:
        raise LakehouseError(f"{path} can't be written: {error}") from error
    finally:
        engine.close()
        for leftover in (partial, partial.with_name(partial.name + ".wal")):
            leftover.unlink(missing_ok=True)


def _copy(database: duckdb.DuckDBPyConnection, name: str) -> ExportedTable:
    schema, _, short = name.partition(".")
    target = f"file.{quote(schema)}.{quote(short)}"
    database.execute(f"create schema if not exists file.{quote(schema)}")
    row = database.execute(f"create table {target} as from memory.{quote(schema)}.{quote(short)}").fetchone()
    return ExportedTable(name, int(row[0]) if row else 0)


def _is_duckdb(path: Path) -> bool:
    """Return whether a file starts as DuckDB files do, https://duckdb.org/docs/stable/internals/storage."""
    with path.open("rb") as file:
        return file.read(12)[8:] == b"DUCK"
