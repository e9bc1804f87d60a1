"""Readers: run the SELECTs that the package itself brings, each over one moment of the lake, a few at a time.

Their SQL is trusted; what people send is not run here.
"""

import asyncio
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import duckdb
import pyarrow as pa

from lakehouse.contracts.sql import quote
from lakehouse.engines.duckdb import DuckDB
from lakehouse.errors import BusyError, QueryError, QueryTimeoutError
from lakehouse.layers.views import view_exists, view_names, view_sql
from lakehouse.serving.moments import Moment, Moments
from lakehouse.serving.query import mentioned

Parameters = Sequence[Any] | Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Answer:
    """What a query gave."""

    table: pa.Table
    truncated: bool
    """Whether there were more rows than were asked for."""
    seconds: float
    snapshots: Mapping[str, int | None]
    """The tables and views it named, and the snapshots of the tables; None for a view and for an empty table."""


class Readers:
    """A pool of readers over one DuckDB."""

    def __init__(self, moments: Moments, *, at_once: int = 4, waiting: int = 64) -> None:
        lake = moments.lake
        self._engine = DuckDB(
            lake.connection,
            memory_limit_mb=lake.settings.memory_limit_mb,
            threads=lake.settings.threads,
            scratch=lake.settings.root / "scratch",
        )
        self._moments = moments
        self._views = Views(self._engine)
        self._pool = ThreadPoolExecutor(at_once, thread_name_prefix="reader")
        self._room = at_once + waiting

    async def run(
        self, sql: str, parameters: Parameters = (), *, rows: int | None = None, seconds: float = 10.0
    ) -> Answer:
        """Run one SELECT over the latest moment; at most `rows` rows of it.

        Ends it when the caller is cancelled. Raises QueryError, QueryTimeoutError after so many seconds, and BusyError
        when more wait than ever get a turn.
        """
        if self._room <= 0:
            raise BusyError("Too many queries wait for their turn; ask again in a second.")
        self._room -= 1
        reading = _Reading(self._engine.cursor(), self._views, self._moments.latest, sql, parameters, rows)
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


class Views:
    """The views of moments in one DuckDB: each moment's in a catalog of its own, made when they are first named."""

    def __init__(self, engine: DuckDB) -> None:
        self._cursor = engine.cursor()
        self._lock = threading.Lock()
        self._made: dict[int, set[str]] = {}
        self._users: Counter[int] = Counter()

    @contextmanager
    def of(self, moment: Moment, names: Sequence[str]) -> Iterator[str]:
        """The catalog in which these names are views, kept as long as the block lasts."""
        catalog = f"moment_{moment.number}"
        with self._lock:
            self._users[moment.number] += 1
            made = self._made.get(moment.number)
            if made is None:
                self._cursor.execute(f"attach ':memory:' as {catalog}")
                made = self._made[moment.number] = set()
            for name in names:
                if name not in made:
                    schema, _, short = name.partition(".")
                    self._cursor.execute(f"create schema if not exists {catalog}.{quote(schema)}")
                    view = f"{catalog}.{quote(schema)}.{quote(short)}"
                    self._cursor.execute(f"create view {view} as {view_sql(moment, name)}")
                    made.add(name)
        try:
            yield catalog
        finally:
            with self._lock:
                self._users[moment.number] -= 1
                self._forget_older()

    def _forget_older(self) -> None:
        for number in sorted(self._made)[:-1]:
            if not self._users[number]:
                self._cursor.execute(f"detach moment_{number}")
                del self._made[number], self._users[number]


class _Reading:
    def __init__(
        self,
        cursor: duckdb.DuckDBPyConnection,
        views: Views,
        moment: Moment,
        sql: str,
        parameters: Parameters,
        rows: int | None,
    ) -> None:
        self._cursor = cursor
        self._views = views
        self._moment = moment
        self._sql = sql
        self._parameters = parameters
        self._rows = rows
        self._ended = False

    def run(self) -> Answer:
        begun = time.perf_counter()
        names = [name for name in sorted(mentioned(self._sql)) if view_exists(self._moment, name)]
        try:
            with self._views.of(self._moment, names) as catalog:
                if self._ended:
                    raise QueryError("The query was ended before it began.")
                self._cursor.execute(f"use {catalog}")
                table, truncated = self._fetch()
        except duckdb.Error as problem:
            raise QueryError(explained(str(problem), self._moment)) from problem
        snapshots = {name: self._moment.snapshots.get(name) for name in names}
        return Answer(table, truncated, time.perf_counter() - begun, snapshots)

    def _fetch(self) -> tuple[pa.Table, bool]:
        parameters: Any = dict(self._parameters) if isinstance(self._parameters, Mapping) else list(self._parameters)
        result = self._cursor.execute(self._sql, parameters)
        if self._rows is None:
            return result.to_arrow_table(), False
        taken: list[pa.RecordBatch] = []
        reader = result.to_arrow_reader(8192)
        left = self._rows
        for batch in reader:
            taken.append(batch[:left])
            left -= taken[-1].num_rows
            if taken[-1].num_rows < batch.num_rows:
                return pa.Table.from_batches(taken, reader.schema), True
        return pa.Table.from_batches(taken, reader.schema), False

    def end(self) -> None:
        """Interrupt it if it still runs, and give up its cursor."""
        self._ended = True
        self._cursor.interrupt()


def explained(problem: str, moment: Moment) -> str:
    """DuckDB's message, with the names there are where one was not found."""
    if "does not exist" in problem and "Table with name" in problem:
        return f"{problem}\nThere are: {', '.join(view_names(moment))}"
    return problem
