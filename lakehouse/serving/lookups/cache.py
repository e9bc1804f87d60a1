"""Copies of the published look-ups on this machine, kept up to date: sorted files of what answers, which `indexes` reads.

New versions are fetched, put into a file of their own and there at once; whoever reads the one before goes on reading it.
"""

import logging
import time
from contextlib import closing, suppress
from pathlib import Path
from threading import Event, Lock, Thread

import duckdb
import pyarrow as pa
import pyarrow.ipc as ipc
import pyarrow.parquet as pq

from lakehouse.errors import LakehouseError
from lakehouse.serving.lookups.documents import Documents
from lakehouse.serving.lookups.index import SCHEMA, LookupIndex
from lakehouse.serving.lookups.paths import cached_copies, cached_copy
from lakehouse.serving.lookups.publish import PREFIX, LookupVersion, list_versions
from lakehouse.storage.iceberg.change_marks import ChangeMarks
from lakehouse.storage.objects.store import Objects

log = logging.getLogger(__name__)

EVERY = 15.0
"""Seconds between looks at what has been published, by whomever."""

POLL_INTERVAL_SECONDS = 0.5
"""Between looks at whether a program of this home says that it has published something."""

BATCH = 8192
"""Rows that are made JSON of at a time; readers keep the first id of each batch in memory."""


class LookupCache:
    """The copies of all look-ups of the lake, as of the last `refresh`."""

    def __init__(self, objects: Objects, folder: Path, changes: ChangeMarks) -> None:
        self._objects = objects
        self._folder = folder
        self._changes = changes
        self._good: set[Path] = set()
        """Copies that have been opened; one that a crash of the machine has left may be damaged."""
        self._refreshing = Lock()
        self._ended = Event()
        self._thread = Thread(target=self._watch, name="lookups", daemon=True)
        folder.mkdir(parents=True, exist_ok=True)

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
            try:
                if self._changes.poll() or time.monotonic() >= due:
                    due = time.monotonic() + EVERY
                    self.refresh()
            except LakehouseError as problem:
                log.warning("Look-ups stay as they were: %s", problem)
            except Exception:  # whatever it is: a thread that ends would leave them as they are for ever
                log.exception("Look-ups stay as they were")
            if self._ended.wait(POLL_INTERVAL_SECONDS):
                return

    def refresh(self) -> None:
        """Take what has been published since; a look-up that can't be fetched now stays as it is."""
        with self._refreshing:
            for folder in self._objects.folders(PREFIX):
                name = folder.rstrip("/").rpartition("/")[2]
                try:
                    self._take(name)
                except (LakehouseError, pa.ArrowException, duckdb.Error, OSError) as problem:
                    log.warning("The look-up %s stays as it was: %s", name, problem)

    def _take(self, name: str) -> None:
        versions = list_versions(self._objects, name)
        if not versions:
            return
        path = cached_copy(self._folder, name, versions[-1].stem)
        if not self._is_good(path):
            self._fetch(name, versions[-1], path)
        for old in cached_copies(self._folder, name):
            if old != path:
                # Open files of it stay readable; where the system forbids it, the next refresh tries again.
                with suppress(OSError):
                    old.unlink()

    def _is_good(self, path: Path) -> bool:
        if path not in self._good:
            try:
                LookupIndex(path)
            except (OSError, pa.ArrowException):
                return False
            self._good.add(path)
        return path.exists()

    def _fetch(self, name: str, one: LookupVersion, path: Path) -> None:
        fetched, indexed = path.with_suffix(".parquet"), path.with_suffix(".new")
        try:
            with fetched.open("wb") as file:
                for piece in self._objects.stream(one.key):
                    file.write(piece)
            with (
                pq.ParquetFile(fetched) as rows,
                closing(Documents(name)) as documents,
                ipc.new_file(str(indexed), SCHEMA) as target,
            ):
                for batch in rows.iter_batches(BATCH):
                    target.write_batch(documents.of(batch))
            indexed.replace(path)
        finally:
            fetched.unlink(missing_ok=True)
            indexed.unlink(missing_ok=True)
