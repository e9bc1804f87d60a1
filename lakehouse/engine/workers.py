"""Run functions over plain data: on threads of this process, or on the machines of a cluster.

A layer cuts its work into items, and commits the files that come back. It does not know where they were made.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Protocol, TypeVar

from lakehouse.engine.connection import DuckDB

T = TypeVar("T")
R = TypeVar("R")


class Workers(Protocol):
    """Runs functions over items, some of them at the same time."""

    def spread(self, function: Callable[[DuckDB, T], R], items: Iterable[T]) -> Iterator[R]:
        """Return what the function makes of each item, in their order.

        The function gets a database of the machine it runs on. It must be one of a module, and it may run twice for an
        item. If it fails, its error is raised here.
        """
        ...

    def split(self, parts: Sequence[T], size: Callable[[T], int] | None = None) -> list[Sequence[T]]:
        """Cut parts that can be computed apart into items, at most so large in all if `size` tells their bytes."""
        ...

    def pieces(self, wanted: int) -> int:
        """Return into how many pieces to cut what is too large for memory, if `wanted` of them would not be."""
        ...


class LocalWorkers:
    """Three threads of this process: DuckDB uses all cores for most of an item, while another one is uploaded."""

    def __init__(self, engine: DuckDB) -> None:
        self._engine = engine

    def spread(self, function: Callable[[DuckDB, T], R], items: Iterable[T]) -> Iterator[R]:
        """Return what the function makes of each item, in their order."""
        with ThreadPoolExecutor(min(2, self._engine.threads) + 1, thread_name_prefix="workers") as pool:
            yield from pool.map(partial(function, self._engine), items)

    def split(self, parts: Sequence[T], size: Callable[[T], int] | None = None) -> list[Sequence[T]]:
        """Keep all parts in one item, which costs least."""
        return [parts] if parts else []

    def pieces(self, wanted: int) -> int:
        """Leave it whole, because DuckDB spills to disk for less than a shuffle costs."""
        return 1
