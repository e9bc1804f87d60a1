"""ReaderPool: run the SELECTs that the package itself brings, each over one snapshot of the lake, a few at a time.

Their SQL is trusted; what people send is not run here.
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
from lakehouse.serving.query.lake_snapshot import LakeSnapshot, SnapshotTracker
from lakehouse.serving.query.snapshot_views import KEPT_SQL, Parameters, SnapshotViews, fetch


@dataclass(frozen=True, slots=True)
class Answer:
    """What a query gave."""

    table: pa.Table
    truncated: bool
    """Whether there were more rows than were asked for."""
    seconds: float
    snapshots: Mapping[str, int | None]
    """The tables it read and their snapshots; None for one that never held anything."""


class ReaderPool:
    """A pool of readers over one DuckDB."""

    def __init__(self, tracker: SnapshotTracker, *, at_once: int = 4, waiting: int = 64) -> None:
        lake = tracker.lake
        self._engine = DuckDB(
            lake.connection,
            memory_limit_mb=lake.settings.memory_limit_mb,
            threads=lake.settings.threads,
            scratch=lake.settings.root / "scratch",
        )
        for statement in KEPT_SQL:
            self._engine.database.execute(statement)
        self._tracker = tracker
        self._views = SnapshotViews(self._engine.database)
        self._pool = ThreadPoolExecutor(at_once, thread_name_prefix="reader")
        self._room = at_once + waiting

    async def run(
        self,
        sql: str,
        parameters: Parameters = (),
        *,
        rows: int | None = None,
        seconds: float = 10.0,
        snapshot: LakeSnapshot | None = None,
    ) -> Answer:
        """Run one SELECT over this snapshot, or over the latest; at most `rows` rows of it.

        Ends it when the caller is cancelled. Raises QueryError, QueryTimeoutError after so many seconds, and BusyError
        when more wait than ever get a turn.
        """
        if self._room <= 0:
            raise BusyError("Too many queries wait for their turn; ask again in a second.")
        self._room -= 1
        snapshot = snapshot or self._tracker.latest
        reading = _Reading(self._engine.cursor(), self._views, snapshot, sql, parameters, rows)
        try:
            work = asyncio.get_running_loop().run_in_executor(self._pool, reading.run)
            return await asyncio.wait_for(work, seconds)
        except TimeoutError:
            raise QueryTimeoutError(f"The query was ended after {seconds:g} s; ask for less at a time.") from None
        finally:
            reading.end()
            self._room += 1

    def close(self) -> None:
        """End all."""
        self._pool.shutdown(cancel_futures=True)
        self._engine.close()


class _Reading:
    def __init__(
        self,
        cursor: duckdb.DuckDBPyConnection,
        views: SnapshotViews,
        snapshot: LakeSnapshot,
        sql: str,
        parameters: Parameters,
        rows: int | None,
    ) -> None:
        self._cursor = cursor
        self._views = views
        self._snapshot = snapshot
        self._sql = sql
        self._parameters = parameters
        self._rows = rows
        self._ended = False

    def run(self) -> Answer:
        begun = time.perf_counter()
        snapshot = self._snapshot
        try:
            views = snapshot.views(self._sql)
            with self._views.of(snapshot.number, views) as catalog:
                if self._ended:
                    raise QueryError("The query was ended before it began.")
                self._cursor.execute(f"use {catalog}")
                table, truncated = fetch(self._cursor, self._sql, self._parameters, self._rows, lambda: self._ended)
        except duckdb.Error as problem:
            raise QueryError(explained(str(problem), snapshot)) from problem
        return Answer(table, truncated, time.perf_counter() - begun, snapshot.snapshot_ids_of(views))

    def end(self) -> None:
        """Interrupt it if it still runs, and give up its cursor."""
        self._ended = True
        self._cursor.interrupt()


def explained(problem: str, snapshot: LakeSnapshot) -> str:
    """DuckDB's message, with the names there are where one was not found."""
    if "does not exist" in problem and "Table with name" in problem:
        return f"{problem}\nThere are: {', '.join(view_names(snapshot))}"
    return problem
