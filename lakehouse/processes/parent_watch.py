"""A worker ends with the process that started it: one killed at once could not tell it to, and another takes its port."""

import asyncio
import multiprocessing
import os
import signal
import sys
from contextlib import suppress


def end_with_parent() -> None:
    """Have this process end in order, as when it is told to, when its parent is gone; nothing where it has none."""
    parent = multiprocessing.parent_process()
    if parent is None or parent.pid is None:
        return
    loop, gone = asyncio.get_running_loop(), _readable_when_gone(parent.pid, parent.sentinel)

    def end() -> None:
        loop.remove_reader(gone)
        os.kill(os.getpid(), signal.SIGTERM)

    loop.add_reader(gone, end)


def _readable_when_gone(pid: int, pipe: int) -> int:
    """A file that can be read when that process has ended, for which the pipe does where nobody else holds its other end:
    those forked later do, and each would wait for the next.
    """
    if sys.platform == "linux":
        with suppress(OSError):  # a kernel before 5.3, or a sandbox that knows no such call
            return os.pidfd_open(pid)
    return pipe
