"""Run the SELECTs that the package brings, each over one lake snapshot, a few at a time in this process.

Their SQL is trusted. See `worker_pool` for SQL that users send.
"""

import asyncio
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import duckdb
import pyarrow as pa

from lakehouse.engine.connection import DuckDB
from lakehouse.errors import BusyError, QueryError, QueryTimeoutError
from lakehouse.pipeline.unified_view import view_names
from lakehouse.serving.query.lake_snapshot import LakeSnapshot
from lakehouse.serving.query.snapshot_tracker import SnapshotTracker
from lakehouse.serving.query.snapshot_views import (
    CACHE_SETTINGS_SQL,
    Parameters,
    SnapshotViews,
    fetch,
    with_table_names,
)


@dataclass(frozen=True, slots=True)
class QueryResult:
    """The rows of a query and what it took to read them."""

    table: pa.Table
    truncated: bool
    """Whether there are more rows than were asked for."""
    seconds: float
    snapshots: Mapping[str, int | None]
    """The snapshot id of each table that was read; None for a table without a snapshot."""


class ReaderPool:
    """Threads that share one DuckDB."""

    def __init__(self, tracker: SnapshotTracker, *, threads: int = 4, max_waiting: int = 64) -> None:
        lake = tracker.lake
        self._engine = DuckDB(
            lake.connection,
            memory_limit_mb=lake.settings.memory_limit_mb,
            threads=lake.settings.threads,
            scratch=lake.settings.root / "scratch",
        )
        for statement in CACHE_SETTINGS_SQL:
            self._engine.database.execute(statement)
        self._tracker = tracker
        self._views = SnapshotViews(self._engine.database)
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="reader")
        self._free_places = threads + max_waiting

    async def run(
        self,
        sql: str,
        parameters: Parameters = (),
        *,
        rows: int | None = None,
        seconds: float = 10.0,
        snapshot: LakeSnapshot | None = None,
    ) -> QueryResult:
        """Run one SELECT over this snapshot, or over the latest. Returns at most `rows` rows.

        The query is interrupted when the caller is cancelled. Raises QueryError, QueryTimeoutError after `seconds`, and
        BusyError when too many queries wait.
        """
        if self._free_places <= 0:
            raise BusyError("Too many queries are waiting. Try again in a second.")
        self._free_places -= 1
        query = _RunningQuery(
            self._engine.cursor(), self._views, snapshot or self._tracker.latest, sql, parameters, rows
        )
        try:
            running = asyncio.get_running_loop().run_in_executor(self._pool, query.run)
            return await asyncio.wait_for(running, seconds)
        except TimeoutError:
            raise QueryTimeoutError(f"The query was stopped after {seconds:g} s. Ask for less at a time.") from None
        finally:
            query.interrupt()
            self._free_places += 1

    def close(self) -> None:
        """Wait for the running queries, cancel those that wait, and close the database."""
        self._pool.shutdown(cancel_futures=True)
        self._engine.close()


class _RunningQuery:
    def __init__(
        self,
        cursor: duckdb.DuckDBPyConnection,
        views: SnapshotViews,
        snapshot: LakeSnapshot,
        sql: str,
        parameters: Parameters,
        max_rows: int | None,
    ) -> None:
        self._cursor = cursor
        self._views = views
        self._snapshot = snapshot
        self._sql = sql
        self._parameters = parameters
        self._max_rows = max_rows
        self._interrupted = False

    def run(self) -> QueryResult:
        start = time.perf_counter()
        snapshot = self._snapshot
        try:
            views = snapshot.views(self._sql)
            with self._views.catalog(snapshot.number, views) as catalog:
                if self._interrupted:
                    raise QueryError("The query was stopped before it started.")
                self._cursor.execute(f"use {catalog}")
                table, truncated = fetch(
                    self._cursor, self._sql, self._parameters, self._max_rows, lambda: self._interrupted
                )
        except duckdb.Error as error:
            raise QueryError(with_table_names(str(error), lambda: view_names(snapshot))) from error
        return QueryResult(table, truncated, time.perf_counter() - start, snapshot.snapshot_ids_of(views))

    def interrupt(self) -> None:
        """Interrupt the query if it still runs."""
        self._interrupted = True
        self._cursor.interrupt()
