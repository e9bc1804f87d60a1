"""Run the SELECTs that the package brings, each over one lake snapshot, a few at a time in a process of their own.

Their SQL is trusted. See `worker_pool` for SQL that users send.
"""

import asyncio
import itertools
import logging
import os
import shutil
import subprocess
import threading
from collections.abc import Mapping
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing import Pipe
from multiprocessing.connection import Connection as Channel
from uuid import uuid4

import pyarrow as pa

from lakehouse.engine.connection import setup_sql
from lakehouse.errors import BusyError, QueryError, QueryTimeoutError, StorageUnavailableError, UnreadableTableError
from lakehouse.pipeline.lake import Lake
from lakehouse.pipeline.unified_view import source_tables, view_names
from lakehouse.pipeline.view_names import HEALTH_VIEW
from lakehouse.processes.child import SAFE_PATH, python_command
from lakehouse.processes.home import private_home
from lakehouse.processes.scratch import own_folder
from lakehouse.serving.query.lake_snapshot import LakeSnapshot
from lakehouse.serving.query.reader_messages import ReaderSetup, ReadReply, ReadRequest, StopRequest
from lakehouse.serving.query.snapshot_tracker import SnapshotTracker
from lakehouse.serving.query.snapshot_views import CACHE_SETTINGS_SQL, CACHE_SHARE, Parameters, with_table_names
from lakehouse.serving.query.table_reads import name_unreadable
from lakehouse.storage.iceberg.readable import check_readable, forget_readable

log = logging.getLogger(__name__)

MAX_ATTEMPTS = 3
"""How often a query is run in all when the reader process ends, which another query may have caused."""


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
    """A process with threads that share one DuckDB. Another one replaces it when it ends, and runs its queries again."""

    def __init__(self, tracker: SnapshotTracker, *, threads: int = 4, max_waiting: int = 64) -> None:
        self._tracker = tracker
        self._free_places = threads + max_waiting
        self._process = _ReaderProcess(tracker.lake, threads)

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

        The query is interrupted when the caller is cancelled. Raises QueryError, QueryTimeoutError after `seconds`,
        BusyError when too many queries wait, and UnreadableTableError or StorageUnavailableError for a table that can't be
        read.
        """
        if self._free_places <= 0:
            raise BusyError("Too many queries are waiting. Try again in a second.")
        self._free_places -= 1
        try:
            return await asyncio.wait_for(self._run(sql, parameters, rows, snapshot or self._tracker.latest), seconds)
        except TimeoutError:
            raise QueryTimeoutError(f"The query was stopped after {seconds:g} s. Ask for less at a time.") from None
        finally:
            self._free_places += 1

    async def _run(self, sql: str, parameters: Parameters, rows: int | None, snapshot: LakeSnapshot) -> QueryResult:
        unreadable: dict[str, str] = {}
        ends = 0
        while ends < MAX_ATTEMPTS:
            views = await asyncio.to_thread(_readable_views, snapshot, sql, unreadable)
            request = ReadRequest(self._process.next_number(), sql, parameters, rows, snapshot.number, views)
            try:
                answer = self._answer(request)
                reply = await name_unreadable(answer, self._tracker.lake.connection, snapshot, views)
            except EOFError:
                ends += 1
                continue
            except UnreadableTableError as error:
                unreadable |= _unreadable_tables(snapshot, views, error, unreadable)
                continue
            finally:
                self._process.stop(request.number)
            if reply.table is None:
                raise QueryError(with_table_names(reply.error, lambda: view_names(snapshot)))
            return QueryResult(reply.table, reply.truncated, reply.seconds, snapshot.snapshot_ids_of(views))
        raise StorageUnavailableError("The process that reads tables ended at this query. Try again in a second.")

    async def _answer(self, request: ReadRequest) -> ReadReply:
        reply = await asyncio.wrap_future(self._process.submit(request))
        if reply.unavailable:
            raise StorageUnavailableError(reply.error)
        return reply

    def close(self) -> None:
        """End the process; queries that run fail."""
        self._process.close()


def _readable_views(snapshot: LakeSnapshot, sql: str, unreadable: Mapping[str, str]) -> dict[str, str]:
    """Return the views that a query names. Raises UnreadableTableError if they, or tables that it scans, can't be read."""
    for table in map(snapshot.tables.load, snapshot.tables.names()):
        if table.metadata_location in sql:
            check_readable(table)
    return snapshot.views(sql, unreadable)


