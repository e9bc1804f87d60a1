"""The processes of `lakehouse up`: starts them in order, restarts one that ends, and stops them all together.

Only processes are known here; storage has its own server, and what each process does is its own affair.
"""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from threading import Event

import psutil
import yaml

from lakehouse.errors import LakehouseError
from lakehouse.processes.atomic_file import write_private
from lakehouse.processes.child import find_process, spawn, stop_child, stop_process, stop_tree, wait_until_ready
from lakehouse.runtime.instance import dagster_home, environment
from lakehouse.settings import Settings

STOP_SECONDS = 20.0
RESTART_SECONDS = 2.0
RESTART_AT_MOST = 60.0
STEADY_SECONDS = 300.0
"""Who ran for so long did not fail at its start: its next failure is the first again."""

READY_SECONDS = 120.0


@dataclass(frozen=True, slots=True)
class Program:
    """One process to keep running: its name, its words, and, when it serves something, whether and where it answers."""

    name: str
    words: Sequence[str]
    answers: Callable[[], bool] | None = None
    url: Callable[[], str | None] = lambda: None


@dataclass(slots=True)
class Child:
    """What the state file says of a process: enough to tell it from another that got its number later."""

    name: str
    pid: int
    created: float
    url: str | None = None
    restarts: int = 0

    @property
    def process(self) -> psutil.Process | None:
        """The process, if it still runs."""
        return find_process(self.pid, self.created)


@dataclass(slots=True)
class State:
    """The supervisor and its processes, as the state file holds them."""

    supervisor: Child
    children: list[Child] = field(default_factory=list)
    ready: bool = False


def state_path(settings: Settings) -> Path:
    """Where the state of `lakehouse up` is kept."""
    return settings.root / "processes.json"


def read_state(settings: Settings) -> State | None:
    """The state of the last `lakehouse up`; None when there is none that can be read."""
    try:
        content = json.loads(state_path(settings).read_text())
        return State(
            Child(**content["supervisor"]), [Child(**child) for child in content["children"]], content["ready"]
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None


def is_up(settings: Settings) -> bool:
    """Whether a supervisor of this lakehouse runs."""
    state = read_state(settings)
    return state is not None and state.supervisor.process is not None


class Supervisor:
    """Keeps programs running until it is told to stop by SIGTERM or SIGINT."""

    def __init__(
        self,
        settings: Settings,
        programs: Sequence[Program],
        on_ready: Callable[[State], None],
        also: Callable[[], None] = lambda: None,
    ) -> None:
        """`also` is done with every look at the programs, twice a second."""
        self._settings = settings
        self._programs = programs
        self._on_ready = on_ready
        self._also = also
        self._stop = Event()
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        self._restarts: dict[str, int] = {}
        self._in_a_row: dict[str, int] = {}
        self._started_at: dict[str, float] = {}
        self._restart_at: dict[str, float] = {}

    def run(self) -> None:
        """Start everything and watch it; returns when all has been stopped."""
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, lambda *_: self._stop.set())
        try:
            for program in self._programs:
                self._start(program)
                self._await(program)
                if self._stop.is_set():
                    return
            self._write(ready=True)
            self._on_ready(self._state(ready=True))
            while not self._stop.wait(0.5):
                self._look()
                self._also()
        finally:
            self._end()
            state_path(self._settings).unlink(missing_ok=True)

    def _start(self, program: Program) -> None:
        self._started_at[program.name] = time.monotonic()
        self._running[program.name] = spawn(
            program.words, _log_path(self._settings, program.name), env=os.environ | environment(self._settings)
        )
        self._write(ready=False)

    def _await(self, program: Program) -> None:
        if program.answers is None:
            return
        child = self._running[program.name]
        ready = wait_until_ready(
            program.answers, lambda: child.poll() is None and not self._stop.is_set(), READY_SECONDS, poll_seconds=0.1
        )
        if not ready and not self._stop.is_set():
            log = _log_path(self._settings, program.name)
            raise LakehouseError(f"{program.name} did not start. See {log}.")

    def _look(self) -> None:
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
                self._start(program)
                self._write(ready=True)

    def _pause(self, name: str) -> float:
        """How long to wait before a program that has ended starts again: the longer, the more often it ended at once."""
        lasted = time.monotonic() - self._started_at[name]
        in_a_row = self._in_a_row[name] = 1 if lasted > STEADY_SECONDS else self._in_a_row.get(name, 0) + 1
        return min(RESTART_SECONDS * 2.0 ** (in_a_row - 1), RESTART_AT_MOST)

    def _end(self) -> None:
        # In reverse: whoever asks for work goes before whoever does it.
        for name in reversed(self._running):
            stop_child(self._running[name], STOP_SECONDS)

    def _state(self, ready: bool) -> State:
        urls = {program.name: program.url() for program in self._programs}
        children = [
            Child(name, process.pid, _created(process.pid), urls[name], self._restarts.get(name, 0))
            for name, process in self._running.items()
        ]
        return State(Child("supervisor", os.getpid(), _created(os.getpid())), children, ready)

    def _write(self, ready: bool) -> None:
        write_private(state_path(self._settings), json.dumps(asdict(self._state(ready)), indent=1))


