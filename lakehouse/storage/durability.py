"""Bring what the embedded server has written to disk, because it never syncs its files itself, and record receipts.

A receipt is the key of a landing object whose events were acknowledged. The audit compares receipts with what is stored.
"""

import os
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from pathlib import Path
from typing import Self

from lakehouse.errors import StorageUnavailableError
from lakehouse.storage.objects.connection import Connection

RECEIPT_DAYS = 8
"""Days for which receipts are kept. By then bronze holds their objects, and the audit compares bronze."""

WRITTEN_BACK_SECONDS = 300.0
"""Age of a change that the kernel has written to disk on its own. Linux does so after half a minute."""

_SYNC_ORDER = {".dat": 0, ".idx": 1}
"""Volumes come before their indexes, and both before the filer's logs, so that what is on disk names only what is there."""


def sync(connection: Connection) -> None:
    """Return when everything that was written before survives a power cut.

    Does nothing for external storage, whose answers already say so, nor if the connection is not to be synced.
    Raises StorageUnavailableError if the disk fails.
    """
    if connection.data_directory is not None and connection.sync:
        _disk(connection.data_directory, os.getpid()).submit().result()


def acknowledge(connection: Connection, *keys: str) -> "Future[None]":
    """Sync as `sync` does, then record receipts of landing objects. Acknowledge their events when the future is done.

    The future raises what `sync` raises.
    """
    if connection.data_directory is None:
        done: Future[None] = Future()
        done.set_result(None)
        return done
    return _disk(connection.data_directory, os.getpid()).submit(*keys, sync=connection.sync)


@dataclass(frozen=True, slots=True)
class Receipts:
    """The receipts that there were at one moment, of all streams."""

    files: Mapping[Path, int]
    """The file of each day, and how many of its bytes belong to that moment."""

    @classmethod
    def of(cls, connection: Connection) -> Self:
        """Return the receipts of now; none for external storage, which keeps what it has answered for."""
        if connection.data_directory is None:
            return cls({})
        return cls(
            {path: path.stat().st_size for path in sorted(_receipts_folder(connection.data_directory).glob("*.txt"))}
        )

    def keys(self, stream: str) -> Iterator[tuple[str, date]]:
        """Yield the key of each acknowledged landing object of a stream, and the day (UTC) of its receipt."""
        folders = tuple(f"{folder}/{stream}/".encode() for folder in ("realtime", "incoming"))
        for path, size in self.files.items():
            day = date.fromisoformat(path.stem)
            with path.open("rb") as file:
                while file.tell() < size and (line := file.readline()):
                    if line.startswith(folders) and line.endswith(b"\n"):  # a power cut may tear the last line
                        yield line[:-1].decode(), day


class _Disk:
    """Syncs one server's files for all threads of a process.

    Callers that wait share a pass over the files. It begins after each of them has called.
    """

    def __init__(self, data: Path) -> None:
        self._data = data
        self._since = time.time() - WRITTEN_BACK_SECONDS
        self._synced: dict[str, tuple[int, int]] = {}
        """Inode and size of each file when it was synced. The server only ever appends."""
        self._receipts = _ReceiptWriter(_receipts_folder(data))
        self._lock = threading.Lock()
        self._waiting: list[tuple[Sequence[str], bool, Future[None]]] = []
        self._is_busy = False
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="disk-sync")

    def submit(self, *receipts: str, sync: bool = True) -> "Future[None]":
        future: Future[None] = Future()
        with self._lock:
            self._waiting.append((receipts, sync, future))
            if not self._is_busy:
                self._is_busy = True
                self._thread.submit(self._work)
        return future

    def _work(self) -> None:
        while batch := self._next_batch():
            is_synced = any(sync for _, sync, _ in batch)
            keys = [receipt for receipts, _, _ in batch for receipt in receipts]
            try:
                if is_synced:
                    self._sync_files()
                if keys:
                    self._receipts.write(keys, sync=is_synced)
            except OSError as error:
                reason = StorageUnavailableError(f"Can't bring {self._data} to disk: {error}. Send or run it again.")
                for _, _, future in batch:
                    future.set_exception(reason)
            else:
                for _, _, future in batch:
                    future.set_result(None)

    def _next_batch(self) -> list[tuple[Sequence[str], bool, "Future[None]"]]:
        with self._lock:
            batch, self._waiting = self._waiting, []
            self._is_busy = bool(batch)
        return batch

    def _sync_files(self) -> None:
        """Sync the files that have changed, and the folders of new ones."""
        folders = set()
        for path, status in self._changed_files():
            with suppress(FileNotFoundError):  # replaced by another file, which the server has synced
                sync_file(path)
                if path not in self._synced:
                    folders.add(os.path.dirname(path))
                self._synced[path] = status
        for folder in folders:
            sync_folder(folder)

    def _changed_files(self) -> Iterator[tuple[str, tuple[int, int]]]:
        volumes = [entry for entry in os.scandir(self._data) if entry.is_file(follow_symlinks=False)]
        logs = [
            entry
            for partition in sorted((self._data / "filerldb2").glob("*"))
            for entry in os.scandir(partition)
            if entry.name.endswith(".log")
        ]
        # The clock may have stepped back since, and a file that was written after that looks older than this process.
        since = min(self._since, time.time() - WRITTEN_BACK_SECONDS)
        volumes.sort(key=lambda entry: _SYNC_ORDER.get(os.path.splitext(entry.name)[1], 2))
        for entry in [*volumes, *logs]:
            with suppress(FileNotFoundError):
                status = os.stat(entry.path)
                version = status.st_ino, status.st_size
                if status.st_mtime >= since and self._synced.get(entry.path) != version:
                    yield entry.path, version


class _ReceiptWriter:
    """Appends keys to a file a day, and removes files of days long past."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._day: date | None = None
        self._file = -1

    def write(self, keys: list[str], *, sync: bool) -> None:
        today = datetime.now(UTC).date()
        if today != self._day:
            self._open(today)
        os.write(self._file, "".join(f"{key}\n" for key in keys).encode())  # whole, also beside other processes
        if sync:
            _sync(self._file)

    def _open(self, today: date) -> None:
        if self._file >= 0:
            os.close(self._file)
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for path in self._folder.glob("*.txt"):
            if date.fromisoformat(path.stem) < today - timedelta(days=RECEIPT_DAYS):
                path.unlink(missing_ok=True)
        self._file = os.open(self._folder / f"{today}.txt", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        self._day = today
        sync_folder(self._folder)


@lru_cache(maxsize=8)
def _disk(data: Path, _pid: int) -> _Disk:
    """Share one thread within a process. A forked process makes its own."""
    return _Disk(data)


def _receipts_folder(data: Path) -> Path:
    return data.parent / "receipts"


def sync_file(path: str | Path) -> None:
    """Bring a file's content to disk."""
    descriptor = os.open(path, os.O_RDWR)
    try:
        _sync(descriptor)
    finally:
        os.close(descriptor)


def sync_folder(path: str | Path) -> None:
    """Bring the names in a folder to disk. Does nothing on Windows, which has no such call."""
    if sys.platform == "win32":
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _sync(descriptor: int) -> None:
    if sys.platform == "darwin":  # whose fsync leaves the data in the drive's own cache
        import fcntl

        fcntl.fcntl(descriptor, fcntl.F_FULLFSYNC)
    else:
        getattr(os, "fdatasync", os.fsync)(descriptor)