def _unreadable_tables(
    snapshot: LakeSnapshot, views: Mapping[str, str], error: UnreadableTableError, known: Mapping[str, str]
) -> dict[str, str]:
    """Return the table that can't be read, with the error, if the query can be answered without it.

    Only the view of all streams can: it then says which one is missing. Raises the error for other queries.
    """
    for name in source_tables(snapshot, HEALTH_VIEW) if HEALTH_VIEW in views else ():
        if str(error).startswith(f"{name} ") and name not in known:
            return {name: str(error)}
    raise error


class _ReaderProcess:
    """The reader process as it is seen from here. Started at once, and again by the first query after it has ended."""

    def __init__(self, lake: Lake, threads: int) -> None:
        self._lake, self._threads = lake, threads
        self._spill = own_folder(private_home(lake.settings) / "scratch") / f"spill-{uuid4().hex}"
        self._numbers = itertools.count()
        self._lock = threading.Lock()
        self._channel: Channel | None = None
        self._pending: dict[int, Future[ReadReply]] = {}
        self._start()

    def next_number(self) -> int:
        """Return the number of the next query."""
        return next(self._numbers)

    def submit(self, request: ReadRequest) -> "Future[ReadReply]":
        """Start a query. The future raises EOFError if the process ends before it has answered."""
        future: Future[ReadReply] = Future()
        with self._lock:
            if self._channel is None:
                self._start()
            assert self._channel is not None
            self._pending[request.number] = future
            with suppress(OSError):  # it has ended, which its receiver reports
                self._channel.send(request)
        return future

    def stop(self, number: int) -> None:
        """Stop a query that has not answered."""
        with self._lock:
            if self._pending.pop(number, None) is not None and self._channel is not None:
                with suppress(OSError):
                    self._channel.send(StopRequest(number))

    def close(self) -> None:
        """End the process."""
        with self._lock:
            if self._channel is not None:
                with suppress(OSError):
                    self._channel.send(None)

    def _start(self) -> None:
        settings, connection = self._lake.settings, self._lake.connection
        statements = [
            *setup_sql(connection, settings.memory_limit_mb, settings.threads, self._spill, settings.spill_mb),
            *CACHE_SETTINGS_SQL,
        ]
        channel, theirs = Pipe()
        with theirs:
            process = subprocess.Popen(
                python_command("lakehouse.serving.query.reader_process", str(theirs.fileno())),
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                env={**os.environ, **SAFE_PATH},
            )
        channel.send(ReaderSetup(statements, self._threads, (settings.memory_limit_mb << 20) // CACHE_SHARE))
        self._channel = channel
        receiver = threading.Thread(target=self._receive, args=(channel, process), name="reader-replies", daemon=True)
        receiver.start()

    def _receive(self, channel: Channel, process: "subprocess.Popen[bytes]") -> None:
        with suppress(EOFError, OSError):
            while True:
                reply: ReadReply = channel.recv()
                with self._lock:
                    future = self._pending.pop(reply.number, None)
                if future is not None and future.set_running_or_notify_cancel():
                    future.set_result(reply)
        if status := process.wait():
            log.warning("The reader process ended with %s. Its queries run again in another one", status)
        forget_readable()  # a manifest may have become unreadable, which the next attempt finds out
        with self._lock:
            self._channel = None
            channel.close()
            failed, self._pending = self._pending, {}
        shutil.rmtree(self._spill, ignore_errors=True)
        for future in failed.values():
            if future.set_running_or_notify_cancel():
                future.set_exception(EOFError("the reader process has ended"))
