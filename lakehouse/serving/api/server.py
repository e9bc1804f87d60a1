"""The life of the serving process of one home: run, start, find, stop. What it answers is the application's affair."""

import multiprocessing
import os
import socket
import sys

from granian.constants import HTTPModes, Interfaces, Loops
from granian.server import MPServer

from lakehouse.errors import LakehouseError
from lakehouse.ingest.http.app import needs_keys
from lakehouse.ingest.http.process import STOP_SECONDS, Running, Service, environment
from lakehouse.settings import Settings
from lakehouse.storage import server as storage

SERVICE = Service("serving", "lakehouse.serving.api", "The serving process")
HOST = "127.0.0.1"


def run_server(settings: Settings) -> None:
    """Serve on a free loopback port until SIGTERM or SIGINT. Storage must run.

    Takes this process over, signals and environment; `start` gives it one of its own. Raises LakehouseError when one
    runs for this home, StorageUnavailableError when storage does not run.
    """
    storage.connection(settings)
    if (found := running(settings)) and found.pid != os.getpid():
        raise LakehouseError(f"A serving process runs already at {found.url}; stop it with `lakehouse down`.")
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port = int(probe.getsockname()[1])
    os.environ |= environment(settings)
    SERVICE.announce(settings, f"http://{HOST}:{port}", needs_keys=needs_keys(settings))
    # Not forked: threads of the libraries loaded here would be missing in the child.
    multiprocessing.set_start_method("spawn", force=True)
    try:
        _granian(port).serve()
    finally:
        SERVICE.forget(settings)


def _granian(port: int) -> MPServer:
    return MPServer(
        "lakehouse.serving.api.app:create_app",
        factory=True,
        address=HOST,
        port=port,
        interface=Interfaces.ASGI,
        workers=1,
        loop=Loops.uvloop if sys.platform != "win32" else Loops.auto,
        http=HTTPModes.http1,
        websockets=False,
        respawn_failed_workers=True,
        respawn_interval=0.2,
        workers_kill_timeout=int(STOP_SECONDS),
        log_access=False,
    )


def start(settings: Settings) -> Running:
    """Start one in a process of its own unless one runs, and wait until it answers. Raises LakehouseError."""
    return SERVICE.start(settings)


def stop(settings: Settings) -> bool:
    """Stop it. True when one ran."""
    return SERVICE.stop(settings)


def running(settings: Settings) -> Running | None:
    """The serving process of this home; None when there is none."""
    return SERVICE.running(settings)
