"""Look-ups as a serving process answers them: the published objects as memory-mapped, sorted Arrow files beside it.

A look-up is a binary search; nothing but the rows it touches is read. New versions are fetched, indexed in a file of
their own and swapped in at once; whoever reads the one before goes on reading it.
"""

import logging
import time
from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from threading import Event, Lock, Thread
from typing import Any

import pyarrow as pa
import pyarrow.ipc as ipc
import pyarrow.parquet as pq

from lakehouse.errors import LakehouseError
from lakehouse.layers.lookups import PREFIX, Published, published
from lakehouse.storage.changes import Changes
from lakehouse.storage.objects import Objects

log = logging.getLogger(__name__)

EVERY = 15.0
"""Seconds between looks at what has been published, by whomever."""

LOOK_SECONDS = 0.5
"""Between looks at whether a program of this home says that it has published something."""

BATCH = 8192
"""Rows of an Arrow batch; the first id of each stays in memory."""


class Index:
    """One look-up's version: rows by id, from a file that holds them in the order of their ids."""

    def __init__(self, path: Path, version: str) -> None:
        self.version = version
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


class LookUps:
    """All look-ups of the lake, by name, as of the last `refresh`."""

    def __init__(self, objects: Objects, folder: Path, changes: Changes) -> None:
        self._objects = objects
        self._folder = folder
        self._changes = changes
        self._indexes: dict[str, Index] = {}
        self._refreshing = Lock()
        self._ended = Event()
        self._thread = Thread(target=self._watch, name="lookups", daemon=True)
        folder.mkdir(parents=True, exist_ok=True)

    def get(self, name: str) -> Index | None:
        """The look-up of that name; None when nothing has been published yet."""
        return self._indexes.get(name)

    def start(self) -> None:
        """Refresh now and then, in a thread."""
        self._thread.start()

    def close(self) -> None:
        """Stop refreshing."""
        self._ended.set()
        if self._thread.is_alive():
            self._thread.join()

    def _watch(self) -> None:
        due = float("-inf")
        while True:
            if self._changes.look() or time.monotonic() >= due:
                try:
                    self.refresh()
                except LakehouseError as problem:
                    log.warning("Look-ups stay as they were: %s", problem)
                due = time.monotonic() + EVERY
            if self._ended.wait(LOOK_SECONDS):
                return

    def refresh(self) -> None:
        """Take what has been published since; a look-up that can't be fetched now stays as it is."""
        with self._refreshing:
            for folder in self._objects.folders(PREFIX):
                name = folder.rstrip("/").rpartition("/")[2]
                try:
                    self._take(name)
                except (LakehouseError, pa.ArrowException, OSError) as problem:
                    log.warning("The look-up %s stays as it was: %s", name, problem)

    def _take(self, name: str) -> None:
        versions = published(self._objects, name)
        held = self._indexes.get(name)
        if not versions or (held is not None and held.version == versions[-1].key):
            return
        newest = versions[-1]
        path = self._folder / f"{name}-{Path(newest.key).stem}.arrow"
        if not path.exists():
            self._fetch(newest, path)
        self._indexes[name] = Index(path, newest.key)
        for old in self._folder.glob(f"{name}-*.arrow"):
            if old != path:
                # Open files of it stay readable; where the system forbids it, the next refresh tries again.
                with suppress(OSError):
                    old.unlink()

    def _fetch(self, one: Published, path: Path) -> None:
        fetched, indexed = path.with_suffix(".parquet"), path.with_suffix(".new")
        try:
            with fetched.open("wb") as file:
                for piece in self._objects.stream(one.key):
                    file.write(piece)
            with pq.ParquetFile(fetched) as source, ipc.new_file(str(indexed), source.schema_arrow) as target:
                for batch in source.iter_batches(BATCH):
                    target.write_batch(batch)
            indexed.replace(path)
        finally:
            fetched.unlink(missing_ok=True)
            indexed.unlink(missing_ok=True)
