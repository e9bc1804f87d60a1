"""The programs of `lakehouse up` for as long as a benchmark needs them. What they are is the supervisor's."""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import psutil

from lakehouse.errors import LakehouseError
from lakehouse.processes.child import spawn, stop_child, wait_until_ready
from lakehouse.runtime.instance import environment
from lakehouse.runtime.supervisor import STOP_SECONDS, Program
from lakehouse.settings import Settings

START_SECONDS = 300.0


@contextmanager
def running(
    settings: Settings, program: Program, answers: Callable[[], bool] | None = None
) -> Iterator[psutil.Process]:
    """A program from when it answers to the end of the block, with all it starts. Raises LakehouseError with its log."""
    log = settings.root / f"{program.name}.log"
    ready = answers or program.answers or (lambda: True)
    child = spawn(program.words, log, env=os.environ | environment(settings))
    try:
        if not wait_until_ready(ready, lambda: child.poll() is None, START_SECONDS, poll_seconds=0.1):
            print(log.read_text(errors="replace"), file=sys.stderr)
            raise LakehouseError(f"{program.name} did not start. Its log is above.")
        yield psutil.Process(child.pid)
    finally:
        stop_child(child, STOP_SECONDS)
