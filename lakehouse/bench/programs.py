"""The programs of `lakehouse up` for as long as a benchmark needs them. What they are is the supervisor's."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import psutil

from lakehouse.errors import LakehouseError
from lakehouse.runtime.instance import environment
from lakehouse.runtime.supervisor import Program, end
from lakehouse.settings import Settings

START_SECONDS = 300.0


@contextmanager
def running(
    settings: Settings, program: Program, answers: Callable[[], bool] | None = None
) -> Iterator[psutil.Process]:
    """A program from when it answers to the end of the block, with all it starts. Raises LakehouseError with its log."""
    log = settings.root / f"{program.name}.log"
    ready = answers or program.answers or (lambda: True)
    with log.open("ab") as out:
        process = subprocess.Popen(
            program.words,
            env={**os.environ, **environment(settings)},
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
        )
    try:
        deadline = time.monotonic() + START_SECONDS
        while not ready():
            if process.poll() is not None or time.monotonic() > deadline:
                print(log.read_text(errors="replace"), file=sys.stderr)
                raise LakehouseError(f"{program.name} did not start.")
            time.sleep(0.1)
        yield psutil.Process(process.pid)
    finally:
        end(process.pid)
        process.wait()
