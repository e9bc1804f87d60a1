"""A worker ends with the process that started it: one killed at once could not tell it to, and another takes its port."""

import asyncio
import multiprocessing
import os
import signal


def end_with_parent() -> None:
    """Have this process end in order, as when it is told to, when its parent is gone; nothing where it has none."""
    parent = multiprocessing.parent_process()
    if parent is None:
        return
    loop, gone = asyncio.get_running_loop(), parent.sentinel

    def end() -> None:
        loop.remove_reader(gone)
        os.kill(os.getpid(), signal.SIGTERM)

    loop.add_reader(gone, end)
