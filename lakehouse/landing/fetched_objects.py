"""Keep whole objects that were fetched for a part of them, because the other streams of a run read the other parts."""

import os
from functools import lru_cache
from pathlib import Path
from tempfile import TemporaryFile
from threading import Lock
from weakref import finalize

from lakehouse.storage.objects.store import Objects

MAX_FILE_BYTES = 512 << 20
"""The size at which a file is full. The one before it is then deleted, so the disk holds two at most."""


class FetchedObjects:
    """Objects that never change, in files that no other process sees. Safe to use from several threads."""

    def __init__(self, folder: Path, max_file_bytes: int = MAX_FILE_BYTES) -> None:
        self._folder, self._max_file_bytes = folder, max_file_bytes
        self._lock = Lock()
        self._newest, self._older = _File(folder), _File(folder)

    def read_range(self, objects: Objects, key: str, start: int, length: int) -> bytes:
        """Read a part of an object as `Objects.read_range` does; the first read of an object fetches all of it."""
        for file in (self._newest, self._older):
            if (part := file.read(key, start, length)) is not None:
                return part
        content = objects.get(key)
        self._keep(key, content)
        return content[start : start + length]

    def _keep(self, key: str, content: bytes) -> None:
        with self._lock:
            if self._newest.size + len(content) > self._max_file_bytes:
                self._newest, self._older = _File(self._folder), self._newest
            self._newest.append(key, content)


class _File:
    """A file without a name, which the system deletes when nothing holds it any more."""

    def __init__(self, folder: Path) -> None:
        self.size = 0
        self._file = TemporaryFile(dir=folder, buffering=0)  # noqa: SIM115
        finalize(self, self._file.close)
        self._starts: dict[str, int] = {}

    def append(self, key: str, content: bytes) -> None:
        try:
            if os.pwrite(self._file.fileno(), content, self.size) < len(content):
                return
        except OSError:
            return  # the disk is full; the object is fetched again
        self._starts[key] = self.size
        self.size += len(content)

    def read(self, key: str, start: int, length: int) -> bytes | None:
        at = self._starts.get(key)
        return None if at is None else os.pread(self._file.fileno(), length, at + start)


@lru_cache(maxsize=4)
def fetched_objects(_endpoint: str | None, _bucket: str, folder: Path, _process_id: int) -> FetchedObjects:
    """Share what a process has fetched from a bucket."""
    return FetchedObjects(folder)
