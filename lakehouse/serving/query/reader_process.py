"""A process that runs the package's own queries, several at a time: `python -m lakehouse.serving.query.reader_process FD`.

It speaks pickled tuples over the socket with this file descriptor, and ends when the serving process does. DuckDB ends its
process where a manifest can't be read (duckdb-iceberg 1.5.5; fixed by https://github.com/duckdb/duckdb-iceberg/pull/1305), so
it reads tables here and not in the serving process. See `reader_pool` for the parent.
"""

import os
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.connection import Connection as Channel

import duckdb

from lakehouse.engine.database import open_database
from lakehouse.processes.memory import return_free_memory
from lakehouse.serving.query.no_pandas import block_pandas
from lakehouse.serving.query.reader_messages import ReaderSetup, ReadReply, ReadRequest
from lakehouse.serving.query.snapshot_views import (
    TRIM_INTERVAL_SECONDS,
    SnapshotViews,
    fetch,
    storage_failure,
    trim_file_cache,
)


class _Reader:
    def __init__(self, channel: Channel, setup: ReaderSetup) -> None:
        self._channel = channel
        self._database = open_database()
        for statement in setup.statements:
            self._database.execute(statement)
        self._views = SnapshotViews(self._database)
        self._pool = ThreadPoolExecutor(setup.threads, thread_name_prefix="reader")
        self._sending = threading.Lock()
        self._waiting: set[int] = set()
        self._running: dict[int, duckdb.DuckDBPyConnection] = {}
        self._max_cached_bytes = setup.max_cached_bytes
        self._trim_due = 0.0

    def start(self, request: ReadRequest) -> None:
        self._waiting.add(request.number)
        self._pool.submit(self._answer, request)

    def stop(self, number: int) -> None:
        self._waiting.discard(number)
        if cursor := self._running.get(number):
            cursor.interrupt()

    def _answer(self, request: ReadRequest) -> None:
        try:
            reply = self._run(request)
        except Exception as error:  # the parent must not wait for ever
            failure = storage_failure(error)
            detail = failure or str(error) or type(error).__name__
            reply = ReadReply(request.number, error=detail, unavailable=failure is not None)
        finally:
            self._waiting.discard(request.number)
            self._running.pop(request.number, None)
        with self._sending:
            self._channel.send(reply)
        if time.monotonic() >= self._trim_due:
            self._trim_due = time.monotonic() + TRIM_INTERVAL_SECONDS
            trim_file_cache(self._database.cursor(), self._max_cached_bytes)
            return_free_memory()

    def _run(self, request: ReadRequest) -> ReadReply:
        started = time.perf_counter()
        with self._views.catalog(request.snapshot, request.views) as catalog:
            cursor = self._running[request.number] = self._database.cursor()
            if request.number not in self._waiting:
                return ReadReply(request.number, error="The query was stopped before it started.")
            cursor.execute(f"use {catalog}")
            table, truncated = fetch(
                cursor, request.sql, request.parameters, request.max_rows, lambda: request.number not in self._waiting
            )
        return ReadReply(request.number, table, truncated, time.perf_counter() - started)


def main() -> None:
    """Answer requests until the serving process ends."""
    block_pandas()
    channel: Channel = Channel(int(sys.argv[1]))
    reader = _Reader(channel, channel.recv())
    try:
        while (request := channel.recv()) is not None:
            if isinstance(request, ReadRequest):
                reader.start(request)
            else:
                reader.stop(request.number)
    finally:
        # The serving process is gone or can't be understood; if it still lives, it starts another reader.
        os._exit(0)


if __name__ == "__main__":
    main()
