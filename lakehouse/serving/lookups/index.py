"""Look-ups as they are read: the copies on this machine, memory-mapped and sorted, so that any number of processes share
what is in memory of them.

A look-up is a binary search, and its answer a piece of the file. Who makes the copies is no affair of this module.
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
"""Of a copy: ids, and what answers to who asks for them."""

POLL_INTERVAL_SECONDS = 0.5
"""Between looks at which copies there are."""


class LookupIndex:
    """One version of a look-up: an answer by id, from a file that holds them in the order of their ids."""

    def __init__(self, path: Path) -> None:
        """Raises OSError and ArrowException where there is no such file, or no good one."""
        self.path = path
        file = ipc.open_file(pa.memory_map(str(path)))
        batches = [file.get_batch(number) for number in range(file.num_record_batches)]
        self._parts = [(_Texts(batch.column(0)), _Texts(batch.column(1))) for batch in batches if batch.num_rows]
        self._first = [ids[0] for ids, _ in self._parts]

    def __len__(self) -> int:
        return sum(len(ids) for ids, _ in self._parts)

    def get(self, key: str) -> bytes | None:
        """The answer to who asks for that id, as JSON; None when there is none."""
        id_ = key.encode("utf-8", "surrogatepass")
        part = bisect_right(self._first, id_) - 1
        if part < 0:
            return None
        ids, answers = self._parts[part]
        place = bisect_left(ids, id_)
        return answers[place] if place < len(ids) and ids[place] == id_ else None

    def ids(self) -> Iterator[str]:
        """Every id, in order."""
        for ids, _ in self._parts:
            yield from (ids[number].decode() for number in range(len(ids)))


class _Texts:
    """A column of texts, read off its buffers: Arrow would make objects of each, which takes many times as long."""

    def __init__(self, column: Any) -> None:
        _, places, texts = column.buffers()
        self._places = memoryview(places).cast("q")
        self._texts = memoryview(texts or b"")
        self._first, self._count = column.offset, len(column)

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, number: int) -> bytes:
        place = self._first + number
        return bytes(self._texts[self._places[place] : self._places[place + 1]])


class LookupIndexes:
    """The newest copy of each look-up in a folder, looked for when somebody asks and it is time."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._held: dict[str, LookupIndex] = {}
        self._due = float("-inf")

    def get(self, name: str) -> LookupIndex | None:
        """The look-up of that name as it was half a second ago or later; None when there is no copy of it."""
        if time.monotonic() >= self._due:
            self._look()
            self._due = time.monotonic() + POLL_INTERVAL_SECONDS
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

    def _open(self, name: str, file: str) -> LookupIndex | None:
        before = self._held.get(name)
        if before is not None and before.path.name == file:
            return before
        try:
            return LookupIndex(self._folder / file)
        except (OSError, pa.ArrowException) as problem:
            log.warning("The look-up %s stays as it was: %s", name, problem)
            return before
