"""Tables of the lake as one DuckDB file, for tools that read such a file: a copy of one snapshot, good without the lake."""

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

PEOPLE = ("silver.*", "quarantine.*", "gold.*", "serving.*")
"""What is copied when nothing is named: bronze and realtime hold the same rows again."""


@dataclass(frozen=True, slots=True)
class Copied:
    """A table that is in the file now."""

    name: str
    rows: int


def select_tables(lake: Lake, patterns: Sequence[str]) -> list[str]:
    """The tables and views that these patterns (`gold.*`) name. Raises QueryError for one that names none."""
    names = view_names(lake)
    found: dict[str, None] = {}
    for pattern in patterns or PEOPLE:
        matching = fnmatch.filter(names, pattern)
        if not matching:
            raise QueryError(f"There is no table {pattern}. There are: {', '.join(names)}")
        found |= dict.fromkeys(matching)
    return list(found)


def export_duckdb(lake: Lake, names: Sequence[str], path: Path) -> Iterator[Copied]:
    """Copy these tables, as of now, into a DuckDB file that takes the place of `path` when it is whole.

    Gives each table when it has been copied. Raises LakehouseError when the file can't be written.
    """
    if not path.parent.is_dir():
        raise LakehouseError(f"There is no folder {path.parent}; make it first.")
    if path.exists() and not _is_duckdb(path):
        raise LakehouseError(f"{path} is there and is no DuckDB file; remove it or name another.")
    whole = path.with_name(f".{path.name}.{uuid4().hex[:8]}")
    engine = DuckDB(
        lake.connection,
        memory_limit_mb=lake.settings.memory_limit_mb,
        threads=lake.settings.threads,
        scratch=lake.settings.root / "scratch",
    )
    try:
        database = engine.database
        # All views at once, so that every table is of one snapshot.
        for statement in create_views_sql(lake, names):
            database.execute(statement)
        database.execute(f"attach {literal(str(whole))} as file")
        for name in names:
            yield _copy(database, name)
        database.execute("detach file")
        whole.replace(path)
    except duckdb.IOException as problem:
        raise LakehouseError(f"{path} can't be written: {problem}") from problem
    finally:
        engine.close()
        for left in (whole, whole.with_name(whole.name + ".wal")):
            left.unlink(missing_ok=True)


def _copy(database: duckdb.DuckDBPyConnection, name: str) -> Copied:
    schema, _, short = name.partition(".")
    target = f"file.{quote(schema)}.{quote(short)}"
    database.execute(f"create schema if not exists file.{quote(schema)}")
    row = database.execute(f"create table {target} as from memory.{quote(schema)}.{quote(short)}").fetchone()
    return Copied(name, int(row[0]) if row else 0)


def _is_duckdb(path: Path) -> bool:
    """Whether it begins as DuckDB's files do, https://duckdb.org/docs/stable/internals/storage."""
    with path.open("rb") as file:
        return file.read(12)[8:] == b"DUCK"
