"""What every benchmark needs: a lake of its own, a clock, and the memory of this process. Figures are made elsewhere."""

import gc
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Event, Thread
from typing import Any, Self, TypeAlias, TypeVar

import psutil

from lakehouse.pipeline.lake import Lake
from lakehouse.settings import Settings
from lakehouse.storage.embedded import lifecycle as server

T = TypeVar("T")

Figure: TypeAlias = dict[str, Any]
"""One line of output: bench, figure, value, unit; reach, where there is one to reach, and what else tells of it."""

SAMPLE_SECONDS = 0.02


def figure(bench: str, name: str, value: float, unit: str, reach: float | None = None, **more: Any) -> Figure:
    """A figure, rounded to what can be repeated."""
    target = {} if reach is None else {"reach": reach}
    return {"bench": bench, "figure": name, "value": round(value, 3), "unit": unit, **target, **more}


@contextmanager
def own_lake(folder: Path | None = None, **settings: Any) -> Iterator[Lake]:
    """An empty lake with its own server, in `folder` or in one that is removed afterwards."""
    with tempfile.TemporaryDirectory(prefix="lakehouse-bench-", ignore_cleanup_errors=True) as own:
        mine = Settings(home=folder or Path(own), storage="embedded", **settings)
        with server.running(mine) as connection:
            lake = Lake(mine, connection)
            lake.bootstrap()
            try:
                yield lake
            finally:
                lake.engine.close()


@dataclass(frozen=True, slots=True)
class Spent:
    """What some work took: seconds on the clock, and seconds of all cores in this process alone."""

    seconds: float
    cpu: float

    def __add__(self, other: "Spent") -> "Spent":
        return Spent(self.seconds + other.seconds, self.cpu + other.cpu)


def timed(work: Callable[[], T]) -> tuple[T, Spent]:
    """Do the work; what it gave and what it took."""
    gc.collect()
    clock, cpu = time.perf_counter(), time.process_time()
    given = work()
    return given, Spent(time.perf_counter() - clock, time.process_time() - cpu)


class PeakMemory:
    """The most resident memory that this process had while the block ran, in MiB, sampled fifty times a second."""

    def __init__(self) -> None:
        self.mib = 0.0
        self._ended = Event()
        self._thread = Thread(target=self._watch, name="peak-memory", daemon=True)

    def _watch(self) -> None:
        process = psutil.Process()
        while True:
            self.mib = max(self.mib, process.memory_info().rss / (1 << 20))
            if self._ended.wait(SAMPLE_SECONDS):
                return

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()
