"""Find free TCP ports of this machine. Another process can take one before you bind it."""

import socket
import sys

from lakehouse.errors import LakehouseError

LOOPBACK = "127.0.0.1"


def is_free(port: int, host: str = LOOPBACK) -> bool:
    """Return whether a server can listen on this port now."""
    return _bound_port(port, host) is not None


def free_port(preferred: int = 0, host: str = LOOPBACK) -> int:
    """Find a free port of an address: `preferred` if it is free. Raises LakehouseError if no port is."""
    if preferred and is_free(preferred, host):
        return preferred
    if port := _bound_port(0, host):
        return port
    raise LakehouseError("No port of this machine is free.")


def url_host(host: str) -> str:
    """Return the host by which a program on this machine reaches a server that listens on `host`."""
    loopback = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}  # noqa: S104 (nothing is bound here)
    return loopback.get(host, f"[{host}]" if ":" in host else host)


def _bound_port(port: int, host: str) -> int | None:
    """Bind a port for a moment and return it, for port 0 one that the kernel chooses; None if it is taken."""
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        if port and sys.platform != "win32":
            # Servers listen with this option too, so a port with closed connections in TIME_WAIT is free.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return None
        return int(probe.getsockname()[1])
