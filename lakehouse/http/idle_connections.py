"""Close connections that are silent, and those of a client that has too many.

Granian 2.8 closes a connection whose headers break off, but none that is idle before or between requests: hyper has no
such limit, https://github.com/hyperium/hyper/pull/3828. This module goes when it has. It uses Linux's TCP_INFO, and does
nothing elsewhere.
"""

import asyncio
import os
import socket
import struct
import sys
from collections import defaultdict
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass

CHECK_SECONDS = 5.0
IDLE_SECONDS = 60.0
"""In addition to the time that a response may take to begin. An event stream sends a comment more often."""

MAX_PER_CLIENT = 2048
"""Connections of one address that a process keeps. Those that were silent longest are closed first."""

_LAST_DATA = struct.Struct("@44xI4xI")
"""`tcpi_last_data_sent` and `tcpi_last_data_recv` in `struct tcp_info` of linux/tcp.h, in milliseconds."""


@dataclass(frozen=True, slots=True)
class _Connection:
    socket: socket.socket
    """A duplicate, so that its number can't be reused for another file meanwhile."""
    client: str
    silent_seconds: float


async def close_idle_connections(seconds: float, max_per_client: int = MAX_PER_CLIENT) -> None:
    """Close the connections of this process's servers on which no data has come or gone for `seconds`, until cancelled."""
    while sys.platform == "linux":
        await asyncio.sleep(min(CHECK_SECONDS, seconds / 2))
        await asyncio.to_thread(_close, seconds, max_per_client)


def _close(seconds: float, max_per_client: int) -> None:
    by_client: defaultdict[str, list[_Connection]] = defaultdict(list)
    for connection in _server_connections():
        by_client[connection.client].append(connection)
    for connections in by_client.values():
        connections.sort(key=lambda connection: connection.silent_seconds)
        for number, connection in enumerate(connections):
            if connection.silent_seconds > seconds or number >= max_per_client:
                with suppress(OSError):  # the client was faster
                    connection.socket.shutdown(socket.SHUT_RDWR)
            connection.socket.close()


def _server_connections() -> Iterator[_Connection]:
    """Yield the established connections at ports on which this process listens."""
    sockets = [*_sockets()]
    ports = {sock.getsockname()[1] for sock in sockets if sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)}
    for sock in sockets:
        try:
            if sock.getsockname()[1] not in ports:
                raise OSError
            client = sock.getpeername()[0]  # raises OSError for a socket that listens
            sent, received = _LAST_DATA.unpack_from(sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 256))
        except OSError:
            sock.close()
        else:
            yield _Connection(sock, client, min(sent, received) / 1000)


def _sockets() -> Iterator[socket.socket]:
    """Yield a duplicate of each TCP socket of this process."""
    for name in os.listdir("/proc/self/fd"):
        with suppress(OSError):  # it was closed meanwhile, or is no socket
            duplicate = os.dup(int(name))
            try:
                sock = socket.socket(fileno=duplicate)
            except OSError:
                os.close(duplicate)
                continue
            if sock.family in (socket.AF_INET, socket.AF_INET6) and sock.type == socket.SOCK_STREAM:
                yield sock
            else:
                sock.close()
