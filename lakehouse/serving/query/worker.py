"""A process that runs users' queries, one at a time: `python -m lakehouse.serving.query.worker`.

It speaks `worker_messages` over its standard input and output. It keeps nothing between queries but DuckDB's caches, ends
when the serving process does, and is killed when a query can't be stopped otherwise. See `worker_pool` for its parent.
"""

import os
import queue
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO

import duckdb
import psutil
import pyarrow as pa

from lakehouse.engine.database import open_database
from lakehouse.errors import QueryError
from lakehouse.processes.memory import return_free_memory
from lakehouse.serving.query.no_pandas import block_pandas
from lakehouse.serving.query.rendering import Column, Statistics, render, sql_type
from lakehouse.serving.query.sandbox import check_query
from lakehouse.serving.query.snapshot_views import (
    CACHE_SHARE,
    TRIM_INTERVAL_SECONDS,
    SnapshotViews,
    cached_bytes,
    fetch,
    query_error_text,
    storage_failure,
    with_table_names,
)
from lakehouse.serving.query.worker_messages import (
    LENGTH_BYTES,
    REQUEST_DECODER,
    Interrupt,
    QueryRequest,
    Setup,
    WorkerReply,
    encode,
)

MAX_INLINE_BYTES = 1 << 20
"""Results up to this size are part of the reply. A larger one is in a file."""

ADDRESS_SPACE_SLACK_MB = 768
"""Address space beyond DuckDB's limit, for threads, code and results."""

NICENESS = 5
"""Users' queries yield to ingest and to the package's own queries."""


class Worker:
    """Run queries in a database that reads the lake and nothing else."""

    def __init__(self, setup: Setup) -> None:
        self._spool = setup.spool
        self._statements = setup.statements
        self._max_cached_bytes = (setup.memory_mb << 20) // CACHE_SHARE
        self._open()
        self._trim_due = time.monotonic() + TRIM_INTERVAL_SECONDS
        self._interrupted = False
        # Arrow's allocator reserves a gigabyte of address space at its first use, which must not count for a query.
        pa.allocate_buffer(1)

    def _open(self) -> None:
        self._database = open_database()
        self._views = SnapshotViews(self._database)
        for statement in self._statements:
            self._database.execute(statement)
        self._cursor = self._database.cursor()

    def trim(self) -> None:
        """Return memory to the system that no query uses. Does nothing most of the time.

        A database that keeps too much of the files that it has read is replaced, because its settings are locked.
        """
        if time.monotonic() < self._trim_due:
            return
        self._trim_due = time.monotonic() + TRIM_INTERVAL_SECONDS
        if cached_bytes(self._cursor) > self._max_cached_bytes:
            self._database.close()
            self._open()
        return_free_memory()

    def run(self, request: QueryRequest) -> WorkerReply:
        """Run a query. An error is a reply too."""
        try:
            return self._run(request)
        except QueryError as error:
            return WorkerReply(with_table_names(str(error), lambda: request.table_names))
        except duckdb.InterruptException:
            return WorkerReply("The query was stopped.")
        except (duckdb.Error, pa.ArrowException, MemoryError, OSError) as error:
            if detail := storage_failure(error):
                return WorkerReply(detail, unavailable=True)
            if not _is_out_of_memory(error):
                return WorkerReply(with_table_names(query_error_text(error), lambda: request.table_names))
            reason = str(error).partition("\n")[0]
            detail = f"The query needs more memory than it may use ({reason}). Ask for less at a time."
            return WorkerReply(detail, out_of_memory=True)

    def interrupt(self) -> None:
        """Stop the running query as soon as DuckDB checks for it."""
        self._interrupted = True
        self._cursor.interrupt()

    def _run(self, request: QueryRequest) -> WorkerReply:
        start = time.perf_counter()
        self._interrupted = False
        check_query(self._cursor, request.sql, request.views.keys())
        with self._views.catalog(request.snapshot, request.views) as catalog:
            self._cursor.execute(f"use {catalog}")
            table, truncated = fetch(
                self._cursor, request.sql, request.parameters, request.max_rows, lambda: self._interrupted
            )
        columns = [Column(field.name, sql_type(field.type)) for field in table.schema]
        seconds = time.perf_counter() - start
        statistics = Statistics(table.num_rows, truncated, round(seconds, 6), table.nbytes, request.snapshots)
        return self._render(request, table, columns, statistics)

    def _render(
        self, request: QueryRequest, table: pa.Table, columns: Sequence[Column], statistics: Statistics
    ) -> WorkerReply:
        pieces: list[bytes] = []
        size = 0
        file: IO[bytes] | None = None
        try:
            for piece in render(table, columns, request.form, statistics):
                size += len(piece)
                if size > request.max_bytes:
                    limit_mib = request.max_bytes >> 20
                    raise QueryError(
                        f"The result is longer than {limit_mib} MiB. Ask for fewer rows or columns, or for Arrow."
                    )
                if file is None and size > MAX_INLINE_BYTES:
                    file = tempfile.NamedTemporaryFile(dir=self._spool, prefix="answer-", delete=False)  # noqa: SIM115
                    file.writelines(pieces)
                (pieces.append if file is None else file.write)(piece)
        except QueryError:
            if file is not None:
                file.close()
                Path(file.name).unlink()
            raise
        if file is None:
            return WorkerReply(statistics=statistics, body=b"".join(pieces))
        file.close()
        return WorkerReply(statistics=statistics, path=file.name)


def _is_out_of_memory(error: Exception) -> bool:
    """Return whether it is DuckDB's error, Python's, or DuckDB's wrapped by Arrow."""
    return isinstance(error, duckdb.OutOfMemoryException | MemoryError) or "Out of Memory" in str(error)


def limit_address_space(memory_mb: int) -> None:
    """Limit this process's memory by the system, because DuckDB does not count all that it allocates."""
    with suppress(ImportError, ValueError, OSError):  # not every system has the limit
        import resource

        limit = psutil.Process().memory_info().vms + ((memory_mb + ADDRESS_SPACE_SLACK_MB) << 20)
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


def main() -> None:
    """Answer requests until the serving process ends."""
    os.nice(NICENESS)
    block_pandas()
    # Only replies may go to standard output, whatever a library prints.
    out = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    setup = _read_message()
    assert isinstance(setup, Setup)
    worker = Worker(setup)
    limit_address_space(setup.memory_mb)
    requests: queue.SimpleQueue[QueryRequest] = queue.SimpleQueue()
    threading.Thread(target=_receive, args=(worker, requests), daemon=True).start()
    reply = WorkerReply()  # ready
    while True:
        out.write(encode(reply))
        out.flush()
        worker.trim()
        reply = worker.run(requests.get())


def _receive(worker: Worker, requests: "queue.SimpleQueue[QueryRequest]") -> None:
    try:
        while message := _read_message():
            if isinstance(message, QueryRequest):
                requests.put(message)
            else:
                worker.interrupt()
    finally:
        # The serving process is gone or can't be understood; if it still lives, it starts another worker.
        os._exit(0)


def _read_message() -> Setup | QueryRequest | Interrupt | None:
    """Read the next message; None when the serving process has closed the pipe."""
    head = sys.stdin.buffer.read(LENGTH_BYTES)
    return REQUEST_DECODER.decode(sys.stdin.buffer.read(int.from_bytes(head, "big"))) if head else None


if __name__ == "__main__":
    main()
