"""The TCP ports of an embedded server: choosing free ones, and the socket files that belong to them."""

import os
import random
import stat
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, fields
from pathlib import Path

from filelock import FileLock

from lakehouse.errors import StorageUnavailableError
from lakehouse.processes.ports import is_free

HOST = "127.0.0.1"
GRPC_OFFSET = 10_000
RANDOM_PORTS = range(10_000, 20_000)
"""With their gRPC ports, these stay below 32768, where Linux begins to assign ports to outgoing connections."""

MAX_ATTEMPTS = 200
RELEASE_SECONDS = 5.0
"""How long to wait for the ports of a dead server; after that another program must have them."""

POLL_SECONDS = 0.02

_WITHOUT_GRPC = frozenset({"catalog"})
_SOCKET_FOLDER = Path("/tmp")  # noqa: S108 - where SeaweedFS puts its gRPC sockets; it has no flag for it


@dataclass(frozen=True, slots=True)
class Ports:
    """The HTTP ports of one server. Each but the catalog's has a gRPC port 10,000 above it."""

    master: int = 9333
    volume: int = 9340
    filer: int = 8888
    s3: int = 8333
    catalog: int = 8181
    admin: int = 23646

    def as_dict(self) -> dict[str, int]:
        """Return the HTTP ports by name."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    def grpc(self) -> dict[str, int]:
        """Return the gRPC ports by name."""
        return {name: port + GRPC_OFFSET for name, port in self.as_dict().items() if name not in _WITHOUT_GRPC}

    def are_free(self) -> bool:
        """Return whether a server can listen on all of them now."""
        return all(is_free(port, HOST) for port in (*self.as_dict().values(), *self.grpc().values()))


@contextmanager
def port_lock() -> Iterator[None]:
    """Keep other homes from choosing ports. Hold it until a server listens on the chosen ones."""
    owner = os.getuid() if sys.platform != "win32" else "user"
    with FileLock(Path(tempfile.gettempdir()) / f"lakehouse-ports-{owner}.lock"):
        yield


def free_ports(preferred: Ports | None) -> Ports:
    """Return the preferred ports if all are free, else the default ones, else random ones.

    Raises StorageUnavailableError if none are free.
    """
    for ports in (preferred, Ports()):
        if ports is not None and ports.are_free():
            return ports
    return random_ports()


def random_ports() -> Ports:
    """Return random free ports. Raises StorageUnavailableError if none are found."""
    for _ in range(MAX_ATTEMPTS):
        ports = Ports(*random.sample(RANDOM_PORTS, len(fields(Ports))))
        if ports.are_free():
            return ports
    raise StorageUnavailableError(f"No ports are free on {HOST} between 10000 and 30000 for the storage server.")


def wait_until_free(ports: Ports) -> None:
    """Wait until the kernel has closed the sockets of a dead server, so that its clients find the next one there."""
    deadline = time.monotonic() + RELEASE_SECONDS
    while not ports.are_free() and time.monotonic() < deadline:
        time.sleep(POLL_SECONDS)


def remove_sockets(ports: Ports) -> None:
    """Remove the socket files that a killed server left in /tmp, unless another home's server has its ports now."""
    for name, port in ports.grpc().items():
        if not is_free(port, HOST):
            continue
        path = _SOCKET_FOLDER / f"seaweedfs-{name}-grpc-{port}.sock"
        with suppress(OSError):
            if stat.S_ISSOCK(path.lstat().st_mode):
                path.unlink()
