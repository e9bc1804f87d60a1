"""Run programs of `lakehouse up` during a benchmark. See `runtime.supervisor` for their definitions."""

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

DEFINITIONS = "lakehouse.definitions"
"""The module that the code server and the run forker load."""


@contextmanager
def running(
    settings: Settings, program: Program, is_ready: Callable[[], bool] | None = None
) -> Iterator[psutil.Process]:
    """Start a program, wait until it is ready, and stop it with its children afterwards.

    Raises LakehouseError, and prints the program's log, if it does not start within five minutes.
    """
    log = settings.root / f"{program.name}.log"
    ready = is_ready or program.is_ready or (lambda: True)
    variables = environment(settings) | {"LAKEHOUSE_STORAGE": settings.storage}
    child = spawn(program.command, log, env=os.environ | variables)
    try:
        if not wait_until_ready(ready, lambda: child.poll() is None, START_SECONDS, poll_seconds=0.1):
            print(log.read_text(errors="replace"), file=sys.stderr)
            raise LakehouseError(f"{program.name} did not start. Its log is above.")
        yield psutil.Process(child.pid)
    finally:
        stop_child(child, STOP_SECONDS)
