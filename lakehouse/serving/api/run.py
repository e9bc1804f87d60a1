"""The serving process of one home, in the process that runs it. What it answers is the application's affair."""

import asyncio
import os
import signal
import socket
import sys

import uvloop
from granian.constants import HTTPModes, Interfaces
from granian.server.embed import Server

from lakehouse.errors import LakehouseError
from lakehouse.http.auth import needs_keys
from lakehouse.serving.api.app import create_app
from lakehouse.serving.api.server import SERVICE, running
from lakehouse.serving.api.sse import Live
from lakehouse.settings import Settings
from lakehouse.storage.embedded import lifecycle as storage

HOST = "127.0.0.1"
SWITCH_SECONDS = 0.0005
"""After which threads that read what has landed let requests go on, a tenth of Python's own: an answer takes no longer."""

CONNECTIONS = 1024
"""At once; live feeds keep theirs open."""


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
    SERVICE.register(settings, f"http://{HOST}:{port}", needs_keys=needs_keys(settings))
    sys.setswitchinterval(SWITCH_SECONDS)
    try:
        uvloop.run(_serve(settings, port))
    finally:
        SERVICE.unregister(settings)


async def _serve(settings: Settings, port: int) -> None:
    live = Live()
    serving = Server(
        create_app(settings, (HOST, port), live),
        address=HOST,
        port=port,
        interface=Interfaces.ASGI,
        http=HTTPModes.http1,
        backlog=CONNECTIONS,
        backpressure=CONNECTIONS,
        websockets=False,
        log_access=False,
    )

    def stop() -> None:
        live.end()
        serving.stop()  # type: ignore[no-untyped-call]

    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop)
    await serving.serve()
