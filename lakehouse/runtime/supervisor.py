"""The supervisor of `lakehouse up`: start processes in order, restart those that exit, and stop them together.

See `storage.embedded` for the storage server, which is not one of them. The code of each process is in its own room.
"""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from threading import Event

import psutil
import yaml
from filelock import FileLock, Timeout

from lakehouse.errors import LakehouseError
from lakehouse.processes.child import (
    creation_time,
    find_process,
    python_command,
    spawn,
    stop_child,
    stop_process,
    stop_tree,
    wait_until_ready,
)
from lakehouse.processes.home import private_home
from lakehouse.processes.home import read_state as read_state_file
from lakehouse.processes.home import write_state as write_state_file
from lakehouse.processes.ports import LOOPBACK, free_port, url_host
from lakehouse.runtime.instance import dagster_home, environment
from lakehouse.settings import Settings

STOP_SECONDS = 20.0
RESTART_SECONDS = 2.0
MAX_RESTART_SECONDS = 60.0
STEADY_SECONDS = 300.0
"""A process that ran this long did not fail at startup, so its next failure counts as the first in a row."""

READY_SECONDS = 120.0


@dataclass(frozen=True, slots=True)
class Program:
    """A process to keep running: its name and command. A server also has a readiness check and a URL."""

    name: str
    command: Sequence[str]
    is_ready: Callable[[], bool] | None = None
    url: Callable[[], str | None] = lambda: None
    optional: bool = False
    """Whether the others run without it: if it does not start, it is restarted like one that ended."""


@dataclass(slots=True)
class Child:
    """A process in the state file. Its start time tells it apart from a later process with the same id."""

    name: str
    pid: int
    created: float
    url: str | None = None
    restarts: int = 0

    @property
    def process(self) -> psutil.Process | None:
        """The process, if it is still running."""
        return find_process(self.pid, self.created)


@dataclass(slots=True)
class State:
    """The content of the state file: the supervisor and its processes."""

    supervisor: Child
    children: list[Child] = field(default_factory=list)
    ready: bool = False


def state_path(settings: Settings) -> Path:
    """Get the path of the state file of `lakehouse up`."""
    return settings.root / "processes.json"


def read_state(settings: Settings) -> State | None:
    """Read the state of the last `lakehouse up`; None if it is missing, unreadable, or another home's."""
    content = read_state_file(state_path(settings)) or {}
    try:
        return State(
            Child(**content["supervisor"]), [Child(**child) for child in content["children"]], content["ready"]
        )
    except (KeyError, TypeError):
        return None


def is_up(settings: Settings) -> bool:
    """Return whether a supervisor of this lakehouse is running and has started its programs."""
    state = read_state(settings)
    return state is not None and state.ready and state.supervisor.process is not None


@contextlib.contextmanager
def claim(settings: Settings) -> Iterator[None]:
    """Make this process the only supervisor of the home during the block, or until it is killed.

    Raises LakehouseError if another process is. It must start and stop nothing then, because the other uses it.
    """
    lock = FileLock(private_home(settings) / "up.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise LakehouseError(
            f"Another `lakehouse up` of {settings.root} is starting or stopping. See `lakehouse status`."
        ) from None
    try:
        yield
    finally:
        lock.release()


def take_over(settings: Settings) -> None:
    """Stop the processes that a killed supervisor left behind, and record this process as the supervisor."""
    stop(settings)
    write_state_file(state_path(settings), asdict(State(_this_process())))


class Supervisor:
    """Keep programs running until SIGTERM, SIGINT or SIGHUP."""

    def __init__(
        self,
        settings: Settings,
        programs: Sequence[Program],
        on_ready: Callable[[State], None],
        on_check: Callable[[], None] = lambda: None,
        variables: Mapping[str, str] | None = None,
    ) -> None:
        """Call `on_ready` once all programs are ready, and `on_check` at every check, twice a second.

        Programs have the environment of this process, with these `variables`.
        """
        self._settings = settings
        self._variables = environment(settings) | dict(variables or {})
        self._programs = programs
        self._on_ready = on_ready
        self._on_check = on_check
        self._stop = Event()
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        self._restarts: dict[str, int] = {}
        self._in_a_row: dict[str, int] = {}
        self._started_at: dict[str, float] = {}
        self._restart_at: dict[str, float] = {}

    def run(self) -> None:
        """Start every program and watch it; return when all have stopped."""
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, lambda *_: self._stop.set())
        try:
            for program in self._programs:
                self._start(program, ready=False)
                self._await(program)
                if self._stop.is_set():
                    return
            self._write(ready=True)
            self._on_ready(self._state(ready=True))
            while not self._stop.wait(0.5):
                self._restart_exited()
                self._on_check()
        finally:
            self._end()
            state_path(self._settings).unlink(missing_ok=True)

    def _start(self, program: Program, *, ready: bool) -> None:
        self._started_at[program.name] = time.monotonic()
        self._running[program.name] = spawn(
            program.command, log_path(self._settings, program.name), env=os.environ | self._variables
        )
        self._write(ready)

    def _await(self, program: Program) -> None:
        if program.is_ready is None:
            return
        child = self._running[program.name]
        ready = wait_until_ready(
            program.is_ready, lambda: child.poll() is None and not self._stop.is_set(), READY_SECONDS, poll_seconds=0.1
        )
        if not ready and not program.optional and not self._stop.is_set():
            raise LakehouseError(f"{program.name} did not start. See {log_path(self._settings, program.name)}.")

    def _restart_exited(self) -> None:
        for program in self._programs:
            process = self._running[program.name]
            if process.poll() is None:
                continue
            due = self._restart_at.get(program.name)
            if due is None:
                self._restarts[program.name] = self._restarts.get(program.name, 0) + 1
                self._restart_at[program.name] = time.monotonic() + self._pause(program.name)
            elif time.monotonic() >= due:
                del self._restart_at[program.name]
                self._start(program, ready=True)

    def _pause(self, name: str) -> float:
        """Get the seconds to wait before a restart, which double with each failure in a row."""
        lasted = time.monotonic() - self._started_at[name]
        in_a_row = self._in_a_row[name] = 1 if lasted > STEADY_SECONDS else self._in_a_row.get(name, 0) + 1
        return min(RESTART_SECONDS * 2.0 ** (in_a_row - 1), MAX_RESTART_SECONDS)

    def _end(self) -> None:
        # Stop in reverse order, because a process may depend on those started before it.
        for name in reversed(self._running):
            stop_child(self._running[name], STOP_SECONDS)

    def _state(self, ready: bool) -> State:
        urls = {program.name: program.url() for program in self._programs}
        children = [
            Child(name, process.pid, creation_time(process.pid), urls[name], self._restarts.get(name, 0))
            for name, process in self._running.items()
        ]
        return State(_this_process(), children, ready)

    def _write(self, ready: bool) -> None:
        write_state_file(state_path(self._settings), asdict(self._state(ready)))


