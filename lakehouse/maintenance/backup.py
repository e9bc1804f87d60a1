"""Back up a home while it runs: the storage server's data at one moment, with Dagster's history and the API keys."""

import hashlib
import sqlite3
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory

from filelock import FileLock, Timeout

from lakehouse.errors import LakehouseError
from lakehouse.maintenance.backup_store import CHUNK_BYTES, FORMAT, BackedUpFile, BackupStore, Moment, chunk_name
from lakehouse.processes.home import VERSION_FILE, private_home
from lakehouse.settings import Settings
from lakehouse.storage.embedded.frozen import FrozenFile, frozen_data
from lakehouse.storage.embedded.state import StorageHome

KEPT_FILES = (
    VERSION_FILE,
    "storage/credentials.json",
    "storage/receipts/*.txt",
    "http/keys.json",
    "http/sent/*.json",
    "contracts/*/*.yaml",
    "audit_log/*.ndjson",
    "audit_log/*.json",
)
"""Files that a home needs besides its data. Logs, caches and the state of processes are left out."""

KEPT_DATABASES = ("dagster/history/*.db", "dagster/schedules/*.db")
"""Dagster's history and the cursors of its sensors, in SQLite."""


@dataclass(frozen=True, slots=True)
class BackupReport:
    """The size of a backup, and how much of it had to be written."""

    moment: str
    place: str
    files: int
    bytes: int
    new_bytes: int
    """Bytes of the chunks that no earlier backup had."""
    removed: int
    """The number of older backups that were deleted."""


def back_up(settings: Settings, place: str, *, keep: int | None = None) -> BackupReport:
    """Write a backup of the home to a folder or an S3 URL, and delete all but the newest `keep`.

    Ingest and runs go on meanwhile. Raises LakehouseError if the storage is external, if the place holds the backups of
    another lake, or if another backup of this home runs.
    """
    if settings.storage == "external":
        raise LakehouseError(
            "`backup` copies the embedded storage. Your lake is on an S3 server of its own: use its versioned buckets, "
            "or its backup service, for the bucket and the catalog together (docs/operations.md)."
        )
    home = private_home(settings)
    lake = _lake_id(settings)
    with _only_backup_of(home):
        store = BackupStore.open(place, create=True)
        names = store.moments()
        if names and (other := store.moment(names[-1])).lake != lake:
            raise LakehouseError(
                f"{place} holds backups of another lake, of bucket {other.bucket}. Name another place."
            )
        writer = _ChunkWriter(store)
        with ExitStack() as stack:
            # Dagster's history first, because it may then know less than the data, which is computed again, but not more.
            files = [writer.write(file) for file in stack.enter_context(_frozen_state(home))]
            data = stack.enter_context(frozen_data(settings))
            taken_at = datetime.now(UTC).replace(microsecond=0)
            files += [writer.write(file, folder="storage/data/") for file in data]
        moment = Moment(FORMAT, version("lakehouse"), settings.bucket, lake, taken_at, files)
        store.write_moment(moment)
        removed = _delete_older(store, keep) if keep else 0
    return BackupReport(moment.name, place, len(files), moment.size, writer.new_bytes, removed)


def _lake_id(settings: Settings) -> str:
    credentials = StorageHome.of(settings).credentials()
    if credentials is None:
        raise LakehouseError(f"There is no lake in {settings.root} to back up. Is LAKEHOUSE_HOME right?")
    return hashlib.sha256(credentials.access_key_id.encode()).hexdigest()[:16]


@contextmanager
def _only_backup_of(home: Path) -> Iterator[None]:
    try:
        with FileLock(home / "backup.lock", timeout=0):
            yield
    except Timeout:
        raise LakehouseError(f"Another backup of {home} is running.") from None


@contextmanager
def _frozen_state(home: Path) -> Iterator[list[FrozenFile]]:
    """Copy the files besides the data, each database as of one moment."""
    with TemporaryDirectory(prefix="backup-", dir=home) as folder:
        files: list[FrozenFile] = []
        for pattern in (*KEPT_FILES, *KEPT_DATABASES):
            for path in sorted(home.glob(pattern)):
                copy = Path(folder, str(len(files)))
                if pattern in KEPT_DATABASES:
                    with closing(sqlite3.connect(path, timeout=60)) as source, closing(sqlite3.connect(copy)) as target:
                        source.backup(target)
                else:
                    copy.write_bytes(path.read_bytes())
                files.append(FrozenFile(path.relative_to(home).as_posix(), copy, copy.stat().st_size))
        yield files


class _ChunkWriter:
    """Writes files as chunks, of which it writes those that are not there yet."""

    def __init__(self, store: BackupStore) -> None:
        self.new_bytes = 0
        self._store = store
        self._known = store.chunk_names()

    def write(self, file: FrozenFile, folder: str = "") -> BackedUpFile:
        """Write a file, whose name gets `folder` before it."""
        names = []
        with file.path.open("rb") as content:
            for start in range(0, file.size, CHUNK_BYTES):
                length = min(CHUNK_BYTES, file.size - start)
                data = content.read(length)
                if len(data) < length:
                    raise LakehouseError(f"{file.name} became shorter while it was backed up. Run it again.")
                names.append(self._write_chunk(data))
        return BackedUpFile(folder + file.name, file.size, names)

    def _write_chunk(self, data: bytes) -> str:
        name = chunk_name(data)
        if name not in self._known:
            self._store.write_chunk(name, data)
            self._known.add(name)
            self.new_bytes += len(data)
        return name


def _delete_older(store: BackupStore, keep: int) -> int:
    """Delete all moments but the newest `keep`, then the chunks that no moment has. Returns the number of moments."""
    names = store.moments()
    gone, kept = names[:-keep], names[-keep:]
    used = {chunk for name in kept for file in store.moment(name).files for chunk in file.chunks}
    store.delete([f"moments/{name}.json" for name in gone])
    store.delete([f"chunks/{name[:2]}/{name}" for name in store.chunk_names() - used])
    return len(gone)
