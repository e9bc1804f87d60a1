"""Run users' queries in a fixed number of worker processes, each with one query at a time.

A process can be killed whatever its query does, has a memory limit of its own, and takes no other query with it when it
dies. Another one replaces it.
"""

import asyncio
import logging
import os
import shutil
import signal
from asyncio.subprocess import Process
from collections.abc import Coroutine
from contextlib import suppress
from pathlib import Path
from uuid import uuid4

from lakehouse.engine.connection import setup_sql
from lakehouse.errors import BusyError, QueryError, QueryTimeoutError, StorageUnavailableError
from lakehouse.processes.child import python_command
from lakehouse.processes.home import private_home
from lakehouse.processes.scratch import own_folder
from lakehouse.processes.workers import kill_worker, start_worker
from lakehouse.serving.query.sandbox import lockdown_sql
from lakehouse.serving.query.snapshot_views import CACHE_SETTINGS_SQL
from lakehouse.serving.query.sql import readable_locations
from lakehouse.serving.query.worker_messages import (
    LENGTH_BYTES,
    REPLY_DECODER,
    Interrupt,
    QueryRequest,
    Setup,
    WorkerReply,
    encode,
)
from lakehouse.settings import Settings
from lakehouse.storage.objects.connection import Connection

log = logging.getLogger(__name__)

START_TIMEOUT_SECONDS = 60.0
INTERRUPT_TIMEOUT_SECONDS = 1.0
"""Time for an interrupted query to stop before its process is killed."""

MAX_WAIT_SECONDS = 5.0
"""How long a query waits for an idle process."""

RESTART_PAUSE_SECONDS = 1.0
"""Pause after a process that did not start."""


class WorkerEndedError(QueryError):
    """The process that ran a query has ended."""


