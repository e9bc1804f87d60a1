"""The life of the HTTP server of one home: run, start, find, stop. What it answers is the application's affair."""

import json
import multiprocessing
import os
import socket
import subprocess
import sys
import time
import urllib.request
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil
from filelock import FileLock
from granian.constants import HTTPModes, Interfaces, Loops
from granian.http import HTTP1Settings
from granian.server import MPServer

from lakehouse.errors import LakehouseError
from lakehouse.ingest.http import keys, metrics
from lakehouse.ingest.http.app import needs_keys
from lakehouse.settings import Settings
from lakehouse.storage import server as storage
from lakehouse.storage.private import write_private

START_SECONDS = 60.0
STOP_SECONDS = 30.0
PORTS_TRIED = 50
HEADER_SECONDS = 10
"""In which a client has to send a request's headers."""


@dataclass(frozen=True, slots=True)
class Running:
    """The server that runs for a home."""

    pid: int
    created: float
    url: str
    needs_keys: bool


def run_server(settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT, then store what is held and return. Storage must run.

    Takes this process over, signals and environment; `start` gives it one of its own. Raises LakehouseError when a
    server runs for this home or no port is free, StorageUnavailableError when storage does not run.
    """
    storage.connection(settings)
    if (found := running(settings)) and found.pid != os.getpid():
        raise LakehouseError(f"A server runs already at {found.url}; stop it with `lakehouse down`.")
    port = _free_port(settings)
    folder = settings.root / "http" / "metrics"
    metrics.clear(folder)
    os.environ |= environment(settings) | {metrics.FOLDER: str(folder)}
    scheme = "https" if settings.http_tls_certificate else "http"
    process = psutil.Process()
    url = f"{scheme}://{_in_url(settings.http_host)}:{port}"
    state = Running(process.pid, process.create_time(), url, needs_keys(settings))
    write_private(_state(settings), json.dumps(asdict(state), indent=2))
    # Not forked: threads of the libraries loaded here would be missing in the child.
    multiprocessing.set_start_method("spawn", force=True)
    try:
        _granian(settings, port).serve()
    finally:
        _state(settings).unlink(missing_ok=True)


def _granian(settings: Settings, port: int) -> MPServer:
    return MPServer(
        "lakehouse.ingest.http.app:create_app",
        factory=True,
        address=settings.http_host,
        port=port,
        interface=Interfaces.ASGI,
        workers=settings.http_workers,
        loop=Loops.uvloop if sys.platform != "win32" else Loops.auto,
        http=HTTPModes.auto,
        http1_settings=HTTP1Settings(header_read_timeout=HEADER_SECONDS * 1000),
        websockets=False,
        respawn_failed_workers=True,
        respawn_interval=0.2,
        workers_kill_timeout=int(STOP_SECONDS),
        ssl_cert=settings.http_tls_certificate,
        ssl_key=settings.http_tls_key,
        log_access=False,
    )


def start(settings: Settings) -> Running:
    """Start a server in a process of its own unless one runs, and wait until it answers. Raises LakehouseError.

    The local user's API key is made when there is none.
    """
    folder = settings.root / "http"
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / "start.lock", timeout=START_SECONDS * 2):
        if found := running(settings):
            return found
        keys.local(settings)
        log = settings.root / "logs" / "http.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as output:
            child = subprocess.Popen(
                [sys.executable, "-m", "lakehouse.ingest.http"],
                env=os.environ | environment(settings),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline and child.poll() is None:
            if (found := running(settings)) and answers(found):
                child.returncode = 0  # it outlives this object, whose destructor would warn
                return found
            time.sleep(0.05)
    with suppress(ProcessLookupError):
        child.terminate()
    raise LakehouseError(f"The HTTP server did not start; {log} says why.")


def stop(settings: Settings) -> bool:
    """Stop the server when it has stored what it holds. True when one ran."""
    found = running(settings)
    if found is None:
        return False
    with suppress(psutil.NoSuchProcess):
        process = psutil.Process(found.pid)
        family = [process, *process.children(recursive=True)]
        process.terminate()
        _, left = psutil.wait_procs(family, timeout=STOP_SECONDS + 5)
        for survivor in left:
            with suppress(psutil.NoSuchProcess):
                survivor.kill()
    _state(settings).unlink(missing_ok=True)
    return True


def running(settings: Settings) -> Running | None:
    """The server of this home; None when its process is gone."""
    try:
        found = Running(**json.loads(_state(settings).read_text()))
        process = psutil.Process(found.pid)
        alive = abs(process.create_time() - found.created) < 60 and process.status() != psutil.STATUS_ZOMBIE
    except (OSError, ValueError, TypeError, psutil.NoSuchProcess):
        return None
    return found if alive else None


def answers(found: Running) -> bool:
    """Whether it is ready to take events."""
    with (
        suppress(OSError),
        urllib.request.urlopen(f"{found.url}/health/ready", timeout=2) as got,  # noqa: S310 (our own URL)
    ):
        return bool(got.status == 200)
    return False


def environment(settings: Settings) -> dict[str, str]:
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


def _state(settings: Settings) -> Path:
    return settings.root / "http" / "state.json"


def _free_port(settings: Settings) -> int:
    for port in range(settings.http_port, min(settings.http_port + PORTS_TRIED, 65536)):
        family = socket.AF_INET6 if ":" in settings.http_host else socket.AF_INET
        with socket.socket(family) as probe, suppress(OSError):
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((settings.http_host, port))
            return port
    raise LakehouseError(
        f"No port from {settings.http_port} on is free on {settings.http_host}; set LAKEHOUSE_HTTP_PORT."
    )


def _in_url(host: str) -> str:
    """Where a program on this machine reaches a server that listens there."""
    local = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}  # noqa: S104 (nothing is bound here)
    return local.get(host, f"[{host}]" if ":" in host else host)