def stop(settings: Settings) -> bool:
    """Stop the supervisor and any processes that it left behind. True if anything was running."""
    state = read_state(settings)
    if state is None:
        return False
    supervisor = state.supervisor.process
    if supervisor is not None:
        stop_process(supervisor, STOP_SECONDS * 2)
    left = [child for child in state.children if child.process is not None]
    for child in reversed(left):
        if process := child.process:
            stop_tree(process, STOP_SECONDS, terminate_children=True)
    state_path(settings).unlink(missing_ok=True)
    return supervisor is not None or bool(left)


def dagster_programs(settings: Settings, definitions: str, imports: Sequence[str] = (), *, page: bool) -> list[Program]:
    """List the code server, run forker, daemon and page of Dagster; all but the page listen on loopback.

    `definitions` is the module that the code server and the run forker load. `imports` are modules that it needs, which the
    code server imports once.
    """
    code_port = free_port()
    workspace = workspace_file(settings, code_port)
    programs = [
        code_server_program(definitions, code_port, imports),
        *([run_forker_program(definitions)] if settings.warm_runs and sys.platform == "linux" else []),
        daemon_program(workspace),
    ]
    if page:
        programs.append(page_program(settings, workspace))
    return programs


def page_program(settings: Settings, workspace: Path) -> Program:
    """Describe the Dagster page. It serves with TLS where other machines reach it and the HTTP server has a certificate."""
    port = free_port(settings.dagster_port, settings.dagster_host)
    host = url_host(settings.dagster_host)
    scheme = "https" if settings.page_certificate else "http"
    return Program(
        "page",
        python_command("lakehouse.runtime.dagster_page", str(workspace), str(port)),
        is_ready=lambda: listens(port, host.strip("[]")),
        url=lambda: f"{scheme}://{host}:{port}",
        optional=True,
    )


def code_server_program(definitions: str, port: int, imports: Sequence[str] = ()) -> Program:
    """Describe the code server, which loads the module `definitions` for the daemon and the page, now and when it changes."""
    command = python_command("lakehouse.runtime.code_server", definitions, str(port), *imports)
    return Program("code-server", command, is_ready=lambda: listens(port))


def daemon_program(workspace: Path) -> Program:
    """Describe the daemon, which evaluates schedules and sensors and starts queued runs."""
    return Program("daemon", python_command("lakehouse.runtime.daemon", str(workspace)))


def workspace_file(settings: Settings, code_port: int) -> Path:
    """Write the workspace file, with the code server's address for the daemon and the page."""
    file = dagster_home(settings) / "workspace.yaml"
    server = {"host": "127.0.0.1", "port": code_port, "location_name": "lakehouse"}
    file.write_text(yaml.safe_dump({"load_from": [{"grpc_server": server}]}))
    return file


def run_forker_program(definitions: str) -> Program:
    """Describe the run forker. Startup does not wait for it, because runs also start without it.

    It runs on Linux only, because elsewhere a fork may not use libraries that its parent has loaded.
    """
    return Program("warm-runs", python_command("lakehouse.runtime.run_forker", definitions))


def listens(port: int, host: str = LOOPBACK) -> bool:
    """Return whether a process accepts connections on this port of an address of this machine."""
    with contextlib.suppress(OSError), socket.create_connection((host, port), 1):
        return True
    return False


def _this_process() -> Child:
    return Child("supervisor", os.getpid(), creation_time(os.getpid()))


def log_path(settings: Settings, name: str) -> Path:
    """Return the path of a program's log."""
    return settings.root / "logs" / f"{name}.log"
