"""Read the cached copies of look-ups: sorted files, memory-mapped, so that all processes share their memory.

A look-up is a binary search, and its answer a slice of the file. See `cache` for how the copies are made.
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

from lakehouse.serving.lookups.paths import SUFFIX

log = logging.getLogger(__name__)

SCHEMA = pa.schema([pa.field("id", pa.large_string()), pa.field("json", pa.large_string())])
"""The columns of a copy: ids in order, and the JSON document of each."""

POLL_INTERVAL_SECONDS = 0.5
"""Time between looks for newer copies."""


class LookupIndex:
    """One version of a look-up: a JSON document by id."""

    def __init__(self, path: Path) -> None:
        """Open a copy. Raises OSError or ArrowException when it is missing or damaged."""
        self.path = path
        file = ipc.open_file(pa.memory_map(str(path)))
        batches = [file.get_batch(number) for number in range(file.num_record_batches)]
        self._parts = [
            (_TextColumn(batch.column(0)), _TextColumn(batch.column(1))) for batch in batches if batch.num_rows
        ]
        self._first_ids = [ids[0] for ids, _ in self._parts]

    def __len__(self) -> int:
        return sum(len(ids) for ids, _ in self._parts)

    def get(self, key: str) -> bytes | None:
        """Return the JSON document of an id; None when there is none."""
        id_ = key.encode("utf-8", "surrogatepass")
        part = bisect_right(self._first_ids, id_) - 1
        if part < 0:
            return None
        ids, documents = self._parts[part]
        row = bisect_left(ids, id_)
        return documents[row] if row < len(ids) and ids[row] == id_ else None

    def ids(self) -> Iterator[str]:
        """Yield every id in order."""
        for ids, _ in self._parts:
            yield from (ids[row].decode() for row in range(len(ids)))


class _TextColumn:
    """A column of texts, read from its buffers, because Arrow's own access creates an object for each text and takes many
    times as long.
    """

    def __init__(self, column: Any) -> None:
        _, offsets, texts = column.buffers()
        self._offsets = memoryview(offsets).cast("q")
        self._texts = memoryview(texts or b"")
        self._first, self._count = column.offset, len(column)

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, row: int) -> bytes:
        place = self._first + row
        return bytes(self._texts[self._offsets[place] : self._offsets[place + 1]])


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
