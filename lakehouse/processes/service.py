"""The life of a server's process, whichever it is: its state file, starting it, finding it, stopping it."""

import json
import os
import ssl
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil
from filelock import FileLock

from lakehouse.errors import LakehouseError
from lakehouse.processes.atomic_file import write_private
from lakehouse.settings import Settings

START_SECONDS = 120.0
STOP_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class RunningService:
    """The server that runs for a home."""

    pid: int
    created: float
    url: str
    needs_keys: bool


@dataclass(frozen=True, slots=True)
class Service:
    """One of a home's servers: the folder of its state, the module that runs it, and what it is called."""

    folder: str
    module: str
    title: str

    def state(self, settings: Settings) -> Path:
        """The file that says where it runs."""
        return settings.root / self.folder / "state.json"

    def log(self, settings: Settings) -> Path:
        """What it prints."""
        return settings.root / "logs" / f"{self.folder}.log"

    def announce(self, settings: Settings, url: str, *, needs_keys: bool) -> None:
        """Say that this process is it, until `forget`."""
        process = psutil.Process()
        state = RunningService(process.pid, process.create_time(), url, needs_keys)
        path = self.state(settings)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_private(path, json.dumps(asdict(state), indent=2))

    def forget(self, settings: Settings) -> None:
        """Say that it has ended."""
        self.state(settings).unlink(missing_ok=True)

    def running(self, settings: Settings) -> RunningService | None:
        """The server of this home; None when its process is gone."""
        try:
            found = RunningService(**json.loads(self.state(settings).read_text()))
            process = psutil.Process(found.pid)
            alive = abs(process.create_time() - found.created) < 60 and process.status() != psutil.STATUS_ZOMBIE
        except (OSError, ValueError, TypeError, psutil.NoSuchProcess):
            return None
        return found if alive else None

    def start(self, settings: Settings) -> RunningService:
        """Start it in a process of its own unless it runs, and wait until it answers. Raises LakehouseError."""
        lock = self.state(settings).with_name("start.lock")
        lock.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(lock, timeout=START_SECONDS * 2):
            if found := self.running(settings):
                return found
            log = self.log(settings)
            log.parent.mkdir(parents=True, exist_ok=True)
            with log.open("ab") as output:
                child = subprocess.Popen(
                    [sys.executable, "-m", self.module],
                    env=os.environ | settings_environment(settings),
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                    start_new_session=True,
                )
            deadline = time.monotonic() + START_SECONDS
            while time.monotonic() < deadline and child.poll() is None:
                if (found := self.running(settings)) and is_ready(found):
                    child.returncode = 0  # it outlives this object, whose destructor would warn
                    return found
                time.sleep(0.05)
        child.terminate()
        try:
            child.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()
        raise LakehouseError(f"{self.title} did not start; {log} says why.")

    def stop(self, settings: Settings) -> bool:
        """Stop it when it has done what it must. True when it ran."""
        found = self.running(settings)
        if found is None:
            return False
        with suppress(psutil.NoSuchProcess):
            process = psutil.Process(found.pid)
            family = [process, *process.children(recursive=True)]
            process.terminate()
            for survivor in survivors(family, STOP_SECONDS + 5):
                with suppress(psutil.NoSuchProcess):
                    survivor.kill()
        self.forget(settings)
        return True


def survivors(processes: Iterable[psutil.Process], seconds: float) -> list[psutil.Process]:
    """Wait until these have ended, for so long at most; those that have not. One that is dead and that nobody has buried
    yet has ended, which psutil's own waiting sees differently.
    """
    deadline = time.monotonic() + seconds
    left = [*processes]
    while (left := [process for process in left if not _has_ended(process)]) and time.monotonic() < deadline:
        time.sleep(0.02)
    return left


def _has_ended(process: psutil.Process) -> bool:
    try:
        process.wait(0)  # which buries a child of ours
    except psutil.TimeoutExpired:
        with suppress(psutil.NoSuchProcess):
            return bool(process.status() == psutil.STATUS_ZOMBIE)
    return True


_UNVERIFIED = ssl.create_default_context()
_UNVERIFIED.check_hostname = False
_UNVERIFIED.verify_mode = ssl.CERT_NONE


def is_ready(found: RunningService) -> bool:
    """Whether it is ready. That it is ours its process says: over TLS its certificate may be for another name."""
    with (
        suppress(OSError),
        urllib.request.urlopen(f"{found.url}/health/ready", timeout=2, context=_UNVERIFIED) as got,  # noqa: S310 (our own URL)
    ):
        return bool(got.status == 200)
    return False


def settings_environment(settings: Settings) -> dict[str, str]:
    """These settings as the variables they are read from, for child processes."""
    plain = settings.model_dump(mode="json", exclude_unset=True, context={"secrets": True})
    found = {}
    for name in plain:
        value = getattr(settings, name)
        secret = getattr(value, "get_secret_value", None)
        text = secret() if secret else plain[name]
        if text is not None:
            found[f"LAKEHOUSE_{name.upper()}"] = text if isinstance(text, str) else json.dumps(text)
    return found | {"LAKEHOUSE_HOME": str(settings.root)}