def stop(settings: Settings) -> bool:
    """Stop a supervisor and whatever it left; True when there was something to stop."""
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


def dagster_programs(settings: Settings, *, page: bool) -> list[Program]:
    """The code server that holds the definitions, the daemon, and the page; all on loopback."""
    code_port = free_port()
    workspace = workspace_file(settings, code_port)
    python = [sys.executable, "-m"]
    programs = [
        code_server_program(code_port),
        *([run_forker_program()] if settings.warm_runs and sys.platform == "linux" else []),
        daemon_program(workspace),
    ]
    if page:
        port = free_port(settings.dagster_port)
        programs.append(
            Program(
                "page",
                [*python, "dagster_webserver", "-h", "127.0.0.1", "-p", str(port), "-w", str(workspace)],
                answers=lambda: listens(port),
                url=lambda: f"http://127.0.0.1:{port}",
            )
        )
    return programs


def code_server_program(port: int) -> Program:
    """The process that holds the definitions for the daemon and the page."""
    words = ["dagster", "api", "grpc", "-m", "lakehouse.definitions", "-h", "127.0.0.1", "-p", str(port)]
    return Program("code-server", [sys.executable, "-m", *words], answers=lambda: listens(port))


def daemon_program(workspace: Path) -> Program:
    """The process that looks at schedules and sensors and starts the runs of the queue."""
    return Program("daemon", [sys.executable, "-m", "lakehouse.runtime.daemon", str(workspace)])


def workspace_file(settings: Settings, code_port: int) -> Path:
    """Write where the code server is, for the daemon and the page."""
    file = dagster_home(settings) / "workspace.yaml"
    server = {"host": "127.0.0.1", "port": code_port, "location_name": "lakehouse"}
    file.write_text(yaml.safe_dump({"load_from": [{"grpc_server": server}]}))
    return file


def run_forker_program() -> Program:
    """The process that runs are forked from. Nobody waits for it: until it is there runs start without it.

    Elsewhere than on Linux a fork may not use what its parent has loaded.
    """
    return Program("warm-runs", [sys.executable, "-m", "lakehouse.runtime.run_forker"])


def listens(port: int) -> bool:
    """Whether somebody answers on this port of the loopback address."""
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
        return True
    return False


def free_port(wanted: int = 0) -> int:
    """`wanted` if nobody listens there, else a free port."""
    for port in (wanted, 0):
        with contextlib.suppress(OSError), socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", port))
            return int(probe.getsockname()[1])
    raise LakehouseError("No port of this machine is free.")


def _created(pid: int) -> float:
    try:
        return psutil.Process(pid).create_time()
    except psutil.NoSuchProcess:
        return 0.0


def _log_path(settings: Settings, name: str) -> Path:
    return settings.root / "logs" / f"{name}.log"
