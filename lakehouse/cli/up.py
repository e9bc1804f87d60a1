"""`up`."""

import os
import sys

from lakehouse.cli.printing import console
from lakehouse.errors import LakehouseError, StorageUnavailableError
from lakehouse.http import api_keys as keys
from lakehouse.pipeline.lake import Lake
from lakehouse.processes import service as process
from lakehouse.processes.child import leave_running, spawn, stop_child, wait_until_ready
from lakehouse.runtime import supervisor
from lakehouse.runtime.instance import environment, open_instance
from lakehouse.runtime.orphaned_runs import fail_orphaned_runs
from lakehouse.runtime.supervisor import Program, State, Supervisor
from lakehouse.serving.api import server as serving
from lakehouse.settings import Settings, get_settings
from lakehouse.sources.http import server as http
from lakehouse.storage.embedded import lifecycle as server

START_SECONDS = 180.0


def start(*, detach: bool, page: bool) -> None:
    """Start everything; with `detach`, return once it is up."""
    settings = get_settings()
    if supervisor.is_up(settings):
        console.print("The lakehouse is up already; `lakehouse status` shows where.")
        return
    if detach:
        _detach(settings, page)
        return
    connection = server.start(settings)
    try:
        Lake(settings, connection).bootstrap()
        supervisor.stop(settings)  # what a killed `up` has left
        with open_instance(settings) as history:
            fail_orphaned_runs(history)
        programs = [
            _http(settings),
            *_kinesis(settings),
            _serving(settings),
            *supervisor.dagster_programs(settings, page=page),
        ]
        Supervisor(settings, programs, _say_where, lambda: keep_storage(settings)).run()
    finally:
        server.stop(settings)


def keep_storage(settings: Settings) -> None:
    """Start the embedded server again when its process is gone."""
    try:
        server.connection(settings)
    except StorageUnavailableError:
        try:
            server.start(settings)
        except LakehouseError as problem:
            console.print(str(problem))


def _http(settings: Settings) -> Program:
    """The HTTP server; it stores what it holds before it ends."""
    keys.local_key(settings)

    def found() -> http.RunningService | None:
        return http.running(settings)

    return Program(
        "http",
        [sys.executable, "-m", "lakehouse.sources.http"],
        answers=lambda: (one := found()) is not None and http.is_ready(one),
        url=lambda: one.url if (one := found()) else None,
    )


def _serving(settings: Settings) -> Program:
    """What people and programs read; the HTTP server passes on to it."""
    return Program(
        "serving",
        [sys.executable, "-m", "lakehouse.serving.api"],
        answers=lambda: (one := serving.running(settings)) is not None and process.is_ready(one),
    )


def _kinesis(settings: Settings) -> list[Program]:
    """What reads Kinesis, when there is something to read."""
    return [Program("kinesis", [sys.executable, "-m", "lakehouse", "kinesis"])] if settings.kinesis else []


def _detach(settings: Settings, page: bool) -> None:
    words = [sys.executable, "-m", "lakehouse", "up", *([] if page else ["--no-ui"])]
    log = settings.root / "logs" / "up.log"
    log.unlink(missing_ok=True)
    child = spawn(words, log, env=os.environ | environment(settings))

    def is_ready() -> bool:
        state = supervisor.read_state(settings)
        return state is not None and state.ready and state.supervisor.pid == child.pid

    if wait_until_ready(is_ready, lambda: child.poll() is None, START_SECONDS, poll_seconds=0.1):
        leave_running(child)
        if state := supervisor.read_state(settings):
            _say_where(state)
        return
    if child.poll() is not None:
        last = log.read_text(errors="replace").strip().splitlines()
        reason = last[-1].removeprefix("lakehouse: ") if last else "it ended at once"
        raise LakehouseError(f"{reason} ({log} has it all)")
    stop_child(child, supervisor.STOP_SECONDS)
    raise LakehouseError(f"The lakehouse did not come up within {START_SECONDS:.0f} s; {log} says how far it got.")


def _say_where(state: State) -> None:
    console.print("The lakehouse is up.")
    for child in state.children:
        if child.url:
            console.print(f"  {child.name:12} {child.url}")
    console.print("  `lakehouse status` shows what runs, `lakehouse down` stops it.")
