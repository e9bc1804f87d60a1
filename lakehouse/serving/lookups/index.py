"""Read the cached copies of look-ups: sorted files, memory-mapped, so that all processes share their memory.

A look-up is a binary search for a block, which has the answer. See `cache` for how the copies are made.
"""

import logging
import os
import time
from bisect import bisect_right
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.ipc as ipc

from lakehouse.serving.lookups.blocks import Block, template_of
from lakehouse.serving.lookups.paths import SUFFIX

log = logging.getLogger(__name__)

POLL_INTERVAL_SECONDS = 0.5
"""Time between looks for newer copies."""


class LookupIndex:
    """One version of a look-up: a JSON document by id."""

    def __init__(self, path: Path) -> None:
        """Open a copy. Raises OSError or ArrowException when it is missing or damaged."""
        self.path = path
        file = ipc.open_file(pa.memory_map(str(path)))
        self._template = template_of(file.schema)
        batches = (file.get_batch(number) for number in range(file.num_record_batches))
        self._parts = [_Part(batch) for batch in batches if batch.num_rows]
        self._first_ids = [part.first_ids[0] for part in self._parts]

    def __len__(self) -> int:
        return sum(1 for _ in self.ids())

    def get(self, key: str) -> bytes | None:
        """Return the JSON document of an id; None when there is none."""
        id_ = key.encode("utf-8", "surrogatepass")
        number = bisect_right(self._first_ids, id_) - 1
        if number < 0:
            return None
        part = self._parts[number]
        return self._block(part, bisect_right(part.first_ids, id_) - 1).get(key)

    def ids(self) -> Iterator[str]:
        """Yield every id in order."""
        for block in self.blocks():
            yield from block.ids

    def blocks(self) -> Iterator[Block]:
        """Yield every block in order."""
        for part in self._parts:
            yield from (self._block(part, row) for row in range(len(part.first_ids)))

    def _block(self, part: "_Part", row: int) -> Block:
        return Block(part.blocks[row], part.sizes[row], self._template)


class _Part:
    """The blocks of a record batch."""

    def __init__(self, batch: pa.RecordBatch) -> None:
        self.first_ids = BytesColumn(batch.column(0))
        sizes: Any = batch.column(1)
        self.sizes = memoryview(sizes.buffers()[1]).cast("q")[sizes.offset :]
        self.blocks = BytesColumn(batch.column(2))


class BytesColumn:
    """A column of bytes, read from its buffers, because Arrow's own access creates an object for each and takes many times
    as long.
    """

    def __init__(self, column: Any) -> None:
        _, offsets, values = column.buffers()
        self._offsets = memoryview(offsets).cast("q")
        self._values = memoryview(values or b"")
        self._first, self._count = column.offset, len(column)

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, row: int) -> bytes:
        place = self._first + row
        return bytes(self._values[self._offsets[place] : self._offsets[place + 1]])


class LookupIndexes:
    """The newest copy of each look-up in a folder, which is listed when a look-up is used and it is time."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._indexes: dict[str, LookupIndex] = {}
        self._next_poll = float("-inf")

    def get(self, name: str) -> LookupIndex | None:
        """Return the look-up, at most POLL_INTERVAL_SECONDS old; None when there is no copy of it."""
        if time.monotonic() >= self._next_poll:
            self._poll()
            self._next_poll = time.monotonic() + POLL_INTERVAL_SECONDS
        return self._indexes.get(name)

    def _poll(self) -> None:
        newest: dict[str, str] = {}
        with suppress(FileNotFoundError), os.scandir(self._folder) as entries:
            for entry in entries:
                if entry.name.endswith(SUFFIX):
                    name = entry.name.partition("-")[0]
                    newest[name] = max(newest.get(name, ""), entry.name)
        indexes = {name: self._open(name, file) for name, file in newest.items()}
        self._indexes = {name: index for name, index in indexes.items() if index is not None}

    def _open(self, name: str, file: str) -> LookupIndex | None:
        current = self._indexes.get(name)
        if current is not None and current.path.name == file:
            return current
        try:
            return LookupIndex(self._folder / file)
        except (OSError, pa.ArrowException) as error:
            log.warning("Look-up %s keeps its version: %s", name, error)
            return current