class WorkerPool:
    """A pool of worker processes. Belongs to one event loop."""

    def __init__(self, settings: Settings, connection: Connection, tail: Path) -> None:
        """Create a pool whose processes read the lake and `tail`, the hot tail's folder."""
        self._tail = tail
        self._settings = settings
        self._connection = connection
        self._scratch = own_folder(private_home(settings) / "scratch")
        self._idle: asyncio.Queue[Process] = asyncio.Queue()
        self._free_places = settings.query_workers + settings.query_waiting
        self._processes: dict[Process, Path] = {}
        """All processes, each with the folder that it spills to."""
        self._tasks: set[asyncio.Task[None]] = set()
        self._closed = False

    def start(self) -> None:
        """Start the processes in the background. Queries wait for them."""
        for _ in range(self._settings.query_workers):
            self._run_in_background(self._replace())

    @property
    def started(self) -> bool:
        """Whether a process runs, idle or busy."""
        return bool(self._processes)

    async def close(self) -> None:
        """Kill all processes."""
        self._closed = True
        for task in [*self._tasks]:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for process in [*self._processes]:
            await self._kill(process)

    async def run(self, request: QueryRequest, seconds: float) -> WorkerReply:
        """Run a query for at most `seconds` when a process is idle. It is stopped when the caller is cancelled.

        Raises BusyError when too many queries wait or no process becomes idle in time, QueryTimeoutError, QueryError when
        the query is wrong or its process died, and StorageUnavailableError when a file of the lake can't be read.
        """
        if self._free_places <= 0:
            raise BusyError("Too many queries are waiting. Try again in a second.")
        self._free_places -= 1
        try:
            return await self._run(request, seconds)
        finally:
            self._free_places += 1

    async def _run(self, request: QueryRequest, seconds: float) -> WorkerReply:
        try:
            process = await asyncio.wait_for(self._idle_process(), MAX_WAIT_SECONDS)
        except TimeoutError:
            raise BusyError(f"No query has finished within {MAX_WAIT_SECONDS:g} s. Try again in a second.") from None
        running = asyncio.ensure_future(_exchange(process, request))
        try:
            reply = await asyncio.wait_for(asyncio.shield(running), seconds)
        except TimeoutError:
            raise QueryTimeoutError(f"The query was stopped after {seconds:g} s. Ask for less at a time.") from None
        except (asyncio.IncompleteReadError, OSError) as error:
            reason = await describe_exit(process)
            log.warning("A query worker died of a query: %s (%s)", reason, error)
            raise WorkerEndedError(reason) from None
        finally:
            self._run_in_background(self._give_back(process, running))
        if reply.error is not None:
            raise (StorageUnavailableError if reply.unavailable else QueryError)(reply.error)
        return reply

    async def _idle_process(self) -> Process:
        """Wait for an idle process. One that died while it was idle is replaced."""
        while (process := await self._idle.get()).returncode is not None:
            self._remove(process)
            self._run_in_background(self._replace())
        return process

    async def _give_back(self, process: Process, running: "asyncio.Future[WorkerReply]") -> None:
        """Make a process ready for the next query: as it is, after an interrupt, or replaced by a new one."""
        try:
            if not running.done():
                assert process.stdin is not None
                with suppress(RuntimeError):  # the process is dead, which `running` reports
                    process.stdin.write(encode(Interrupt()))
                _delete_result(await asyncio.wait_for(running, INTERRUPT_TIMEOUT_SECONDS))
            elif running.exception() is not None:
                raise running.exception() or AssertionError
            is_unusable = running.result().out_of_memory
        except Exception:  # whatever happened to it, a new one is safe
            is_unusable = True
        if is_unusable:
            await self._kill(process)
            await self._replace()
        else:
            self._idle.put_nowait(process)

    async def _replace(self) -> None:
        while not self._closed:
            try:
                self._idle.put_nowait(await self._start_process())
            except Exception:  # giving up would leave the pool one process short for good
                log.exception("A query worker did not start")
                await asyncio.sleep(RESTART_PAUSE_SECONDS)
            else:
                return

    async def _start_process(self) -> Process:
        command = python_command("lakehouse.serving.query.worker")
        setup = self._setup(spill := self._scratch / f"spill-{uuid4().hex}")
        process = await start_worker(command, lambda worker: _exchange(worker, setup), START_TIMEOUT_SECONDS)
        self._processes[process] = spill
        return process

    def _setup(self, spill: Path) -> Setup:
        settings, connection = self._settings, self._connection.for_reading()
        statements = [
            *setup_sql(connection, settings.query_memory_mb, settings.threads, spill, settings.query_spill_mb),
            *CACHE_SETTINGS_SQL,
            *lockdown_sql([*readable_locations(self._connection), f"{self._tail}/"]),
        ]
        return Setup(statements, settings.query_memory_mb, str(self._scratch))

    async def _kill(self, process: Process) -> None:
        await kill_worker(process)
        self._remove(process)

    def _remove(self, process: Process) -> None:
        """Remove a process that has ended, with what it spilled."""
        if spill := self._processes.pop(process, None):
            shutil.rmtree(spill, ignore_errors=True)

    def _run_in_background(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


async def _exchange(process: Process, message: Setup | QueryRequest) -> WorkerReply:
    """Send a message to a worker and wait for its reply."""
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        process.stdin.write(encode(message))
    except RuntimeError as error:  # uvloop raises it for a closed pipe, where asyncio raises BrokenPipeError
        raise BrokenPipeError(str(error)) from error
    await process.stdin.drain()
    length = int.from_bytes(await process.stdout.readexactly(LENGTH_BYTES), "big")
    return REPLY_DECODER.decode(await process.stdout.readexactly(length))


async def describe_exit(process: Process) -> str:
    """Return why a query ended its process, by the signal that killed it, and what to do."""
    with suppress(TimeoutError):
        await asyncio.wait_for(process.wait(), INTERRUPT_TIMEOUT_SECONDS)
    if process.returncode == -signal.SIGKILL:
        return "The query needed more memory than there is, and the system stopped it. Ask for less at a time."
    status = process.returncode or 0
    how = signal.Signals(-status).name if status < 0 else f"status {status}"
    return (
        f"The query's process crashed ({how}), and another one replaces it. A damaged file of a table may be the cause,"
        " which `lakehouse audit` finds, or a fault of DuckDB."
    )


def _delete_result(reply: WorkerReply) -> None:
    """Delete the file of a result that the caller no longer waits for."""
    if reply.path is not None:
        with suppress(OSError):
            os.unlink(reply.path)
