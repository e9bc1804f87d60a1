"""Files that somebody hands over whole, put under `incoming/` once by their content. Their rows are not read here."""

import hashlib
import os
from collections.abc import Iterator
from io import BufferedReader
from pathlib import Path
from urllib.parse import quote

from lakehouse.errors import SourceChangedError, StorageUnavailableError, UnreadableSourceError
from lakehouse.landing.keys import LandingObject
from lakehouse.storage.objects.store import Objects

FORMATS = (".csv", ".json", ".ndjson", ".jsonl", ".parquet", ".txt", ".tsv")
COMPRESSIONS = (".gz", ".zst")
READ = 4 << 20


def upload(objects: Objects, stream: str, path: Path) -> tuple[LandingObject, bool]:
    """Put a file under `incoming/` unless its content is there already; whether it is new is the second value.

    The key is made of the content's SHA-256 and the known suffixes of the name, so that a file is loaded once under
    whatever name; the name itself is kept, percent-encoded, in the object's metadata. Raises UnreadableSourceError,
    SourceChangedError when the file changes meanwhile (nothing is stored then), and what Objects raises.
    """
    try:
        with _open(path) as file:
            return _store(objects, stream, path, file)
    except OSError as problem:
        raise UnreadableSourceError(f"Can't read {path}: {problem.strerror or problem}.") from problem


def _open(path: Path) -> BufferedReader:
    if not path.is_file():  # a pipe or a device would never end
        what = "it is a directory; name the files in it" if path.is_dir() else "there is no such file"
        raise UnreadableSourceError(f"Can't read {path}: {what}.")
    return path.open("rb")


def _store(objects: Objects, stream: str, path: Path, file: BufferedReader) -> tuple[LandingObject, bool]:
    version = _version(file)
    digest = _digest(file)
    _refuse_change(path, file, version)
    key = f"incoming/{stream}/{digest}{suffixes(path.name)}"
    is_new = objects.head(key) is None and objects.put_stream(
        key,
        _unchanged(path, file, version, digest),
        if_absent=True,
        metadata={"name": quote(path.name)},
    )
    stored = objects.head(key)
    if stored is None:
        raise StorageUnavailableError(f"{key} was deleted while {path} was loaded; load it again.")
    return LandingObject(key, stream, stored.modified, stored.size), is_new


def suffixes(name: str) -> str:
    """The suffixes of a file's name that say how to read it, in lower case: `.csv.gz` of `2010-12-01.CSV.GZ`."""
    stem, last = os.path.splitext(name.lower())
    if last in COMPRESSIONS:
        inner = os.path.splitext(stem)[1]
        return (inner if inner in FORMATS else "") + last
    return last if last in FORMATS else ""


def _unchanged(path: Path, file: BufferedReader, version: tuple[int, int], digest: str) -> Iterator[bytes]:
    """The file's content again; raises after its last byte, and so before it is stored, when it is not the same."""
    file.seek(0)
    again = hashlib.sha256()
    while piece := file.read(READ):
        again.update(piece)
        yield piece
    _refuse_change(path, file, version)
    if again.hexdigest() != digest:
        raise SourceChangedError(f"{path} changed while it was loaded; load it again when its writer has finished.")


def _refuse_change(path: Path, file: BufferedReader, version: tuple[int, int]) -> None:
    if _version(file) != version:
        raise SourceChangedError(f"{path} changed while it was loaded; load it again when its writer has finished.")


def _version(file: BufferedReader) -> tuple[int, int]:
    status = os.fstat(file.fileno())
    return status.st_size, status.st_mtime_ns


def _digest(file: BufferedReader) -> str:
    return hashlib.file_digest(file, "sha256").hexdigest()
