"""What a table's manifests say of its data files, remembered: a manifest never changes. What follows from it is not known here."""

import io
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import date, timedelta
from functools import lru_cache
from typing import Any, NoReturn
from urllib.parse import urlparse

from pyiceberg.conversions import from_bytes
from pyiceberg.io import FileIO, InputFile, InputStream
from pyiceberg.manifest import DataFile, ManifestContent, ManifestFile
from pyiceberg.table import Table
from pyiceberg.types import DateType

from lakehouse.storage.iceberg.snapshots import EPOCH
from lakehouse.storage.objects.connection import Connection
from lakehouse.storage.objects.store import Objects

REMEMBERED = 256
"""Manifests; each says something of some hundred files."""


@dataclass(frozen=True, slots=True)
class Said:
    """What a manifest says of a data file."""

    partition: tuple[Any, ...]
    sequence: int
    """That of the newest rows in it."""
    days: tuple[date, date] | None
    """The first and the last `dt` of its rows; None when that is not said of all of them."""


@dataclass(frozen=True, slots=True)
class _Unread:
    path: str
    column: int
    """The id of `dt`."""
    manifest: ManifestFile = field(compare=False)
    files: FileIO = field(compare=False)


def said_of(table: Table) -> Iterator[Said]:
    """What the manifests say of each of the table's data files. Raises LakehouseError or OSError where one can't be read."""
    snapshot = table.current_snapshot()
    column = table.schema().find_field("dt").field_id
    for manifest in snapshot.manifests(table.io) if snapshot else []:
        if manifest.content == ManifestContent.DATA:
            yield from _read(_Unread(manifest.manifest_path, column, manifest, table.io))


def has_deletes(table: Table) -> bool:
    """Whether another program has deleted rows by their position or value: the data files then say too much."""
    snapshot = table.current_snapshot()
    return snapshot is not None and any(
        manifest.content == ManifestContent.DELETES for manifest in snapshot.manifests(table.io)
    )


@lru_cache(maxsize=REMEMBERED)
def _read(unread: _Unread) -> tuple[Said, ...]:
    entries = unread.manifest.fetch_manifest_entry(unread.files, discard_deleted=True)
    return tuple(
        Said(
            tuple(entry.data_file.partition[n] for n in range(len(entry.data_file.partition))),
            entry.sequence_number or 0,
            _days(entry.data_file, unread.column),
        )
        for entry in entries
    )


def _days(file: DataFile, column: int) -> tuple[date, date] | None:
    first, last = ((bounds or {}).get(column) for bounds in (file.lower_bounds, file.upper_bounds))
    if first is None or last is None or (file.null_value_counts or {}).get(column) != 0:
        return None
    return _day(first), _day(last)


def _day(bound: bytes) -> date:
    days: Any = from_bytes(DateType(), bound)  # a number of days, whatever its type says
    return EPOCH + timedelta(days=days)


class ManifestFiles(FileIO):
    """Manifests and their lists, for who reads nothing else of a table: pyiceberg's own way to files takes a second to import."""

    def __init__(self, connection: Connection) -> None:
        super().__init__()
        self._connection = connection
        self._buckets: dict[str, Objects] = {}

    def new_input(self, location: str) -> InputFile:
        """The file there; opening it raises what `Objects.get` raises."""
        url = urlparse(location)
        if url.netloc not in self._buckets:
            self._buckets[url.netloc] = Objects.from_connection(replace(self._connection, bucket=url.netloc))
        return _Whole(location, self._buckets[url.netloc], url.path.lstrip("/"))

    def new_output(self, location: str) -> NoReturn:
        """Not to be written to."""
        raise io.UnsupportedOperation(f"{location}: this table was opened for what its metadata says")

    def delete(self, location: object) -> NoReturn:
        """Not to be deleted."""
        raise io.UnsupportedOperation(f"{location}: this table was opened for what its metadata says")


class _Whole(InputFile):
    """A small file, read at once."""

    def __init__(self, location: str, objects: Objects, key: str) -> None:
        super().__init__(location)
        self._objects, self._key = objects, key

    def __len__(self) -> int:
        found = self._objects.head(self._key)
        return 0 if found is None else found.size

    def exists(self) -> bool:
        """Whether it is there."""
        return self._objects.head(self._key) is not None

    def open(self, seekable: bool = True) -> InputStream:
        """What it holds."""
        return io.BytesIO(self._objects.get(self._key))
