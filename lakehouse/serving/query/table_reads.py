"""Name the table of which a query can't read a data file, soon after it began."""

import asyncio
import threading
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Sequence
from concurrent.futures import Future, wait
from typing import Any, TypeVar

from pyiceberg.table import Table

from lakehouse.errors import StorageUnavailableError, UnreadableTableError
from lakehouse.pipeline.readable_lake import ReadableLake
from lakehouse.pipeline.unified_view import source_tables
from lakehouse.storage.iceberg.damaged_files import named_failure, raise_if_silent
from lakehouse.storage.objects.connection import Connection

T = TypeVar("T")

PATIENCE_SECONDS = 0.5
"""A query that takes longer may be waiting for a damaged file."""


def run_unless_silent(work: Callable[[], T], connection: Connection, tables: Sequence[Table]) -> T:
    """Return the result of a query's step, run in a thread, because DuckDB can't be interrupted while it reads a file.

    Raises UnreadableTableError, and leaves the thread to itself, if a data file of a table is damaged.
    """
    result: Future[T] = Future()

    def run() -> None:
        try:
            result.set_result(work())
        except BaseException as error:  # raised below
            result.set_exception(error)

    threading.Thread(target=run, name="query", daemon=True).start()
    if not wait([result], PATIENCE_SECONDS).done:
        raise_if_silent(connection, tables)
    return result.result()


async def name_unreadable(
    work: Awaitable[T], connection: Connection, snapshot: ReadableLake, names: Iterable[str]
) -> T:
    """Return the result of a query over these tables and views.

    Raises UnreadableTableError, and cancels the query, if a data file of a table can't be read.
    """
    sources = dict.fromkeys(table for name in names for table in source_tables(snapshot, name))
    tables = [snapshot.tables.load(name) for name in sources if snapshot.tables.exists(name)]
    running = asyncio.ensure_future(work)
    try:
        if not (await asyncio.wait({running}, timeout=PATIENCE_SECONDS))[0]:
            await _until_silent(running, asyncio.to_thread(raise_if_silent, connection, tables))
        return await running
    except UnreadableTableError:
        raise
    except StorageUnavailableError as error:
        raise await asyncio.to_thread(named_failure, connection, tables, str(error)) or error from error
    finally:
        running.cancel()


async def _until_silent(running: "asyncio.Future[Any]", probe: Coroutine[Any, Any, None]) -> None:
    """Wait until the query or the probe ends, and raise what the probe found if it was the first."""
    probing = asyncio.ensure_future(probe)
    await asyncio.wait({running, probing}, return_when=asyncio.FIRST_COMPLETED)
    if not running.done():
        probing.result()
    else:
        probing.add_done_callback(lambda task: task.exception())
