"""The data of a home's storage server as it is at one moment, while the server runs.

The server is paused while the files are linked, for some milliseconds. The result is what a kill at that moment would
leave, from which the server starts without losing anything that was acknowledged.
"""

import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import psutil

from lakehouse.errors import StorageUnavailableError
from lakehouse.settings import Settings
from lakehouse.storage.embedded import seaweedfs
from lakehouse.storage.embedded.lifecycle import locked
from lakehouse.storage.embedded.state import StorageHome

MAX_PAUSE_SECONDS = 5
"""After that the server goes on, also if this process was killed. A request waits longer than that for its answer."""

LINKED_SUFFIXES = (".dat", ".idx", ".ldb")
"""Files that the server only appends to, or never changes. Their first bytes stay what they are, so they need no copy."""


@dataclass(frozen=True, slots=True)
class FrozenFile:
    """A file as it was at the moment of the pause."""

    name: str
    """Its path below the data folder, with `/`."""
    path: Path
    """Where to read it."""
    size: int
    """How many bytes of `path` belong to it. The server may have appended more since."""


@contextmanager
def frozen_data(settings: Settings) -> Iterator[list[FrozenFile]]:
    """Yield the files of the server's data as of one moment. They last as long as the block.

    Raises StorageUnavailableError if linking them took longer than the server may be paused.
    """
    home = StorageHome.of(settings)
    home.folder.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix="backup-", dir=home.folder) as folder:
        with locked(home):
            state = home.state()
            server = seaweedfs.find_server(home.data, state.pid) if state and state.pid else None
            with _paused(server) if server else nullcontext():
                files = [*_link_files(home.data, Path(folder))]
        yield files


@contextmanager
def _paused(server: psutil.Process) -> Iterator[None]:
    """Pause a process. A child resumes it in time if this process does not."""
    started = time.monotonic()
    resume = f"sleep {MAX_PAUSE_SECONDS}; kill -CONT {server.pid}"
    guard = subprocess.Popen(["sh", "-c", resume], start_new_session=True)
    try:
        server.suspend()
        _wait_until_stopped(server)
        yield
    finally:
        with suppress(psutil.NoSuchProcess):
            server.resume()
        guard.kill()
        guard.wait()
    if time.monotonic() - started > MAX_PAUSE_SECONDS:
        raise StorageUnavailableError(
            f"Linking the storage server's files took longer than {MAX_PAUSE_SECONDS} s. Run it again when the disk is "
            "less busy, or after `lakehouse down`."
        )


def _wait_until_stopped(server: psutil.Process) -> None:
    """Wait until no thread of a suspended process runs: the signal only asks them to stop."""
    deadline = time.monotonic() + MAX_PAUSE_SECONDS
    while time.monotonic() < deadline:
        with suppress(psutil.NoSuchProcess):  # a thread ended while it was looked at
            threads = [psutil.Process(thread.id) for thread in server.threads()] if psutil.LINUX else [server]
            if all(thread.status() == psutil.STATUS_STOPPED for thread in threads):
                return
        time.sleep(0.001)


def _link_files(data: Path, folder: Path) -> Iterator[FrozenFile]:
    for parent, _, names in os.walk(data):
        for name in sorted(names):
            path = Path(parent, name)
            if path.is_symlink() or not path.is_file():  # the server's sockets
                continue
            frozen = folder / path.relative_to(data)
            frozen.parent.mkdir(parents=True, exist_ok=True)
            if path.suffix in LINKED_SUFFIXES:
                frozen.hardlink_to(path)
            else:
                shutil.copyfile(path, frozen)
            yield FrozenFile(path.relative_to(data).as_posix(), frozen, frozen.stat().st_size)
