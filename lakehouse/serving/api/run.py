"""Run the serving process of a home in the current process. See `app` for what it serves, `server` for starting it."""

import asyncio
import os
import signal
import sys

import uvloop
from granian.constants import HTTPModes, Interfaces
from granian.server.embed import Server

from lakehouse.errors import LakehouseError
from lakehouse.http.auth import needs_keys
from lakehouse.processes.ports import LOOPBACK, free_port
from lakehouse.serving.api.app import create_app
from lakehouse.serving.api.server import SERVICE, running
from lakehouse.serving.api.sse import EventStreams
from lakehouse.settings import Settings
from lakehouse.storage.embedded import lifecycle as storage

SWITCH_INTERVAL_SECONDS = 0.0005
"""A tenth of Python's default, so that threads reading landed objects yield to requests: a response takes no longer."""

MAX_CONNECTIONS = 1024
"""Event streams keep theirs open."""


def run_server(settings: Settings) -> None:
    """Serve on a free loopback port until SIGTERM or SIGINT.

    Takes over the signals of this process; use `server.start` for a process of its own. Raises LakehouseError if a serving
    process already runs for this home, and StorageUnavailableError if storage is not running.
    """
    storage.connection(settings)
    if (other := running(settings)) and other.pid != os.getpid():
        raise LakehouseError(f"A serving process already runs at {other.url}. Stop it with: lakehouse down")
    port = free_port()
    SERVICE.register(settings, f"http://{LOOPBACK}:{port}", needs_keys=needs_keys(settings))
    sys.setswitchinterval(SWITCH_INTERVAL_SECONDS)
    try:
        uvloop.run(_serve(settings, port))
    finally:
        SERVICE.unregister(settings)


async def _serve(settings: Settings, port: int) -> None:
    event_streams = EventStreams()
    server = Server(
        create_app(settings, (LOOPBACK, port), event_streams),
        address=LOOPBACK,
        port=port,
        interface=Interfaces.ASGI,
        http=HTTPModes.http1,
        backlog=MAX_CONNECTIONS,
        backpressure=MAX_CONNECTIONS,
        websockets=False,
        log_access=False,
    )

    def stop() -> None:
        event_streams.end()
        server.stop()  # type: ignore[no-untyped-call]

    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop)
    await server.serve()
