"""Create views of lake snapshots in one DuckDB, and fetch a query's rows through them.

Imports little, because the worker processes start with it.
"""

import re
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import duckdb
import pyarrow as pa

Parameters = Sequence[Any] | Mapping[str, Any]

BATCH_ROWS = 8192

CACHE_SETTINGS_SQL = (
    "set enable_http_metadata_cache = true",
    "set validate_external_file_cache = 'NO_VALIDATION'",
)
"""Keep what was read of a file without asking S3 again, because files never change under their name. Without this, each scan
asks about every data file and every metadata file of its table.
"""


TRIM_INTERVAL_SECONDS = 10.0
"""Time between looks at the size of the file cache."""

CACHE_SHARE = 4
"""The part of DuckDB's memory that files may fill which were read: one in this many bytes.

They would grow to the memory limit and stay there, most of them files that later commits have replaced.
"""


def cached_bytes(cursor: duckdb.DuckDBPyConnection) -> int:
    """Return how much memory DuckDB uses for what it keeps of files that were read."""
    # Each of many small pieces takes 4 KiB, so this is more than the sum of their sizes.
    row = cursor.execute("select memory_usage_bytes from duckdb_memory() where tag = 'EXTERNAL_FILE_CACHE'").fetchone()
    return int(row[0]) if row else 0


def trim_file_cache(cursor: duckdb.DuckDBPyConnection, max_bytes: int) -> None:
    """Empty DuckDB's cache of files if it holds more than this."""
    if cached_bytes(cursor) > max_bytes:
        cursor.execute("set enable_external_file_cache = false")
        cursor.execute("set enable_external_file_cache = true")


class SnapshotViews:
    """One DuckDB catalog per snapshot, with its views.

    A view is created when a query first names it. A catalog is detached after its last use, except the newest one and that of
    the last query, which may be the default of a cursor still.
    """

    def __init__(self, database: duckdb.DuckDBPyConnection) -> None:
        self._cursor = database.cursor()
        self._lock = threading.Lock()
        self._created: dict[int, dict[str, str]] = {}
        """The views in each snapshot's catalog: the SELECT of each name."""
        self._users: Counter[int] = Counter()

    @contextmanager
    def catalog(self, number: int, views: Mapping[str, str]) -> Iterator[str]:
        """Yield the catalog of a snapshot in which these names are views of these SELECTs.

        It stays as long as the block lasts. In one snapshot, a name stands for the same rows, but where a table can't be
        read for a while: its views then say so.
        """
        catalog = f"snapshot_{number}"
        with self._lock:
            self._users[number] += 1
            try:
                self._create(number, catalog, views)
            except BaseException:
                self._users[number] -= 1
                raise
        try:
            yield catalog
        finally:
            with self._lock:
                self._users[number] -= 1
                self._detach_unused(number)

    def _create(self, number: int, catalog: str, views: Mapping[str, str]) -> None:
        created = self._created.get(number)
        if created is None:
            self._cursor.execute(f"attach ':memory:' as {catalog}")
            created = self._created[number] = {}
        for name, select in views.items():
            if created.get(name) != select:
                schema, _, short = name.partition(".")
                target = f"{catalog}.{_quoted(schema)}"
                self._cursor.execute(f"create schema if not exists {target}")
                self._cursor.execute(f"create or replace view {target}.{_quoted(short)} as {select}")
                created[name] = select

    def _detach_unused(self, last: int) -> None:
        for number in sorted(self._created)[:-1]:
            if number != last and not self._users[number]:
                self._cursor.execute(f"detach snapshot_{number}")
                del self._created[number], self._users[number]


def fetch(
    cursor: duckdb.DuckDBPyConnection,
    sql: str,
    parameters: Parameters,
    max_rows: int | None,
    is_interrupted: Callable[[], bool] = lambda: False,
) -> tuple[pa.Table, bool]:
    """Run a SELECT. Returns its first rows, and whether there are more.

    `is_interrupted` tells whether the caller has interrupted the query. Raises duckdb.Error, or an Arrow or OS error that
    wraps one.
    """
    try:
        return _fetch(cursor, sql, parameters, max_rows)
    except (duckdb.InterruptException, OSError) as error:
        if not is_interrupted():
            raise_cause(cursor, sql, parameters, error)
        raise


def _fetch(
    cursor: duckdb.DuckDBPyConnection, sql: str, parameters: Parameters, max_rows: int | None
) -> tuple[pa.Table, bool]:
    result = cursor.execute(sql, _bound(parameters))
    if max_rows is None:
        return result.to_arrow_table(), False
    reader = result.to_arrow_reader(BATCH_ROWS)
    batches: list[pa.RecordBatch] = []
    left = max_rows
    for batch in reader:
        batches.append(batch[:left])
        left -= batches[-1].num_rows
        if batches[-1].num_rows < batch.num_rows:
            return pa.Table.from_batches(batches, reader.schema), True
    return pa.Table.from_batches(batches, reader.schema), False


def raise_cause(cursor: duckdb.DuckDBPyConnection, sql: str, parameters: Parameters, error: Exception) -> None:
    """Raise the error behind an interrupt that no caller asked for; return when `error` is something else.

    When one thread fails, DuckDB interrupts the others and sometimes reports only the interrupt. EXPLAIN ANALYZE runs the
    query again and reports the first failure.
    """
    if not isinstance(error, duckdb.InterruptException) and "INTERRUPT Error" not in str(error):
        return
    with suppress(duckdb.ParserException):  # it is not a SELECT
        cursor.execute(f"explain analyze {sql}", _bound(parameters)).fetchall()


UNREADABLE_FILE = re.compile(
    r"\b(IO|HTTP) Error\b|Failed to read|TProtocolException|don't know what type|Out of buffer|magic bytes|corrupt"
    r"|Footer length|Prefetch registered|converted type|stats size for type|\bTIMESTAMP encoding\b|parquet",
    re.IGNORECASE,
)
"""Messages of DuckDB 1.5 about a file that is damaged or that storage does not return. Only queries of tables read Parquet."""


def storage_failure(error: Exception) -> str | None:
    """Return the message for a file of the lake that can't be read, by DuckDB or by Arrow around it; None for other errors."""
    text = str(error).partition("\n")[0]
    if not isinstance(error, duckdb.IOException) and not UNREADABLE_FILE.search(text):
        return None
    return f"A file of a table can't be read ({text}). Try again; if it stays so, `lakehouse audit` says what to do."


def query_error_text(error: Exception) -> str:
    """Return DuckDB's message, without what DuckDB and Arrow put before and after it when a query fails after some rows."""
    return str(error).rpartition("pending query result\nError: ")[2].partition(". Detail: ")[0]


def with_table_names(message: str, names: Callable[[], Iterable[str]]) -> str:
    """Return DuckDB's message; when it says that a table does not exist, with the names of those that do."""
    if "does not exist" in message and "Table with name" in message:
        return f"{message}\nThere are: {', '.join(names())}"
    return message


def _bound(parameters: Parameters) -> Any:
    return (dict(parameters) if isinstance(parameters, Mapping) else list(parameters)) or None


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
