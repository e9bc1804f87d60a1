"""Worker processes: start one that speaks over pipes, kill it, and end one whose parent is gone.

See `child` for processes that outlive their parent.
"""

import asyncio
import multiprocessing
import os
import select
import signal
import sys
import threading
from asyncio.subprocess import Process
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress

from lakehouse.processes.child import SAFE_PATH


async def start_worker(
    command: Sequence[str], handshake: Callable[[Process], Awaitable[object]], seconds: float
) -> Process:
    """Start a process with pipes for stdin and stdout, and wait until it has answered `handshake`.

    Kills it and re-raises if the handshake fails or takes longer than `seconds` (TimeoutError).
    """
    process = await asyncio.create_subprocess_exec(
        *command,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        env={**os.environ, **SAFE_PATH},
    )
    try:
        await asyncio.wait_for(handshake(process), seconds)
    except BaseException:
        await kill_worker(process)
        raise
    return process


async def kill_worker(process: Process) -> None:
    """Kill a worker, which may have ended, and reap it."""
    with suppress(ProcessLookupError):
        process.kill()
    await process.wait()


def end_with_parent() -> None:
    """Send this process SIGTERM when its parent ends, so that it stops in order; nothing if it has no parent.

    A parent that is killed can't tell its workers to stop, and they would keep the port that the next server needs.
    """
    parent = multiprocessing.parent_process()
    if parent is None or parent.pid is None:
        return
    loop, descriptor = asyncio.get_running_loop(), _readable_at_exit(parent.pid, parent.sentinel)

    def terminate() -> None:
        loop.remove_reader(descriptor)
        os.kill(os.getpid(), signal.SIGTERM)

    loop.add_reader(descriptor, terminate)


def end_after_parent() -> None:
    """Send this process SIGTERM when its parent ends, without an event loop; nothing if it has no parent."""
    parent = multiprocessing.parent_process()
    if parent is None or parent.pid is None:
        return
    descriptor = _readable_at_exit(parent.pid, parent.sentinel)

    def wait() -> None:
        select.select([descriptor], [], [])
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=wait, name="parent", daemon=True).start()


def _readable_at_exit(pid: int, sentinel: int) -> int:
    """Return a file descriptor that becomes readable when the process ends.

    A pidfd, because workers forked later inherit the other end of `sentinel`, and each would wait for the next.
    """
    if sys.platform == "linux":
        with suppress(OSError):  # a kernel before 5.3, or a sandbox without the call
            return os.pidfd_open(pid)
    return sentinel
