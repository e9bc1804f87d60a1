"""One process that runs what people send, one query at a time: `python -m lakehouse.serving.query.worker`.

It talks with the serving process over its standard input and output, each message led by its length. It is killed when a
query can't be ended otherwise, and ends itself when the serving process does. Nothing is kept from query to query but
what DuckDB has read.
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
from typing import IO, Any

import duckdb
import msgspec
import psutil
import pyarrow as pa

from lakehouse.errors import QueryError
from lakehouse.serving.query.rendering import Column, Format, Statistics, render, sql_type
from lakehouse.serving.query.sandbox import check_query
from lakehouse.serving.query.snapshot_views import SnapshotViews, fetch, with_table_names

INLINE = 1 << 20
"""Bytes of an answer up to which it comes in the message; a larger one lies in a file."""

SLACK_MB = 768
"""Of address space beyond DuckDB's limit, which threads, code and results need."""

NICE = 5
"""What people send gives way to ingest and to what the package asks itself."""


class Setup(msgspec.Struct, tag=True):
    """The first message: what the database is."""

    statements: list[str]
    """What makes an empty database one that reads the lake and nothing else."""
    memory_mb: int
    spool: str
    """The folder for long answers."""


class QueryRequest(msgspec.Struct, tag=True):
    """Run this."""

    sql: str
    parameters: list[Any] | dict[str, Any]
    form: Format
    rows: int
    bytes: int
    """Of the answer as it is sent; a longer one is refused."""
    snapshot: int
    views: dict[str, str]
    """The SELECT behind each name the query may use."""
    snapshots: dict[str, str | None]
    names: list[str]
    """All names there are, for whoever gets one wrong."""


class Interrupt(msgspec.Struct, tag=True):
    """End what runs."""


class WorkerReply(msgspec.Struct):
    """The answer."""

    problem: str | None = None
    """What is wrong with the query; then there is nothing else."""
    statistics: Statistics | None = None
    body: bytes = b""
    path: str | None = None
    """The file that holds the body where it is long; whoever reads this deletes it."""
    worn: bool = False
    """Whether memory ran out: not all of it comes back, and the process is to be replaced."""


REQUESTS = msgspec.msgpack.Decoder(Setup | QueryRequest | Interrupt)
ANSWERS = msgspec.msgpack.Decoder(WorkerReply)
LENGTH = 8


def framed(message: msgspec.Struct) -> bytes:
    """A message as it is sent."""
    content = msgspec.msgpack.encode(message)
    return len(content).to_bytes(LENGTH, "big") + content


class Worker:
    """Runs queries in a database that reads the lake and nothing else."""

    def __init__(self, setup: Setup) -> None:
        self._spool = setup.spool
        database = duckdb.connect(":memory:")
        self._views = SnapshotViews(database)
        for statement in setup.statements:
            database.execute(statement)
        self._cursor = database.cursor()
        self._ended = False
        # Arrow's allocator reserves a gigabyte of address space when it is first used, which is no query's doing.
        pa.allocate_buffer(1)

    def answer(self, ask: QueryRequest) -> WorkerReply:
        """Run it; a query that is wrong is an answer too."""
        try:
            return self._answer(ask)
        except QueryError as problem:
            return WorkerReply(with_table_names(str(problem), lambda: ask.names))
        except duckdb.InterruptException:
            return WorkerReply("The query was ended.")
        except (duckdb.Error, pa.ArrowException, MemoryError, OSError) as problem:
            if not _is_about_memory(problem):
                return WorkerReply(with_table_names(str(problem), lambda: ask.names))
            words = str(problem).partition("\n")[0]
            detail = f"The query needs more memory than it may use ({words}); ask for less at a time."
            return WorkerReply(detail, worn=True)

    def interrupt(self) -> None:
        """End what runs, as soon as it looks up."""
        self._ended = True
        self._cursor.interrupt()

    def _answer(self, ask: QueryRequest) -> WorkerReply:
        begun = time.perf_counter()
        self._ended = False
        check_query(self._cursor, ask.sql, ask.views.keys())
        with self._views.catalog(ask.snapshot, ask.views) as catalog:
            self._cursor.execute(f"use {catalog}")
            table, truncated = fetch(self._cursor, ask.sql, ask.parameters, ask.rows, lambda: self._ended)
        columns = [Column(field.name, sql_type(field.type)) for field in table.schema]
        seconds = time.perf_counter() - begun
        statistics = Statistics(table.num_rows, truncated, round(seconds, 6), table.nbytes, ask.snapshots)
        return self._rendered(ask, table, columns, statistics)

    def _rendered(
        self, ask: QueryRequest, table: pa.Table, columns: Sequence[Column], statistics: Statistics
    ) -> WorkerReply:
        pieces: list[bytes] = []
        size = 0
        file: IO[bytes] | None = None
        try:
            for piece in render(table, columns, ask.form, statistics):
                size += len(piece)
                if size > ask.bytes:
                    raise QueryError(
                        f"The answer is longer than {ask.bytes >> 20} MiB; ask for fewer rows or columns, or as Arrow."
                    )
                if file is None and size > INLINE:
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


def _is_about_memory(problem: Exception) -> bool:
    """DuckDB's error, Python's, or DuckDB's as Arrow hands it on."""
    return isinstance(problem, duckdb.OutOfMemoryException | MemoryError) or "Out of Memory" in str(problem)


def limit_memory(most_mb: int) -> None:
    """Have the system refuse memory beyond what a query may use, for not all that DuckDB takes does it count."""
    with suppress(ImportError, ValueError, OSError):  # not on every system
        import resource

        most = psutil.Process().memory_info().vms + ((most_mb + SLACK_MB) << 20)
        resource.setrlimit(resource.RLIMIT_AS, (most, most))


def run() -> None:
    """Answer until the serving process is gone."""
    os.nice(NICE)
    # DuckDB would import it with the first parameter it is given, for seconds, and use nothing of it.
    sys.modules["pandas"] = None  # type: ignore[assignment]
    # Only answers go to where they are expected, whatever a library prints.
    out = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    setup = _read()
    assert isinstance(setup, Setup)
    worker = Worker(setup)
    limit_memory(setup.memory_mb)
    asked: queue.SimpleQueue[QueryRequest] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(worker, asked), daemon=True).start()
    told = WorkerReply()  # it is ready
    while True:
        out.write(framed(told))
        out.flush()
        told = worker.answer(asked.get())


def _listen(worker: Worker, asked: "queue.SimpleQueue[QueryRequest]") -> None:
    try:
        while message := _read():
            if isinstance(message, QueryRequest):
                asked.put(message)
            else:
                worker.interrupt()
    finally:
        os._exit(0)  # nobody talks any longer, or can be understood; the serving process starts another if it lives


def _read() -> Setup | QueryRequest | Interrupt | None:
    """The next message; None when there will be no more."""
    head = sys.stdin.buffer.read(LENGTH)
    return REQUESTS.decode(sys.stdin.buffer.read(int.from_bytes(head, "big"))) if head else None


if __name__ == "__main__":
    run()
