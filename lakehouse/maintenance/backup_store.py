"""The format of backups: files in chunks that are named by their content, and a list of files for each moment.

    chunks/3f/3f9a…                    the bytes of a chunk, by its SHA-256
    moments/2026-11-28T120000Z.json    which chunks make up which file at that moment

Moments share chunks, so a backup writes only what is new. A moment is written last: an interrupted backup leaves none.
"""

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Self, TypeVar

import msgspec
import obstore
from obstore.exceptions import BaseError
from obstore.store import LocalStore, ObjectStore, from_url

from lakehouse.errors import LakehouseError

T = TypeVar("T")

FORMAT = 1
CHUNK_BYTES = 8 << 20
FOLDERS = ("chunks", "moments")
FOLDER_MODE = 0o700
"""As of a home: a backup holds its API keys and all rows. Folders that are there keep the mode that you gave them."""

MOMENT_FORMAT = "%Y-%m-%dT%H%M%SZ"


class BackedUpFile(msgspec.Struct, frozen=True):
    """A file of the home."""

    name: str
    """Its path below the home, with `/`."""
    size: int
    chunks: list[str]
    """SHA-256 of each CHUNK_BYTES of it."""


class Moment(msgspec.Struct, frozen=True):
    """A whole backup: what the home held at one time."""

    format: int
    lakehouse: str
    """The version of this package."""
    bucket: str
    lake: str
    """Which lake it is; the same for all its backups."""
    taken_at: datetime
    files: list[BackedUpFile]

    @property
    def name(self) -> str:
        """The name by which `restore --at` finds it."""
        return self.taken_at.astimezone(UTC).strftime(MOMENT_FORMAT)

    @property
    def size(self) -> int:
        """Bytes of all its files."""
        return sum(file.size for file in self.files)


@dataclass(frozen=True, slots=True)
class BackupStore:
    """A folder, or a prefix of a bucket, that holds the backups of one lake.

    Every method raises LakehouseError if the place can't be read or written.
    """

    place: str
    store: ObjectStore

    @classmethod
    def open(cls, place: str, *, create: bool = False) -> Self:
        """Open a folder, or a URL such as `s3://bucket/prefix` with the credentials of the AWS variables."""
        try:
            if "://" in place:
                return cls(place, from_url(place))
            if create:
                for name in FOLDERS:
                    (Path(place) / name).mkdir(mode=FOLDER_MODE, parents=True, exist_ok=True)
            return cls(place, LocalStore(Path(place).absolute()))
        except (BaseError, OSError, ValueError) as error:
            raise LakehouseError(f"The backup {place} can't be opened: {error}") from None

    def moments(self) -> list[str]:
        """List the names of the moments, oldest first."""
        pages = self._try("listed", lambda: [*obstore.list(self.store, "moments/")])
        paths = [str(meta["path"]) for page in pages for meta in page]
        return sorted(path.split("/")[-1].removesuffix(".json") for path in paths if path.endswith(".json"))

    def moment(self, name: str) -> Moment:
        """Read a moment. Raises LakehouseError if a newer version of this package wrote it, or if it is damaged."""
        text = self._get(f"moments/{name}.json")
        try:
            format_number = msgspec.json.decode(text)["format"]
            if format_number > FORMAT:
                raise LakehouseError(
                    f"The backup {name} has format {format_number}; this version reads up to {FORMAT}. Upgrade lakehouse."
                )
            return msgspec.json.decode(text, type=Moment)
        except (msgspec.MsgspecError, KeyError, TypeError) as error:
            raise LakehouseError(f"The backup {name} in {self.place} is damaged: {error}") from None

    def write_moment(self, moment: Moment) -> None:
        """Write the moment, after which the backup is whole."""
        text = msgspec.json.encode(moment)
        self._try("written", lambda: obstore.put(self.store, f"moments/{moment.name}.json", text, use_multipart=False))

    def chunk_names(self) -> set[str]:
        """List the chunks that are there."""
        pages = self._try("listed", lambda: [*obstore.list(self.store, "chunks/")])
        return {str(meta["path"]).split("/")[-1] for page in pages for meta in page}

    def write_chunk(self, name: str, data: bytes) -> None:
        """Write a chunk."""
        self._try("written", lambda: obstore.put(self.store, _chunk_path(name), data, use_multipart=False))

    def read_chunks(self, file: BackedUpFile) -> Iterator[bytes]:
        """Read a file's chunks in turn. Raises LakehouseError if one is missing or is not what was written."""
        for name in file.chunks:
            data = self._get(_chunk_path(name))
            if chunk_name(data) != name:
                raise LakehouseError(f"{_chunk_path(name)} in {self.place} is damaged: {file.name} can't be restored.")
            yield data

    def delete(self, paths: list[str]) -> None:
        """Delete moments and chunks by their paths."""
        if paths:
            self._try("written", lambda: obstore.delete(self.store, paths))

    def _get(self, path: str) -> bytes:
        return self._try("read", lambda: obstore.get(self.store, path).bytes().to_bytes())

    def _try(self, verb: str, request: Callable[[], T]) -> T:
        try:
            return request()
        except (BaseError, OSError) as error:
            raise LakehouseError(f"The backup {self.place} can't be {verb}: {error}") from None


def chunk_name(data: bytes) -> str:
    """Return the name of a chunk with this content."""
    return hashlib.sha256(data).hexdigest()


def _chunk_path(name: str) -> str:
    return f"chunks/{name[:2]}/{name}"
