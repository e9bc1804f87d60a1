"""The long-running servers of a home: start one, find it by its state file, and stop it.

See `child` for what holds of every process.
"""

import json
import os
import ssl
import urllib.request
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock

from lakehouse.errors import LakehouseError
from lakehouse.processes.child import (
    creation_time,
    find_process,
    leave_running,
    python_command,
    spawn,
    stop_child,
    stop_tree,
    wait_until_ready,
)
from lakehouse.processes.home import private_home, read_state, write_state
from lakehouse.settings import Settings

START_SECONDS = 120.0
STOP_SECONDS = 30.0
KILL_DELAY_SECONDS = 5.0
"""How long a server may take beyond `STOP_SECONDS`, in which it kills its own workers, before it is killed itself."""

PROBE_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class RunningService:
    """A server that runs, as its state file describes it."""

    pid: int
    created: float
    """When its process was created, in seconds since 1970."""
    url: str
    needs_keys: bool


@dataclass(frozen=True, slots=True)
class Service:
    """One of a home's servers: the folder of its state, and its name in messages."""

    folder: str
    title: str
    started_path: str = "/health/ready"
    """The path that answers 200 once the server has started."""

    def state_path(self, settings: Settings) -> Path:
        """Return the file that describes the running server."""
        return settings.root / self.folder / "state.json"

    def log_path(self, settings: Settings) -> Path:
        """Return the file that has the server's output."""
        return settings.root / "logs" / f"{self.folder}.log"

    def register(self, settings: Settings, url: str, *, needs_keys: bool) -> None:
        """Write the state file: this process is the server, until `unregister`."""
        state = RunningService(os.getpid(), creation_time(os.getpid()), url, needs_keys)
        private_home(settings)
        path = self.state_path(settings)
        path.parent.mkdir(exist_ok=True)
        write_state(path, asdict(state))

    def unregister(self, settings: Settings) -> None:
        """Remove the state file."""
        self.state_path(settings).unlink(missing_ok=True)

    def running(self, settings: Settings) -> RunningService | None:
        """Return the running server of this home; None when its process has ended."""
        try:
            state = RunningService(**(read_state(self.state_path(settings)) or {}))
            return state if find_process(state.pid, state.created) else None
        except TypeError:
            return None

    def start(self, settings: Settings, module: str) -> RunningService:
        """Start the server unless it runs, by `python -m module`, and wait until it is ready.

        Raises LakehouseError if it ends or is not ready within two minutes.
        """
        private_home(settings)
        lock = self.state_path(settings).with_name("start.lock")
        lock.parent.mkdir(exist_ok=True)
        with FileLock(lock, timeout=START_SECONDS * 2):
            if state := self.running(settings):
                return state
            env = os.environ | settings_environment(settings)
            child = spawn(python_command(module), self.log_path(settings), env=env)
            ready = wait_until_ready(lambda: self.has_started(settings), lambda: child.poll() is None, START_SECONDS)
            if ready and (state := self.running(settings)):
                leave_running(child)
                return state
        stop_child(child, STOP_SECONDS)
        raise LakehouseError(f"{self.title} did not start. See {self.log_path(settings)}.")

    def has_started(self, settings: Settings) -> bool:
        """Return whether the server runs and answers."""
        state = self.running(settings)
        return state is not None and is_ready(state, self.started_path)

    def stop(self, settings: Settings) -> bool:
        """Stop the server once it has finished its requests. True when one ran."""
        state = self.running(settings)
        if state is None:
            return False
        if process := find_process(state.pid, state.created):
            stop_tree(process, STOP_SECONDS + KILL_DELAY_SECONDS)
        self.unregister(settings)
        return True


_UNVERIFIED = ssl.create_default_context()
_UNVERIFIED.check_hostname = False
_UNVERIFIED.verify_mode = ssl.CERT_NONE


def is_ready(service: RunningService, path: str = "/health/ready") -> bool:
    """Probe the server's readiness at a path.

    Its certificate is not verified, because it may be for another name. That the server is ours, its pid proves.
    """
    with (
        suppress(OSError),
        urllib.request.urlopen(  # noqa: S310 (our own URL)
            f"{service.url}{path}", timeout=PROBE_SECONDS, context=_UNVERIFIED
        ) as response,
    ):
        return bool(response.status == 200)
    return False


def get_json(service: RunningService, path: str, key: str) -> Any:
    """Return what the server answers at a path, by an API key; None if it does not answer as it should."""
    request = urllib.request.Request(f"{service.url}{path}", headers={"authorization": f"Bearer {key}"})  # noqa: S310
    with (
        suppress(OSError, ValueError),
        urllib.request.urlopen(request, timeout=PROBE_SECONDS, context=_UNVERIFIED) as response,  # noqa: S310
    ):
        return json.load(response)
    return None


def settings_environment(settings: Settings) -> dict[str, str]:
    """Return the environment variables from which a child process reads these settings."""
    plain = settings.model_dump(mode="json", exclude_unset=True, context={"secrets": True})
    variables = {}
    for name in plain:
        value = getattr(settings, name)
        secret = getattr(value, "get_secret_value", None)
        text = secret() if secret else plain[name]
        if text is not None:
            variables[f"LAKEHOUSE_{name.upper()}"] = text if isinstance(text, str) else json.dumps(text)
    return variables | {"LAKEHOUSE_HOME": str(settings.root)}
