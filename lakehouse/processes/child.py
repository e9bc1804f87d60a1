"""Start, identify, await and stop a process.

See `service` for the servers of a home, and `workers` for processes that end with their parent.
"""

import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO

import psutil

MAX_LOG_BYTES = 32 << 20
"""Size at which a log moves aside, to one file of the past, when its process starts again."""

CLOCK_STEP_SECONDS = 60.0
"""How far a process's creation time may seem to move when the machine's clock is set."""

KILL_SECONDS = 5.0
"""How long to wait for a killed process to be gone."""

POLL_SECONDS = 0.02

PRIVATE_UMASK = 0o077
"""Files that child processes create are for their owner only."""

SAFE_PATH = {"PYTHONSAFEPATH": "1"}
"""The environment variable by which Python, also in descendants, does not import from the current folder (CWE-427)."""


def python_command(module: str, *arguments: str) -> list[str]:
    """Return the command that runs a module with this Python, which does not import from the current folder."""
    return [sys.executable, "-P", "-m", module, *arguments]


def spawn(
    command: Sequence[str], log: Path, *, env: Mapping[str, str], cwd: Path | None = None
) -> subprocess.Popen[bytes]:
    """Start a process that appends its output to `log`.

    It has a session of its own, so that Ctrl-C in this terminal does not reach it. `env` is its whole environment, but
    that Python's safe path is added. Its files are private.
    """
    with _open_log(log) as output:
        return subprocess.Popen(
            list(command),
            cwd=cwd,
            env={**env, **SAFE_PATH},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            umask=PRIVATE_UMASK,
        )


def _open_log(path: Path) -> IO[bytes]:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.exists() and path.stat().st_size > MAX_LOG_BYTES:
        path.replace(path.with_suffix(".log.1"))
    return path.open("ab")


def leave_running(child: subprocess.Popen[bytes]) -> None:
    """Let a process outlive its `Popen`, whose destructor would warn about one that still runs."""
    child.returncode = 0


def creation_time(pid: int) -> float:
    """Return when this process was created, in seconds since 1970; 0 when it has ended."""
    with suppress(psutil.NoSuchProcess):
        return psutil.Process(pid).create_time()
    return 0.0


def find_process(pid: int, created: float) -> psutil.Process | None:
    """Find the running process with this pid and creation time, in seconds since 1970.

    None when it has ended, also when another process has got its pid since or its parent has not reaped it.
    """
    process = find_running(pid)
    if process is None or abs(process.create_time() - created) >= CLOCK_STEP_SECONDS:
        return None
    return process


def find_running(pid: int) -> psutil.Process | None:
    """Find the running process with this pid, whichever it is; None for a zombie."""
    with suppress(psutil.NoSuchProcess):
        process = psutil.Process(pid)
        if process.status() != psutil.STATUS_ZOMBIE:
            return process
    return None


def process_tree(process: psutil.Process) -> list[psutil.Process]:
    """List a process and all its descendants, itself first; empty when it has ended."""
    with suppress(psutil.NoSuchProcess):
        return [process, *process.children(recursive=True)]
    return []


def wait_until_ready(
    is_ready: Callable[[], bool], is_alive: Callable[[], bool], seconds: float, *, poll_seconds: float = 0.05
) -> bool:
    """Poll until a process is ready; False when it has ended or `seconds` have passed."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if is_ready():
            return True
        if not is_alive():
            return False
        time.sleep(poll_seconds)
    return False


def wait_for_exit(processes: Iterable[psutil.Process], seconds: float) -> list[psutil.Process]:
    """Wait until these processes have ended and return those that have not after `seconds`.

    A zombie has ended. `psutil.wait_procs` would wait for its parent to reap it.
    """
    deadline = time.monotonic() + seconds
    remaining = [*processes]
    while (remaining := [process for process in remaining if not _has_ended(process)]) and time.monotonic() < deadline:
        time.sleep(POLL_SECONDS)
    return remaining


def stop_process(process: psutil.Process, seconds: float) -> None:
    """Terminate one process and kill it if it still runs after `seconds`; its descendants are left alone."""
    _stop([process], terminate=[process], seconds=seconds)


def stop_tree(process: psutil.Process, seconds: float, *, terminate_children: bool = False) -> None:
    """Terminate a process and kill it and its descendants if they still run after `seconds`.

    By default only the process itself receives SIGTERM, because a server stops its own workers in order.
    """
    tree = process_tree(process)
    _stop(tree, terminate=tree if terminate_children else tree[:1], seconds=seconds)


def stop_child(child: subprocess.Popen[bytes], seconds: float) -> None:
    """Terminate a process that this one started, and all its descendants; kill those that still run after `seconds`."""
    if child.poll() is None:
        stop_tree(psutil.Process(child.pid), seconds, terminate_children=True)
        child.wait()


def kill(processes: Iterable[psutil.Process]) -> None:
    """Kill processes and wait until they are gone."""
    killed = [*processes]
    for process in killed:
        with suppress(psutil.NoSuchProcess):
            process.kill()
    wait_for_exit(killed, KILL_SECONDS)


def _stop(processes: list[psutil.Process], *, terminate: list[psutil.Process], seconds: float) -> None:
    for process in terminate:
        with suppress(psutil.NoSuchProcess):
            process.terminate()
    kill(wait_for_exit(processes, seconds))


def _has_ended(process: psutil.Process) -> bool:
    try:
        process.wait(0)  # reaps a child of this process
    except psutil.TimeoutExpired:
        with suppress(psutil.NoSuchProcess):
            return bool(process.status() == psutil.STATUS_ZOMBIE)
    return True
