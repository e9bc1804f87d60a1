"""Keep copies of the published look-ups on this machine, as sorted files of compressed documents. See `index` for reading them.

A new version is written to a file of its own, which appears complete. Readers of the older file go on reading it.
"""

import logging
import time
from contextlib import ExitStack, closing, suppress
from itertools import chain
from pathlib import Path
from threading import Event, Lock, Thread

import duckdb
import pyarrow as pa
import pyarrow.ipc as ipc
import pyarrow.parquet as pq

from lakehouse.errors import LakehouseError
from lakehouse.pipeline.lake import Lake
from lakehouse.serving.lookups.blocks import compress, schema_of
from lakehouse.serving.lookups.declaration import Lookup
from lakehouse.serving.lookups.documents import DocumentRenderer
from lakehouse.serving.lookups.index import LookupIndex
from lakehouse.serving.lookups.paths import cached_copies, cached_copy
from lakehouse.serving.lookups.publish import declared_lookups
from lakehouse.serving.lookups.versions import LookupVersion, list_versions, published_names

log = logging.getLogger(__name__)

REFRESH_INTERVAL_SECONDS = 15.0
"""Time between listings of the published versions, which find those of other homes."""

MARKS_INTERVAL_SECONDS = 0.5
"""Time between polls of the marks that programs of this home leave when they publish a version."""

BATCH_ROWS = 8192
"""Rows that are rendered at a time. Readers keep the first id of each such batch in memory."""


class LookupCache:
    """The copies of all look-ups of the lake, as of the last `refresh`."""

    def __init__(self, lake: Lake, folder: Path) -> None:
        self._lake = lake
        self._objects = lake.objects
        self._folder = folder
        self._changes = lake.changes("lookups")
        self._checked: set[Path] = set()
        """Copies that were opened once, because a copy may be damaged after a crash of the machine."""
        self._refreshing = Lock()
        self._closing = Event()
        self._thread = Thread(target=self._poll, name="lookups", daemon=True)
        folder.mkdir(parents=True, exist_ok=True)

    def start(self) -> None:
        """Refresh in a thread whenever it is time."""
        self._thread.start()

    def close(self) -> None:
        """Stop refreshing."""
        self._closing.set()
        if self._thread.is_alive():
            self._thread.join()

    def _poll(self) -> None:
        due = float("-inf")
        while True:
            try:
                if self._changes.poll() or time.monotonic() >= due:
                    due = time.monotonic() + REFRESH_INTERVAL_SECONDS
                    self.refresh()
            except LakehouseError as error:
                log.warning("Look-ups keep their versions: %s", error)
            except Exception:  # if the thread ended, look-ups would never be refreshed again
                log.exception("Look-ups keep their versions")
            if self._closing.wait(MARKS_INTERVAL_SECONDS):
                return

    def refresh(self) -> None:
        """Fetch new versions. A look-up that can't be fetched keeps its version."""
        with self._refreshing:
            lookups = {name: name for name in self._lake.streams} | {**declared_lookups(self._lake).by_name}
            for name in published_names(self._objects):
                if name not in lookups:
                    continue  # its stream or file is gone
                try:
                    self._update(name, lookups[name])
                except (LakehouseError, pa.ArrowException, duckdb.Error, OSError) as error:
                    log.warning("Look-up %s keeps its version: %s", name, error)

    def _update(self, name: str, lookup: Lookup | str) -> None:
        versions = list_versions(self._objects, name)
        if not versions:
            return
        path = cached_copy(self._folder, name, versions[-1].stem)
        if not self._is_usable(path):
            self._fetch(lookup, versions[-1], path)
        for old in cached_copies(self._folder, name):
            if old != path:
                # Processes that have it open go on reading it. Where the system forbids that, the next refresh tries again.
                with suppress(OSError):
                    old.unlink()

    def _is_usable(self, path: Path) -> bool:
        if path not in self._checked:
            try:
                LookupIndex(path)
            except (OSError, pa.ArrowException):
                return False
            self._checked.add(path)
        return path.exists()

    def _fetch(self, lookup: Lookup | str, version: LookupVersion, path: Path) -> None:
        fetched, rendered = path.with_suffix(".parquet"), path.with_suffix(".new")
        try:
            with fetched.open("wb") as file:
                for piece in self._objects.stream(version.key):
                    file.write(piece)
            write_copy(lookup, fetched, rendered)
            rendered.replace(path)
        finally:
            fetched.unlink(missing_ok=True)
            rendered.unlink(missing_ok=True)


def write_copy(lookup: Lookup | str, rows: Path, path: Path) -> None:
    """Write the copy of a version's rows, a declared look-up's or those of the stream with this name."""
    with pq.ParquetFile(rows) as source, closing(DocumentRenderer(lookup)) as renderer, ExitStack() as files:
        target: ipc.RecordBatchFileWriter | None = None
        no_rows = pa.RecordBatch.from_pylist([], source.schema_arrow)  # so that a look-up without rows has a template
        for batch in chain(source.iter_batches(BATCH_ROWS), [no_rows]):
            documents = renderer.render(batch)
            schema = schema_of(documents.template)
            target = target or files.enter_context(ipc.new_file(str(path), schema))
            target.write_batch(compress(documents.ids, documents.lines, schema))
