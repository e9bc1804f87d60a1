"""Look-ups as they are read: the copies on this machine, memory-mapped and sorted, so that any number of processes share
what is in memory of them.

A look-up is a binary search; nothing but the rows it touches is read. Who makes the copies is no affair of this module.
"""

import logging
import os
import time
from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.ipc as ipc

from lakehouse.layers.copies import SUFFIX

log = logging.getLogger(__name__)

LOOK_SECONDS = 0.5
"""Between looks at which copies there are."""


class Index:
    """One version of a look-up: rows by id, from a file that holds them in the order of their ids."""

    def __init__(self, path: Path) -> None:
        """Raises OSError and ArrowException where there is no such file, or no good one."""
        self.path = path
        self._file = ipc.open_file(pa.memory_map(str(path)))
        self._batches = [self._file.get_batch(number) for number in range(self._file.num_record_batches)]
        self._batches = [batch for batch in self._batches if batch.num_rows]
        self._columns = [batch.columns for batch in self._batches]  # asked for each time they take a third of a look-up
        self._names = self._file.schema.names
        self._first = [columns[0][0].as_py() for columns in self._columns]

    def __len__(self) -> int:
        return sum(batch.num_rows for batch in self._batches)

    def get(self, key: str) -> dict[str, Any] | None:
        """The row of that id; None when there is none."""
        position = bisect_right(self._first, key) - 1
        if position < 0:
            return None
        columns = self._columns[position]
        ids = columns[0]
        place = bisect_left(range(len(ids)), key, key=lambda number: ids[number].as_py())
        if place == len(ids) or ids[place].as_py() != key:
            return None
        # Value by value, which takes a quarter of the time that a slice of one row does.
        return {name: column[place].as_py() for name, column in zip(self._names, columns, strict=True)}

    def ids(self) -> Iterator[str]:
        """Every id, in order."""
        for batch in self._batches:
            yield from map(str, batch.column(0).to_pylist())


class Indexes:
    """The newest copy of each look-up in a folder, looked for when somebody asks and it is time."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._held: dict[str, Index] = {}
        self._due = float("-inf")

    def get(self, name: str) -> Index | None:
        """The look-up of that name as it was half a second ago or later; None when there is no copy of it."""
        if time.monotonic() >= self._due:
            self._look()
            self._due = time.monotonic() + LOOK_SECONDS
        return self._held.get(name)

    def _look(self) -> None:
        newest: dict[str, str] = {}
        with suppress(FileNotFoundError), os.scandir(self._folder) as entries:
            for entry in entries:
                if entry.name.endswith(SUFFIX):
                    name = entry.name.partition("-")[0]
                    newest[name] = max(newest.get(name, ""), entry.name)
        held = {name: self._open(name, file) for name, file in newest.items()}
        self._held = {name: index for name, index in held.items() if index is not None}

    def _open(self, name: str, file: str) -> Index | None:
        before = self._held.get(name)
        if before is not None and before.path.name == file:
            return before
        try:
            return Index(self._folder / file)
        except (OSError, pa.ArrowException) as problem:
            log.warning("The look-up %s stays as it was: %s", name, problem)
            return before
