"""Connect DuckDB to the lake, read tables as scans and write a SELECT as Parquet files."""

import importlib.util
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import date
from pathlib import Path
from typing import Any, Self
from urllib.parse import unquote, urlparse
from uuid import uuid4

import duckdb
from pyiceberg.table import Table

from lakehouse.contracts.sql import literal, quote
from lakehouse.engine.database import open_database
from lakehouse.processes.home import private_home
from lakehouse.processes.scratch import own_folder
from lakehouse.settings import Settings
from lakehouse.storage.iceberg.partitions import NewFile, PartitionValue
from lakehouse.storage.iceberg.readable import check_readable
from lakehouse.storage.iceberg.schema import field_ids
from lakehouse.storage.objects.connection import Connection

EXTENSIONS = ("httpfs", "avro", "iceberg")
CREDENTIAL_CHAIN_EXTENSION = "aws"
PARTITION_TYPES = {"dt": date.fromisoformat, "arrival_dt": date.fromisoformat, "date_key": date.fromisoformat}


class DuckDB:
    """An in-memory database that reaches the lake. Each thread needs its own cursor."""

    def __init__(
        self,
        connection: Connection,
        *,
        scratch: Path,
        memory_limit_mb: int = 1024,
        spill_mb: int = 16384,
        threads: int | None = None,
    ) -> None:
        self.connection = connection
        self._scratch = own_folder(scratch)
        self.spill = self._scratch / f"spill-{uuid4().hex}"
        self.database = open_database()
        # Each database spills to its own folder because DuckDB gives spilled files the same names in all of them.
        for statement in setup_sql(connection, memory_limit_mb, threads, self.spill, spill_mb):
            self.database.execute(statement)

    @classmethod
    def of(cls, settings: Settings, connection: Connection) -> Self:
        """Open a database with this process's share of memory, threads and disk."""
        return cls(
            connection,
            scratch=private_home(settings) / "scratch",
            memory_limit_mb=settings.memory_limit_mb,
            spill_mb=settings.spill_mb,
            threads=settings.threads,
        )

    def cursor(self) -> duckdb.DuckDBPyConnection:
        """Open another connection to the same database, for use in another thread."""
        return self.database.cursor()

    @property
    def threads(self) -> int:
        """The number of threads that DuckDB uses."""
        row = self.database.execute("select current_setting('threads')").fetchone()
        return int(row[0]) if row else 1

    @contextmanager
    def scratch(self) -> Iterator[Path]:
        """Make a folder for the files of one write, and delete it afterwards."""
        folder = Path(tempfile.mkdtemp(prefix="write-", dir=self._scratch))
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def close(self) -> None:
        """Close the database, and free its memory and what it spilled."""
        self.database.close()
        shutil.rmtree(self.spill, ignore_errors=True)


def setup_sql(
    connection: Connection, memory_limit_mb: int, threads: int | None, spill: Path, spill_mb: int
) -> list[str]:
    """List the statements that let a new database reach the lake and spill at most `spill_mb` to the folder `spill`."""
    return [
        f"set memory_limit = '{memory_limit_mb}MiB'",
        *([] if threads is None else [f"set threads = {threads}"]),
        f"set temp_directory = {literal(str(spill))}",
        f"set max_temp_directory_size = '{spill_mb}MiB'",
        # Global, because cursors have the defaults of what is set for a session: the machine's time zone, for one.
        "set global timezone = 'UTC'",
        "set enable_progress_bar = false",
        *(f"load {literal(str(extension_path(extension)))}" for extension in _extensions(connection)),
        "set allow_unsigned_extensions = false",
        f"set global http_timeout = {connection.silence_seconds}",
        # Five retries within three seconds. By default DuckDB makes three, each after four times as long.
        "set global http_retries = 5",
        "set global http_retry_backoff = 2",
        secret_sql(connection),
    ]


def _extensions(connection: Connection) -> tuple[str, ...]:
    return EXTENSIONS if connection.has_keys else (*EXTENSIONS, CREDENTIAL_CHAIN_EXTENSION)


def extension_path(name: str) -> Path:
    """Find the file of an extension in its wheel. Raises FileNotFoundError if the wheel is not installed."""
    spec = importlib.util.find_spec(f"duckdb_extension_{name}")
    folders = [Path(folder) for folder in (spec.submodule_search_locations or [])] if spec else []
    for folder in folders:
        for path in folder.rglob(f"{name}.duckdb_extension"):
            return path
    raise FileNotFoundError(
        f"duckdb-extension-{name} is not installed. Run: pip install duckdb-extension-{name}=={duckdb.__version__}"
    )


