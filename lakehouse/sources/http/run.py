"""Run the HTTP server of a home in this process. See `server` for the running server, `app` for what it answers."""

import gc
import multiprocessing
import os
import sys
from contextlib import nullcontext, suppress
from importlib import import_module
from pathlib import Path
from tempfile import gettempdir

from filelock import BaseFileLock, FileLock, Timeout
from granian.constants import HTTPModes, Interfaces, Loops
from granian.http import HTTP1Settings, HTTP2Settings
from granian.server import MPServer

from lakehouse.errors import LakehouseError
from lakehouse.http.auth import needs_keys
from lakehouse.http.metrics_files import share_counters
from lakehouse.processes.ports import is_free, url_host
from lakehouse.processes.service import STOP_SECONDS, settings_environment
from lakehouse.settings import Settings
from lakehouse.sources.http.joint_writer import open_meeting_point
from lakehouse.sources.http.server import SERVICE
from lakehouse.storage.embedded import lifecycle as storage

START_METHOD = "fork" if sys.platform == "linux" else "spawn"
"""How workers start. A fork saves the second and the 100 MB that importing every module takes.

On macOS the system's own libraries do not survive a fork.
"""

PORTS_TRIED = 50

MAX_CONNECTIONS = 16_384
"""Connections that a worker keeps open. What they send is limited separately, by `body.BufferLimit`."""

HEADER_SECONDS = 10
"""How long a client may take to send a request's headers. See `idle_connections` for silence between requests."""

HTTP2_SETTINGS = HTTP2Settings(max_concurrent_streams=100, max_headers_size=64 << 10)
"""By default a client may send 16 MiB of headers for each of 200 requests at once."""

RESPAWN_SECONDS = 0.2

_port_locks: list[BaseFileLock] = []
"""Holds the lock of the port that this process serves until the process ends."""


def run_server(settings: Settings, application: str) -> None:
    """Serve `application` until SIGTERM or SIGINT, then store what is held and return. Storage must run.

    `application` names the factory of each worker's application, as `module:function`. This takes the process over,
    with its signals and environment. Raises LakehouseError if a server runs for this home or no port is free, and
    StorageUnavailableError if storage is not running.
    """
    storage.connection(settings)
    if (service := SERVICE.running(settings)) and service.pid != os.getpid():
        raise LakehouseError(f"A server is already running at {service.url}. Stop it with: lakehouse down")
    port = _free_port(settings)
    os.environ |= settings_environment(settings)
    share_counters(settings.root / "http" / "metrics")
    _preload(application)
    scheme = "https" if settings.http_tls_certificate else "http"
    SERVICE.register(settings, f"{scheme}://{url_host(settings.http_host)}:{port}", needs_keys=needs_keys(settings))
    multiprocessing.set_start_method(START_METHOD, force=True)
    is_shared = START_METHOD == "fork" and settings.http_workers > 1
    try:
        with open_meeting_point(settings.root / "http") if is_shared else nullcontext():
            _granian(settings, application, port).serve()
    finally:
        SERVICE.unregister(settings)


def _preload(application: str) -> None:
    """Import the application's modules once, for all forked workers.

    Modules only: a fork would lack an open connection or a running thread. The threads that modules start on import do
    no harm: numpy and Arrow start theirs anew, and DuckDB's belongs to its default connection, which is not used.
    """
    import_module(application.partition(":")[0])
    gc.freeze()  # the collector's marks would make every worker copy the pages that they share


def _granian(settings: Settings, application: str, port: int) -> MPServer:
    return MPServer(
        application,
        factory=True,
        address=settings.http_host,
        port=port,
        interface=Interfaces.ASGI,
        workers=settings.http_workers,
        loop=Loops.uvloop if sys.platform != "win32" else Loops.auto,
        http=HTTPModes.auto,
        http1_settings=HTTP1Settings(header_read_timeout=HEADER_SECONDS * 1000),
        http2_settings=HTTP2_SETTINGS,
        # By default a worker with 512 connections, even silent ones, accepts no more, and new clients wait.
        backpressure=MAX_CONNECTIONS,
        websockets=False,
        respawn_failed_workers=True,
        respawn_interval=RESPAWN_SECONDS,
        workers_kill_timeout=int(STOP_SECONDS),
        ssl_cert=settings.http_tls_certificate,
        ssl_key=settings.http_tls_key,
        log_access=False,
    )


def _free_port(settings: Settings) -> int:
    """Find a free port and lock it for as long as this process lives.

    Workers bind it seconds later, all of them at once (SO_REUSEPORT). Without the lock, a second server that starts
    meanwhile would get the same port, and each would receive events of the other.
    """
    for port in range(settings.http_port, min(settings.http_port + PORTS_TRIED, 65536)):
        if is_free(port, settings.http_host):
            lock = FileLock(Path(gettempdir()) / f"lakehouse-port-{port}.lock")
            with suppress(Timeout):
                lock.acquire(timeout=0)
                _port_locks.append(lock)
                return port
    raise LakehouseError(
        f"No port from {settings.http_port} to {settings.http_port + PORTS_TRIED - 1} is free on {settings.http_host}."
        " Set LAKEHOUSE_HTTP_PORT."
    )
