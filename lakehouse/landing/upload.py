"""Upload whole files to `incoming/`, each content once. Their rows are not read here."""

import hashlib
import os
import re
from collections.abc import Iterator, Mapping
from io import BufferedReader
from pathlib import Path
from typing import Any
from urllib.parse import quote

from lakehouse.contracts.dialect import encode_options
from lakehouse.errors import SourceChangedError, StorageUnavailableError, UnreadableSourceError
from lakehouse.landing.formats import known_suffixes
from lakehouse.landing.keys import READ_AS, LandingObject
from lakehouse.landing.partition_folders import partition_folders
from lakehouse.storage.durability import acknowledge
from lakehouse.storage.objects.store import Objects

READ_CHUNK_BYTES = 4 << 20

_DIGEST_KEY = re.compile(r"incoming/(?:[^/]*/)+([0-9a-f]{64})(?:\.[a-z0-9]+)*")
"""The keys that `incoming_key` builds."""


def upload(
    objects: Objects, stream: str, path: Path, dialect: Mapping[str, Any] | None = None
) -> tuple[LandingObject, bool]:
    """Upload a file to `incoming/` unless the same content is there. Returns the object and whether it is new.

    The key is the SHA-256 of the content plus the known suffixes of the name, so a file is loaded once whatever it is
    called. Folders of the path that name columns, `Country=France/`, are part of the key, because the rows differ by
    them. So are the options of the file's own `dialect`, so that its readers know them, and another reading of the file is
    another object. The name itself is kept, percent-encoded, in the object's metadata.

    Raises UnreadableSourceError if the file can't be read, SourceChangedError if it changes during the upload (nothing
    is stored then), and what Objects raises.
    """
    try:
        with _open(path) as file:
            return _store(objects, stream, path, file, dialect)
    except OSError as error:
        raise UnreadableSourceError(f"Can't read {path}: {error.strerror or error}.") from error


def content_digest(path: Path) -> str:
    """Compute the SHA-256 of a file. Raises UnreadableSourceError if it can't be read."""
    try:
        with _open(path) as file:
            return _digest(file)
    except OSError as error:
        raise UnreadableSourceError(f"Can't read {path}: {error.strerror or error}.") from error


def incoming_key(stream: str, path: Path, digest: str, dialect: Mapping[str, Any] | None = None) -> str:
    """Build the key that a file with this content lands under."""
    return "/".join(["incoming", stream, *reading_folders(path, dialect), f"{digest}{known_suffixes(path.name)}"])


def changed_since_upload(objects: Objects, key: str) -> bool:
    """Return whether an object surely holds another content than was uploaded under its key.

    False for objects whose keys do not name their content. Raises what Objects raises.
    """
    named = _DIGEST_KEY.fullmatch(key)
    if named is None:
        return False
    digest = hashlib.sha256()
    for chunk in objects.stream(key):
        digest.update(chunk)
    return digest.hexdigest() != named[1]


def reading_folders(path: Path, dialect: Mapping[str, Any] | None = None) -> list[str]:
    """List the folders of a key that decide how the file is read: by its options, and with the columns that folders name."""
    return [*([f"{READ_AS}{encode_options(dialect)}"] if dialect else []), *partition_folders(path)]


def _open(path: Path) -> BufferedReader:
    if not path.is_file():  # reading a pipe or a device would never end
        raise UnreadableSourceError(f"Can't read {path}: {_why_no_file(path)}.")
    return path.open("rb")


def _why_no_file(path: Path) -> str:
    if path.is_dir():
        return "it is a directory; name the files in it"
    return "it is no regular file; save what it gives as one" if path.exists() else "there is no such file"


def _store(
    objects: Objects, stream: str, path: Path, file: BufferedReader, dialect: Mapping[str, Any] | None
) -> tuple[LandingObject, bool]:
    version = _version(file)
    digest = _digest(file)
    if _version(file) != version:
        raise _changed(path)
    key = incoming_key(stream, path, digest, dialect)
    is_new = objects.head(key) is None and objects.put_stream(
        key,
        _verified_chunks(path, file, version, digest),
        if_absent=True,
        metadata={"name": quote(os.fsencode(path.name))},
    )
    stored = objects.head(key)
    if stored is None:
        raise StorageUnavailableError(f"{key} was deleted while {path} was loaded; load it again.")
    acknowledge(objects.connection, key).result()
    return LandingObject(key, stream, stored.modified, stored.size), is_new


def _verified_chunks(path: Path, file: BufferedReader, version: tuple[int, int], digest: str) -> Iterator[bytes]:
    """Read the content again and raise after its last byte, so before it is stored, if it is not the same."""
    file.seek(0)
    second_digest = hashlib.sha256()
    while chunk := file.read(READ_CHUNK_BYTES):
        second_digest.update(chunk)
        yield chunk
    if _version(file) != version or second_digest.hexdigest() != digest:
        raise _changed(path)


def _changed(path: Path) -> SourceChangedError:
    return SourceChangedError(f"{path} changed while it was loaded; load it again when its writer has finished.")


def _version(file: BufferedReader) -> tuple[int, int]:
    status = os.fstat(file.fileno())
    return status.st_size, status.st_mtime_ns


def _digest(file: BufferedReader) -> str:
    return hashlib.file_digest(file, "sha256").hexdigest()
