"""The HTTP server of one home, in the process that runs it. What it answers is the application's affair."""

import gc
import multiprocessing
import os
import socket
import sys
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from tempfile import gettempdir

from filelock import BaseFileLock, FileLock, Timeout
from granian.constants import HTTPModes, Interfaces, Loops
from granian.http import HTTP1Settings
from granian.server import MPServer

from lakehouse.errors import LakehouseError
from lakehouse.http.auth import needs_keys
from lakehouse.processes.service import STOP_SECONDS, settings_environment
from lakehouse.settings import Settings
from lakehouse.sources.http.server import SERVICE, running
from lakehouse.storage.embedded import lifecycle as storage

APPLICATION = "lakehouse.serving.api.gateway:create_app"
"""What each process answers, by name, for it is put together above this layer: `app`, and what belongs beside it."""

START_METHOD = "fork" if sys.platform == "linux" else "spawn"
"""Of the processes that answer. A fork begins with every module loaded, which takes a second and 100 MB else; elsewhere the
system's own libraries do not survive one.
"""

PORTS_TRIED = 50
CONNECTIONS = 16_384
"""That a worker keeps open at once; what they send is bounded apart."""

HEADER_SECONDS = 10
"""In which a client has to send a request's headers."""

_locked: list[BaseFileLock] = []
"""The lock of the port that this process serves; it goes with the process."""


def run_server(settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT, then store what is held and return. Storage must run.

    Takes this process over, signals and environment; `start` gives it one of its own. Raises LakehouseError when a
    server runs for this home or no port is free, StorageUnavailableError when storage does not run.
    """
    storage.connection(settings)
    if (found := running(settings)) and found.pid != os.getpid():
        raise LakehouseError(f"A server runs already at {found.url}; stop it with `lakehouse down`.")
    port = _free_port(settings)
    os.environ |= settings_environment(settings)
    _load(settings.root / "http" / "metrics")
    scheme = "https" if settings.http_tls_certificate else "http"
    SERVICE.register(settings, f"{scheme}://{_in_url(settings.http_host)}:{port}", needs_keys=needs_keys(settings))
    multiprocessing.set_start_method(START_METHOD, force=True)
    try:
        _granian(settings, port).serve()
    finally:
        SERVICE.unregister(settings)


def _load(counts: Path) -> None:
    """Load what the processes need, for all of them; `counts` is the folder of what they count.

    Here is nothing but modules: no connection is opened and no thread started, which a fork would lack. What modules start
    by themselves does no harm: numpy and Arrow make theirs anew, and DuckDB's is its default connection's, which is not used.
    """
    counts.mkdir(parents=True, exist_ok=True)
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(counts)  # looked for once, when Prometheus' client is loaded
    import_module("lakehouse.http.metrics").clear(counts)
    import_module(APPLICATION.partition(":")[0])
    gc.freeze()  # the collector's marks would make every process copy what they share


def _granian(settings: Settings, port: int) -> MPServer:
    return MPServer(
        APPLICATION,
        factory=True,
        address=settings.http_host,
        port=port,
        interface=Interfaces.ASGI,
        workers=settings.http_workers,
        loop=Loops.uvloop if sys.platform != "win32" else Loops.auto,
        http=HTTPModes.auto,
        http1_settings=HTTP1Settings(header_read_timeout=HEADER_SECONDS * 1000),
        # By default a worker with 512 connections takes no more, be they silent, and whoever comes to it waits for them.
        backpressure=CONNECTIONS,
        websockets=False,
        respawn_failed_workers=True,
        respawn_interval=0.2,
        workers_kill_timeout=int(STOP_SECONDS),
        ssl_cert=settings.http_tls_certificate,
        ssl_key=settings.http_tls_key,
        log_access=False,
    )


def _free_port(settings: Settings) -> int:
    """A port that nobody has, kept for this process as long as it lives.

    Workers bind it seconds later, and all of them at once (SO_REUSEPORT): a second server that looks meanwhile would get
    it too, and each would take the other's events. So the port is locked as well.
    """
    for port in range(settings.http_port, min(settings.http_port + PORTS_TRIED, 65536)):
        family = socket.AF_INET6 if ":" in settings.http_host else socket.AF_INET
        with socket.socket(family) as probe, suppress(OSError):
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((settings.http_host, port))
            lock = FileLock(Path(gettempdir()) / f"lakehouse-port-{port}.lock")
            with suppress(Timeout):
                lock.acquire(timeout=0)
                _locked.append(lock)
                return port
    raise LakehouseError(
        f"No port from {settings.http_port} on is free on {settings.http_host}; set LAKEHOUSE_HTTP_PORT."
    )


def _in_url(host: str) -> str:
    """Where a program on this machine reaches a server that listens there."""
    local = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}  # noqa: S104 (nothing is bound here)
    return local.get(host, f"[{host}]" if ":" in host else host)
