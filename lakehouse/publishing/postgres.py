"""PostgreSQL as a warehouse: rows by COPY, a partition and its ledger row in one transaction."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import duckdb
import pyarrow as pa
import sqlalchemy
from sqlalchemy.exc import SQLAlchemyError

from lakehouse.contracts.sql import quote
from lakehouse.errors import LakehouseError
from lakehouse.publishing.dialects import Columns, Dialect, measures_sql
from lakehouse.publishing.targets import Load, Published, Version

DIALECT = Dialect(
    "postgres",
    nested="jsonb",
    digest="('x' || substr(md5({0}), 1, 15))::bit(60)::bigint",
    epoch_us="(extract(epoch from {0}) * 1000000)::bigint",
)

LEDGER = "lakehouse._lakehouse_loads"

LEDGER_SQL = f"""
create schema if not exists lakehouse;
create table if not exists {LEDGER} (
  table_name text not null,
  partition text not null,
  table_uuid text not null,
  version bigint not null,
  snapshot_id bigint not null,
  rows bigint not null,
  checksum text not null,
  at timestamptz not null default now(),
  primary key (table_name, partition)
)
"""

LOCK_SQL = "select pg_advisory_xact_lock(hashtext('lakehouse publish'))"
"""Statements that create and alter tables run one after the other, because `if not exists` is no lock."""

CONNECT_SECONDS = 10

BATCH_ROWS = 32_768
"""Rows in memory at a time, as the text that COPY reads."""

UNIQUE_VIOLATION = "23505"

ESCAPES = (("\\", "\\\\"), ("\t", "\\t"), ("\n", "\\n"), ("\r", "\\r"))
"""How COPY's text format writes characters."""


class PostgresTarget:
    """A database of PostgreSQL 13 or newer."""

    dialect = DIALECT

    def __init__(self, name: str, engine: sqlalchemy.Engine) -> None:
        self._name = name
        self._engine = engine

    def published(self) -> Sequence[str]:
        """List the tables that the ledger names."""
        return [row[0] for row in self._ask(f"select distinct table_name from {LEDGER} order by 1")]

    def loads(self, table: str) -> Mapping[str, Load]:
        """Return the ledger's load of each partition of a table."""
        columns = "partition, table_uuid, version, snapshot_id, rows, checksum, at"
        rows = self._ask(f"select {columns} from {LEDGER} where table_name = %s", [table])
        return {row[0]: Load(row[0], Version(row[1], row[2]), *row[3:]) for row in rows}

    def prepare(self, table: Published) -> list[str]:
        """Create the table, or add and widen its columns."""
        name = DIALECT.quote(table.layer, table.short_name)
        wanted = [(column, DIALECT.type_of(kind)) for column, kind in table.columns]
        listed = ", ".join(f"{DIALECT.quote(column)} {kind}" for column, kind in wanted)
        with self._transaction() as cursor:
            cursor.execute(LOCK_SQL)
            cursor.execute(f"create schema if not exists {DIALECT.quote(table.layer)}")
            existing = _types(cursor, name)
            if not existing:
                cursor.execute(f"create table {name} ({listed})")
                if table.by:
                    cursor.execute(f"create index on {name} ({DIALECT.quote(table.by)})")
                return [f"{table.name}: created"]
            self._refuse_rows_of_others(cursor, table, name)
            cursor.execute(f"create temp table wanted ({listed}) on commit drop")
            types = _types(cursor, "wanted")
            changes = [_change(column, kind, existing.get(column)) for column, kind in types.items()]
            for _, sql in filter(None, changes):
                cursor.execute(f"alter table {name} {sql}")
        return [f"{table.name}: {line}" for line, _ in filter(None, changes)]

    def _refuse_rows_of_others(self, cursor: Any, table: Published, name: str) -> None:
        cursor.execute(f"select 1 from {LEDGER} where table_name = %s limit 1", [table.name])
        is_ours = cursor.fetchone() is not None
        cursor.execute(f"select 1 from {name} limit 1")
        if not is_ours and cursor.fetchone() is not None:
            raise LakehouseError(
                f"{self._name} has a table {name} with rows that lakehouse did not publish. Rename or drop it, or publish to"
                " another database."
            )

    def replace(self, table: Published, load: Load, cursor: duckdb.DuckDBPyConnection, select: str) -> None:
        """Replace a partition and its ledger row in one transaction, and check the number of rows before it commits."""
        name = DIALECT.quote(table.layer, table.short_name)
        where = f" where {DIALECT.quote(table.by)} = date '{load.partition}'" if table.by else ""
        listed = ", ".join(DIALECT.quote(column) for column, _ in table.columns)
        with self._transaction() as target:
            # The ledger's row first: a second publisher waits here, and its insert then fails.
            target.execute(
                f"delete from {LEDGER} where table_name = %s and partition = %s", [table.name, load.partition]
            )
            target.execute(
                f"insert into {LEDGER} (table_name, partition, table_uuid, version, snapshot_id, rows, checksum)"
                " values (%s, %s, %s, %s, %s, %s, %s)",
                [
                    *(table.name, load.partition, load.version.table_uuid, load.version.sequence),
                    *(load.snapshot_id, load.rows, load.checksum),
                ],
            )
            target.execute(f"delete from {name}{where}")
            target.copy_expert(f"copy {name} ({listed}) from stdin", CopyText(cursor, select, table.columns))
            target.execute(f"select count(*) from {name}{where}")
            if (count := target.fetchone()[0]) != load.rows:
                raise LakehouseError(
                    f"{table.name} {load.partition}: {count:,} rows reached {self._name}, and the lake has {load.rows:,}."
                    " Nothing was changed; publish again."
                )

    def measure(self, table: Published, partitions: Iterable[str]) -> Mapping[str, tuple[Any, ...]]:
        """Return the measures of partitions."""
        source = DIALECT.quote(table.layer, table.short_name)
        sql = measures_sql(table.columns, DIALECT, source, table.by, partitions)
        return {str(row[0]): tuple(row[1:]) for row in self._ask(sql)}

    def _ask(self, sql: str, values: Sequence[object] | None = None) -> list[tuple[Any, ...]]:
        with self._transaction() as cursor:
            cursor.execute(sql, values)
            return [tuple(row) for row in cursor.fetchall()]

    @contextmanager
    def _transaction(self) -> Iterator[Any]:
        """Open a cursor whose statements take effect together when the block ends. Raises LakehouseError for theirs."""
        with _translated(self._name, self._engine):
            connection: Any = self._engine.raw_connection()  # psycopg2 has no types
            try:
                with connection.cursor() as cursor:
                    yield cursor
                    connection.commit()
            finally:
                connection.close()  # which rolls back what was not committed