def secret_sql(connection: Connection, name: str = "lake") -> str:
    """Write the statement that lets DuckDB read the connection's S3."""
    options = {"type": "s3", "region": literal(connection.region)}
    if connection.access_key_id is not None and connection.secret_access_key is not None:
        options |= {"key_id": literal(connection.access_key_id), "secret": literal(connection.secret_access_key)}
        if connection.session_token is not None:
            options["session_token"] = literal(connection.session_token)
    else:
        # Refreshed when S3 says that a token has expired, because databases live longer than those of a role.
        options |= {"provider": "credential_chain", "refresh": "auto"}
    if connection.endpoint is not None:
        url = urlparse(connection.endpoint)
        options |= {
            "endpoint": literal(url.netloc),
            "url_style": "'path'",
            "use_ssl": "true" if url.scheme == "https" else "false",
        }
    return f"create or replace secret {name} ({', '.join(f'{key} {value}' for key, value in options.items())})"


def scan_sql(table: Table, snapshot_id: int | None = None) -> str:
    """Write the FROM item that reads the table as loaded, or as of one of its snapshots.

    Raises UnreadableTableError if a manifest can't be read, because DuckDB would end this process.
    """
    check_readable(table, snapshot_id)
    at = f", snapshot_from_id = {snapshot_id}" if snapshot_id is not None else ""
    if table.current_snapshot() is None:
        columns = ", ".join(f"null::{sql_type} as {quote(name)}" for name, sql_type in columns_of(table))
        return f"(select {columns} limit 0)"
    return f"iceberg_scan({literal(table.metadata_location)}{at})"


def read_sql(urls: Iterable[str]) -> str:
    """Write the FROM item that reads Parquet files of the same columns."""
    return f"read_parquet([{', '.join(map(literal, urls))}])"


def columns_of(table: Table) -> list[tuple[str, str]]:
    """List the table's columns as (name, DuckDB type)."""
    names = {
        "string": "varchar",
        "long": "bigint",
        "list<string>": "varchar[]",
        "map<string, string>": "map(varchar, varchar)",
    }
    return [
        (column.name, names.get(str(column.field_type), str(column.field_type))) for column in table.schema().fields
    ]


def copy_to_files(
    cursor: duckdb.DuckDBPyConnection,
    select: str,
    table: Table,
    folder: Path,
    *,
    name: str,
    partition: tuple[PartitionValue, ...] | None = None,
) -> list[NewFile]:
    """Run a SELECT and write its rows as Parquet files of the table's columns under `folder`.

    Args:
        cursor: Runs the SELECT.
        select: Has the table's columns, in any order. Values are cast to the table's types.
        table: Gives the columns, their field ids and the partitioning.
        folder: A local folder, which other writes may share.
        name: Starts the names of the files. It must differ from that of other writes to the folder.
        partition: Of all rows, which then go to one file. Without it, each partition gets its own files.

    """
    ids = _ids_sql(field_ids(table.schema()))
    columns = ", ".join(f"{quote(column)}::{kind} as {quote(column)}" for column, kind in columns_of(table))
    options = f"format parquet, compression zstd, field_ids {ids}"
    by = [field.name for field in table.spec().fields]
    query = f"select {columns} from ({select})"
    if partition is not None:
        path = folder / f"{name}.parquet"
        rows = cursor.execute(f"copy ({query}) to {literal(str(path))} ({options})").fetchone()
        return [NewFile(path, partition)] if rows and rows[0] else []
    keys = ", ".join(map(quote, by))
    written = cursor.execute(
        f"copy ({query}) to {literal(str(folder))} ({options}, partition_by ({keys}), write_partition_columns true,"
        f" overwrite_or_ignore, filename_pattern {literal(name + '_{i}')}, return_files true)"
    ).fetchone()
    paths = [Path(path) for path in (written[1] if written else [])]
    return [NewFile(path, _partition_of(path, by)) for path in paths]


def bind(sql: str, inputs: Mapping[str, str]) -> str:
    """Bind the tables that a SELECT reads: each name of `inputs` stands for the SQL given for it."""
    ctes = ",\n".join(f"{quote(name)} as ({body})" for name, body in inputs.items())
    return f"with {ctes}\nselect * from (\n{sql.strip().rstrip(';')}\n)"


def describe(cursor: duckdb.DuckDBPyConnection, select: str) -> tuple[tuple[str, str], ...]:
    """List the columns of a SELECT as (name, type)."""
    return tuple((row[0], row[1]) for row in cursor.execute(f"describe {select}").fetchall())


def _partition_of(path: Path, by: Sequence[str]) -> tuple[PartitionValue, ...]:
    folders = dict(part.split("=", 1) for part in path.parts if "=" in part)
    return tuple(PARTITION_TYPES.get(name, str)(unquote(folders[name])) for name in by)


def _ids_sql(ids: Mapping[str, Any]) -> str:
    parts = (f"{quote(name)}: {_ids_sql(value) if isinstance(value, dict) else value}" for name, value in ids.items())
    return "{" + ", ".join(parts) + "}"
