"""Find out whether a table's metadata can be read, before DuckDB is asked.

DuckDB ends its process where a manifest can't be read. Here that is an error of this table alone.
"""

import json
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from pyiceberg.io import FileIO
from pyiceberg.manifest import ManifestFile
from pyiceberg.serializers import Compressor
from pyiceberg.table import Table
from pyiceberg.table.metadata import TableMetadata
from pyiceberg.table.snapshots import Snapshot
from pyiceberg.utils.concurrent import ExecutorFactory

from lakehouse.errors import LakehouseError, UnreadableTableError
from lakehouse.storage.iceberg.avro import read_manifest, read_manifest_list
from lakehouse.storage.iceberg.catalog import qualified_name
from lakehouse.storage.objects.errors import first_line

READABLE_SECONDS = 600.0
"""How long a file counts as readable after it was read."""

UNREADABLE_SECONDS = 20.0
"""How long a file counts as unreadable, because the retries of each attempt take seconds."""

MAX_KNOWN_FILES = 8192

Look = Callable[[FileIO, ManifestFile], "UnreadableFile | None"]


@dataclass(frozen=True, slots=True)
class UnreadableFile:
    """A metadata file, manifest list or manifest that can't be read."""

    kind: str
    url: str
    reason: str
    manifest: ManifestFile | None = None
    """A manifest's entry in the manifest list."""

    def __str__(self) -> str:
        return f"its {self.kind} {self.url} {self.reason}"


class _KnownFiles:
    """Outcomes of reading files, which never change under their name: None, or why a file can't be read."""

    def __init__(self) -> None:
        self._outcomes: dict[str, tuple[float, UnreadableFile | None]] = {}
        self._lock = threading.Lock()

    def get(self, url: str, read: Callable[[], UnreadableFile | None]) -> UnreadableFile | None:
        """Return the outcome for a file, which `read` finds out unless it is known from a moment ago."""
        until, outcome = self._outcomes.get(url, (0.0, None))
        if time.monotonic() < until:
            return outcome
        outcome = read()
        with self._lock:
            if len(self._outcomes) >= MAX_KNOWN_FILES:
                self._outcomes.clear()
            seconds = READABLE_SECONDS if outcome is None else UNREADABLE_SECONDS
            self._outcomes[url] = time.monotonic() + seconds, outcome
        return outcome

    def clear(self) -> None:
        with self._lock:
            self._outcomes.clear()


_known = _KnownFiles()
forget_readable = _known.clear


def check_readable(table: Table, snapshot_id: int | None = None) -> None:
    """Raise UnreadableTableError, which names the file, if metadata of the current or given snapshot can't be read."""
    snapshot = table.current_snapshot() if snapshot_id is None else table.snapshot_by_id(snapshot_id)
    if snapshot is None:
        return
    file = _known.get(table.metadata_location, lambda: unreadable_metadata_file(table)) or _known.get(
        snapshot.manifest_list, lambda: next(unreadable_files(table, snapshot, _look_once), None)
    )
    if file is not None:
        raise UnreadableTableError(
            f"{qualified_name(table)} can't be read: {file}. All other tables can. "
            "Bring the file back, or run: lakehouse audit --repair"
        )


def unreadable_metadata(table: Table) -> Iterator[UnreadableFile]:
    """Yield the files of the table's current metadata that can't be read."""
    if file := unreadable_metadata_file(table):
        yield file
    if (snapshot := table.current_snapshot()) is not None:
        yield from unreadable_files(table, snapshot)


def unreadable_metadata_file(table: Table) -> UnreadableFile | None:
    """Return the table's metadata file if it can't be read, or says otherwise than the catalog, which may hold its content."""
    try:
        with table.io.new_input(table.metadata_location).open() as file:
            content = Compressor.get_compressor(table.metadata_location).stream_decompressor(file).read()
        reason = _contradiction(json.loads(content), table.metadata)
    except Exception as error:  # whatever a damaged file makes its parser raise
        reason = _reason(error)
    return UnreadableFile("metadata file", table.metadata_location, reason) if reason else None


def _contradiction(content: Any, metadata: TableMetadata) -> str | None:
    """Say that a metadata file has other snapshots or columns than the table. DuckDB would read those without a word."""
    manifest_lists = {one["snapshot-id"]: one.get("manifest-list") for one in content.get("snapshots", ())}
    schemas = {one["schema-id"]: one["fields"] for one in content["schemas"]}
    is_right = (
        content.get("table-uuid") == str(metadata.table_uuid)
        and (content.get("current-snapshot-id") or -1) == (metadata.current_snapshot_id or -1)
        and all(manifest_lists.get(one.snapshot_id) == one.manifest_list for one in metadata.snapshots)
        and _columns(schemas[content["current-schema-id"]]) == _columns(metadata.schema().model_dump()["fields"])
    )
    return None if is_right else "is damaged (it has other snapshots or columns than the catalog)"


def _columns(fields: Sequence[dict[str, Any]]) -> list[tuple[int, str, str | None]]:
    """Return the columns as they are compared: nested types are written in several ways, and blanks vary."""
    types = [one["type"].replace(" ", "") if isinstance(one["type"], str) else None for one in fields]
    return [(one["id"], one["name"], type_) for one, type_ in zip(fields, types, strict=True)]


def _look(files: FileIO, manifest: ManifestFile) -> UnreadableFile | None:
    try:
        read_manifest(files, manifest, deleted=True)
    except Exception as error:  # whatever a damaged file makes its parser raise
        return UnreadableFile("manifest", manifest.manifest_path, _reason(error), manifest)
    return None


def _look_once(files: FileIO, manifest: ManifestFile) -> UnreadableFile | None:
    return _known.get(manifest.manifest_path, lambda: _look(files, manifest))


def unreadable_files(table: Table, snapshot: Snapshot, look: Look = _look) -> Iterator[UnreadableFile]:
    """Yield the manifest list or the manifests of a snapshot that can't be read. Each is parsed."""
    try:
        manifests = read_manifest_list(table.io, snapshot)
    except Exception as error:  # whatever a damaged file makes its parser raise
        yield UnreadableFile("manifest list", snapshot.manifest_list, _reason(error))
        return
    outcomes = ExecutorFactory.get_or_create().map(partial(look, table.io), manifests)
    yield from (outcome for outcome in outcomes if outcome is not None)


def _reason(error: Exception) -> str:
    text = first_line(error)
    if isinstance(error, FileNotFoundError) or "There is no object" in text:
        return "is gone"
    if isinstance(error, OSError | LakehouseError):
        return f"can't be read ({text})"
    return f"is damaged ({type(error).__name__}: {text})"
