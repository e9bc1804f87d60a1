"""Views of tracker in one DuckDB, and a query's rows through them.

Imports next to nothing, for the processes that run queries start with it.
"""

import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import duckdb
import pyarrow as pa

Parameters = Sequence[Any] | Mapping[str, Any]

BATCH = 8192

KEPT_SQL = ("set enable_http_metadata_cache = true", "set validate_external_file_cache = 'NO_VALIDATION'")
"""What is read here stays as it is under its name, so that it need not be asked about again: each scan would ask S3 of
every file of its table, and of those that describe it.
"""


class SnapshotViews:
    """Each snapshot's views in a catalog of its own, made when they are first named and gone with the snapshot's last use."""

    def __init__(self, database: duckdb.DuckDBPyConnection) -> None:
        self._cursor = database.cursor()
        self._lock = threading.Lock()
        self._made: dict[int, set[str]] = {}
        self._users: Counter[int] = Counter()

    @contextmanager
    def of(self, snapshot: int, views: Mapping[str, str]) -> Iterator[str]:
        """The catalog in which these names are views of these SELECTs, kept as long as the block lasts.

        A snapshot's name always stands for the same SELECT.
        """
        catalog = f"moment_{snapshot}"
        with self._lock:
            self._users[snapshot] += 1
            try:
                self._make(snapshot, catalog, views)
            except BaseException:
                self._users[snapshot] -= 1
                raise
        try:
            yield catalog
        finally:
            with self._lock:
                self._users[snapshot] -= 1
                self._forget_older()

    def _make(self, snapshot: int, catalog: str, views: Mapping[str, str]) -> None:
        made = self._made.get(snapshot)
        if made is None:
            self._cursor.execute(f"attach ':memory:' as {catalog}")
            made = self._made[snapshot] = set()
        for name, select in views.items():
            if name not in made:
                schema, _, short = name.partition(".")
                place = f"{catalog}.{_quoted(schema)}"
                self._cursor.execute(f"create schema if not exists {place}")
                self._cursor.execute(f"create view {place}.{_quoted(short)} as {select}")
                made.add(name)

    def _forget_older(self) -> None:
        for number in sorted(self._made)[:-1]:
            if not self._users[number]:
                self._cursor.execute(f"detach moment_{number}")
                del self._made[number], self._users[number]


def fetch(
    cursor: duckdb.DuckDBPyConnection,
    sql: str,
    parameters: Parameters,
    rows: int | None,
    ended: Callable[[], bool] = lambda: False,
) -> tuple[pa.Table, bool]:
    """The first rows of a SELECT, and whether there are more. `ended` tells whether somebody interrupted it.

    Raises duckdb.Error and what Arrow makes of it.
    """
    try:
        return _fetch(cursor, sql, parameters, rows)
    except (duckdb.InterruptException, OSError) as problem:
        if not ended():
            explain_interruption(cursor, sql, parameters, problem)
        raise


def _fetch(
    cursor: duckdb.DuckDBPyConnection, sql: str, parameters: Parameters, rows: int | None
) -> tuple[pa.Table, bool]:
    result = cursor.execute(sql, _bound(parameters))
    if rows is None:
        return result.to_arrow_table(), False
    reader = result.to_arrow_reader(BATCH)
    taken: list[pa.RecordBatch] = []
    left = rows
    for batch in reader:
        taken.append(batch[:left])
        left -= taken[-1].num_rows
        if taken[-1].num_rows < batch.num_rows:
            return pa.Table.from_batches(taken, reader.schema), True
    return pa.Table.from_batches(taken, reader.schema), False


def explain_interruption(
    cursor: duckdb.DuckDBPyConnection, sql: str, parameters: Parameters, problem: Exception
) -> None:
    """Raise what a query that nobody interrupted failed of: where one thread fails DuckDB interrupts the others, and now
    and then tells of that alone. Run for its figures, a query tells the first failure.
    """
    if not isinstance(problem, duckdb.InterruptException) and "INTERRUPT Error" not in str(problem):
        return
    with suppress(duckdb.ParserException):  # of what is no SELECT
        cursor.execute(f"explain analyze {sql}", _bound(parameters)).fetchall()


def _bound(parameters: Parameters) -> Any:
    return (dict(parameters) if isinstance(parameters, Mapping) else list(parameters)) or None


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
