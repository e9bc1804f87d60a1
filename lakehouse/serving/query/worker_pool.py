"""The processes that run what people send: a fixed few, each with one query at a time, replaced when they die.

A process can be killed whatever its query does, takes no more memory than it may, and takes nobody along when it dies.
"""

import asyncio
import logging
import os
import sys
from asyncio.subprocess import Process
from collections.abc import Coroutine
from contextlib import suppress
from pathlib import Path
from uuid import uuid4

from lakehouse.engine.connection import setup_sql
from lakehouse.errors import BusyError, QueryError, QueryTimeoutError
from lakehouse.processes.workers import kill_worker, start_worker
from lakehouse.serving.query.sandbox import lockdown_sql
from lakehouse.serving.query.snapshot_views import CACHE_SETTINGS_SQL
from lakehouse.serving.query.sql import readable_locations
from lakehouse.serving.query.worker import ANSWERS, LENGTH, Interrupt, QueryRequest, Setup, WorkerReply, framed
from lakehouse.settings import Settings
from lakehouse.storage.objects.connection import Connection

log = logging.getLogger(__name__)

START_SECONDS = 60.0
GRACE_SECONDS = 1.0
"""For an interrupted query to end by itself, before its process is killed."""

TURN_SECONDS = 5.0
"""A query waits this long for its turn at most."""

PAUSE_SECONDS = 1.0
"""Before a process that did not start is tried again."""


class WorkerPool:
    """A pool of worker processes; lives in one event loop."""

    def __init__(self, settings: Settings, connection: Connection, tail: Path) -> None:
        """`tail` is the folder of the newest rows."""
        self._tail = tail
        self._settings = settings
        self._connection = connection
        self._idle: asyncio.Queue[Process] = asyncio.Queue()
        self._room = settings.query_workers + settings.query_waiting
        self._processes: set[Process] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._closed = False

    def start(self) -> None:
        """Begin to start the processes; queries wait for them."""
        for _ in range(self._settings.query_workers):
            self._later(self._replace())

    @property
    def started(self) -> bool:
        """Whether there is a process to run a query, be it busy."""
        return bool(self._processes)

    async def close(self) -> None:
        """End all processes."""
        self._closed = True
        for task in [*self._tasks]:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for process in [*self._processes]:
            await self._kill(process)

    async def run(self, ask: QueryRequest, seconds: float) -> WorkerReply:
        """Run a query when it is its turn, for at most so many seconds; ends it when the caller is cancelled.

        Raises BusyError when there is no turn to be had, QueryTimeoutError, and QueryError for a query that is wrong or
        that its process did not survive.
        """
        if self._room <= 0:
            raise BusyError("As many queries wait as may; ask again in a second.")
        self._room -= 1
        try:
            return await self._run(ask, seconds)
        finally:
            self._room += 1

    async def _run(self, ask: QueryRequest, seconds: float) -> WorkerReply:
        try:
            process = await asyncio.wait_for(self._living(), TURN_SECONDS)
        except TimeoutError:
            raise BusyError(f"No query has ended within {TURN_SECONDS:g} s; ask again in a second.") from None
        running = asyncio.ensure_future(_told(process, ask))
        try:
            told = await asyncio.wait_for(asyncio.shield(running), seconds)
        except TimeoutError:
            raise QueryTimeoutError(f"The query was ended after {seconds:g} s; ask for less at a time.") from None
        except (asyncio.IncompleteReadError, OSError) as problem:
            log.warning("a worker died of a query: %s", problem)
            raise QueryError(
                "The query needed more memory than it may use and was ended; ask for less at a time."
            ) from None
        finally:
            self._later(self._give_back(process, running))
        if told.problem is not None:
            raise QueryError(told.problem)
        return told

    async def _living(self) -> Process:
        """An idle process; those that died while nobody asked are replaced."""
        while (process := await self._idle.get()).returncode is not None:
            self._processes.discard(process)
            self._later(self._replace())
        return process

    async def _give_back(self, process: Process, running: "asyncio.Future[WorkerReply]") -> None:
        """Have the process ready for the next query: as it is, after an interrupt, or as a new one."""
        try:
            if not running.done():
                assert process.stdin is not None
                with suppress(RuntimeError):  # it is dead, which whoever reads its answer sees
                    process.stdin.write(framed(Interrupt()))
                forget(await asyncio.wait_for(running, GRACE_SECONDS))
            elif running.exception() is not None:
                raise running.exception() or AssertionError
            worn = running.result().worn
        except Exception:  # whatever became of it, another takes its place
            worn = True
        if worn:
            await self._kill(process)
            await self._replace()
        else:
            self._idle.put_nowait(process)

    async def _replace(self) -> None:
        while not self._closed:
            try:
                self._idle.put_nowait(await self._launch())
            except Exception:  # one query worker less, for good, would be worse than trying again
                log.exception("a worker did not start")
                await asyncio.sleep(PAUSE_SECONDS)
            else:
                return

    async def _launch(self) -> Process:
        command = [sys.executable, "-m", "lakehouse.serving.query.worker"]
        process = await start_worker(command, lambda worker: _told(worker, self._setup()), START_SECONDS)
        self._processes.add(process)
        return process

    def _setup(self) -> Setup:
        settings, spool = self._settings, self._settings.root / "scratch"
        connection = self._connection.for_reading()
        spool.mkdir(parents=True, exist_ok=True)
        statements = [
            *setup_sql(connection, settings.query_memory_mb, settings.threads, spool / f"spill-{uuid4().hex}"),
            *CACHE_SETTINGS_SQL,
            *lockdown_sql([*readable_locations(self._connection), f"{self._tail}/"]),
        ]
        return Setup(statements, settings.query_memory_mb, str(spool))

    async def _kill(self, process: Process) -> None:
        self._processes.discard(process)
        await kill_worker(process)

    def _later(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


async def _told(process: Process, message: Setup | QueryRequest) -> WorkerReply:
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        process.stdin.write(framed(message))
    except RuntimeError as closed:  # uvloop's word for a pipe that asyncio calls broken
        raise BrokenPipeError(str(closed)) from closed
    await process.stdin.drain()
    length = int.from_bytes(await process.stdout.readexactly(LENGTH), "big")
    return ANSWERS.decode(await process.stdout.readexactly(length))


def forget(told: WorkerReply) -> None:
    """Remove what an answer that nobody wants has left."""
    if told.path is not None:
        with suppress(OSError):
            os.unlink(told.path)
