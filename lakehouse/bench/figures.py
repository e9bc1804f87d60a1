"""The parts that every benchmark uses: a figure, a lake of its own, a clock, and peak memory."""

import gc
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Event, Thread
from typing import Any, Self, TypeAlias, TypeVar

import psutil

from lakehouse.pipeline.lake import Lake
from lakehouse.settings import Settings
from lakehouse.storage.embedded import lifecycle as storage

T = TypeVar("T")

Figure: TypeAlias = dict[str, Any]
"""One line of output: bench, figure, value, unit, the target (`reach`) if there is one, and further numbers."""

SAMPLE_SECONDS = 0.02


def figure(bench: str, name: str, value: float, unit: str, reach: float | None = None, **more: Any) -> Figure:
    """Return a figure, with its value rounded to three decimals."""
    target = {} if reach is None else {"reach": reach}
    return {"bench": bench, "figure": name, "value": round(value, 3), "unit": unit, **target, **more}


@contextmanager
def own_lake(
    folder: Path | None = None, *, streams: Sequence[str] = (), stream_folders: Sequence[Path] = (), **settings: Any
) -> Iterator[Lake]:
    """Yield an empty lake with its own storage server, in `folder` or in a temporary one.

    `streams` are the streams to make tables for, by default all. `stream_folders` have further ones than those shipped.
    """
    with tempfile.TemporaryDirectory(prefix="lakehouse-bench-", ignore_cleanup_errors=True) as own:
        own_settings = Settings(home=folder or Path(own), storage="embedded", streams=tuple(stream_folders), **settings)
        with storage.running(own_settings) as connection:
            lake = Lake(own_settings, connection)
            lake.streams = {name: lake.stream(name) for name in streams or lake.streams}
            lake.bootstrap()
            try:
                yield lake
            finally:
                lake.engine.close()


@dataclass(frozen=True, slots=True)
class Spent:
    """The cost of some work: wall-clock seconds, and CPU seconds of this process over all cores."""

    seconds: float
    cpu: float

    def __add__(self, other: "Spent") -> "Spent":
        return Spent(self.seconds + other.seconds, self.cpu + other.cpu)


def timed(work: Callable[[], T]) -> tuple[T, Spent]:
    """Run the work; return its result and its cost."""
    gc.collect()
    clock, cpu = time.perf_counter(), time.process_time()
    result = work()
    return result, Spent(time.perf_counter() - clock, time.process_time() - cpu)


class PeakMemory:
    """Sample this process's resident memory during a block; `mib` is the peak in MiB."""

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