class CopyText:
    """The rows of a SELECT as a file in COPY's text format, made by DuckDB, a batch of rows at a time."""

    def __init__(self, cursor: duckdb.DuckDBPyConnection, select: str, columns: Columns) -> None:
        parts = (f"coalesce({_escaped(quote(name), kind)}, '\\N')" for name, kind in columns)
        line = " || chr(9) || ".join(parts)
        self._reader = cursor.execute(f"select {line} || chr(10) from ({select})").to_arrow_reader(BATCH_ROWS)
        self._held = memoryview(b"")

    def read(self, size: int = -1) -> bytes:
        """Read at most `size` bytes, or a batch if it is negative; no bytes at the end."""
        while not self._held:
            try:
                column = self._reader.read_next_batch().column(0)
            except StopIteration:
                return b""
            self._held = _content(column)
        end = len(self._held) if size < 0 else size
        piece, self._held = self._held[:end], self._held[end:]
        return bytes(piece)


def _content(column: Any) -> memoryview:
    """Return the texts of an Arrow column one after the other, as they lie in memory."""
    texts = column.cast(pa.large_string())
    _, ends, content = texts.buffers()
    positions = memoryview(ends).cast("q")
    return memoryview(content)[positions[texts.offset] : positions[texts.offset + len(texts)]]


def _escaped(column: str, kind: str) -> str:
    text = f"{column}::varchar"
    if kind in ("bigint", "int", "date", "boolean", "double", "float") or kind.startswith(("decimal", "timestamp")):
        return text
    for character, written in ESCAPES:
        text = f"replace({text}, {_literal(character)}, {_literal(written)})"
    return text


def _literal(text: str) -> str:
    return " || ".join(f"chr({ord(character)})" for character in text)


def _types(cursor: Any, name: str) -> dict[str, str]:
    """Return the columns of a table with their types; empty if there is no such table."""
    cursor.execute(
        "select attname, format_type(atttypid, atttypmod) from pg_attribute"
        " where attrelid = to_regclass(%s) and attnum > 0 and not attisdropped order by attnum",
        [name],
    )
    return dict(cursor.fetchall())


def _change(column: str, kind: str, existing: str | None) -> tuple[str, str] | None:
    """Return what is to be done about a column, for people and as SQL; None if it is as wanted."""
    name = DIALECT.quote(column)
    if existing is None:
        return f"added {column} {kind}", f"add column {name} {kind}"
    if existing != kind:
        return f"{column} is {kind}, was {existing}", f"alter column {name} type {kind} using {name}::{kind}"
    return None


@contextmanager
def open_postgres(name: str, url: str) -> Iterator[PostgresTarget]:
    """Connect to a database, and create the ledger there if it is missing."""
    try:
        engine = sqlalchemy.create_engine(
            sqlalchemy.make_url(url).set(drivername="postgresql+psycopg2"),
            connect_args={"connect_timeout": CONNECT_SECONDS, "application_name": "lakehouse publish"},
        )
    except ModuleNotFoundError:
        raise LakehouseError("PostgreSQL needs a driver. Install it with: pip install 'lakehouse[postgres]'") from None
    except SQLAlchemyError as error:
        raise LakehouseError(f"The URL of {name} is wrong: {error}.") from error
    target = PostgresTarget(name, engine)
    try:
        with target._transaction() as cursor:
            cursor.execute(LOCK_SQL)
            cursor.execute(LEDGER_SQL)
        yield target
    finally:
        engine.dispose()


@contextmanager
def _translated(name: str, engine: sqlalchemy.Engine) -> Iterator[None]:
    """Raise LakehouseError, on one line, in place of an error of the database."""
    driver: Any = engine.dialect.loaded_dbapi
    try:
        yield
    except driver.OperationalError as error:
        raise LakehouseError(f"{name} does not answer: {_reason(error)}. Check its URL under [publish].") from error
    except driver.Error as error:
        if error.pgcode == UNIQUE_VIOLATION:
            raise LakehouseError(
                f"Another `lakehouse publish` to {name} loads this partition. Run it again."
            ) from error
        raise LakehouseError(f"{name} refuses a statement: {_reason(error)}.") from error


def _reason(error: object) -> str:
    return " ".join(str(error).split()).rstrip(".")[:300]
