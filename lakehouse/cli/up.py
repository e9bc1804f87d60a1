"""`up`: everything that a lakehouse runs, started under one supervisor."""

import os
import threading
import time
from collections.abc import Callable, Sequence
from functools import partial
from threading import Event
from typing import Annotated

import typer

from lakehouse.alerting.config import load_alerts
from lakehouse.audit_log.settings_changes import log_settings
from lakehouse.cli.alerts import known_streams
from lakehouse.cli.printing import console, stderr
from lakehouse.errors import ContractError, LakehouseError, SchemaChangeError, StorageUnavailableError
from lakehouse.http import api_keys as keys
from lakehouse.http.auth import unencrypted_warning
from lakehouse.pipeline.audit_log_table import copy_entries
from lakehouse.pipeline.lake import Lake
from lakehouse.processes.child import leave_running, python_command, spawn, stop_child, wait_until_ready
from lakehouse.processes.problems import read_problems
from lakehouse.processes.service import settings_environment
from lakehouse.project import NO_PROJECT
from lakehouse.runtime import supervisor
from lakehouse.runtime.accepted_lookups import AcceptedLookups
from lakehouse.runtime.accepted_streams import AcceptedStreams, watch
from lakehouse.runtime.history_files import check_history
from lakehouse.runtime.instance import dagster_home, environment, open_instance
from lakehouse.runtime.metrics import publish_metrics
from lakehouse.runtime.orphaned_runs import fail_orphaned_runs
from lakehouse.runtime.supervisor import Program, State, Supervisor
from lakehouse.serving.api import gateway_server as http_server
from lakehouse.serving.api import server as serving
from lakehouse.settings import Settings, get_settings
from lakehouse.storage.embedded import lifecycle as storage
from lakehouse.storage.embedded.health import is_healthy

START_SECONDS = 180.0
STORAGE_PROBE_SECONDS = 10.0
AUDIT_LOG_SECONDS = 60.0
"""Between two copies of the audit log into its table. Each that has new entries is a commit."""

DEFINITIONS = "lakehouse.definitions"
"""The module that Dagster loads."""

IMPORTS = ("lakehouse.automation.build",)
"""Modules that take long to import, which the code server imports before it forks."""

Detach = Annotated[bool, typer.Option("--detach", "-d", help="Return once everything is up, and leave it running.")]
NoPage = Annotated[bool, typer.Option("--no-ui", help="Don't start the Dagster page.")]


def up(detach: Detach = False, no_ui: NoPage = False) -> None:
    """Start everything and watch it; with `detach`, return once it is up.

    Raises LakehouseError if a process does not start.
    """
    settings = get_settings()
    if supervisor.is_up(settings):
        console.print("The lakehouse is already up; `lakehouse status` shows where.")
        return
    load_alerts(settings, known_streams(settings))  # refuse a wrong file before anything starts
    if warning := unencrypted_warning(settings):
        stderr.print(warning, soft_wrap=True)
    if detach:
        _detach(settings, no_ui=no_ui)
        return
    with supervisor.claim(settings):
        _supervise(settings, no_ui=no_ui)


def _supervise(settings: Settings, *, no_ui: bool) -> None:
    check_history(dagster_home(settings))
    connection = storage.start(settings)
    stop_watching = Event()
    try:
        supervisor.take_over(settings)
        log_settings(settings)
        accepted = AcceptedStreams(settings)
        for line in accepted.update():
            stderr.print(line, soft_wrap=True)
        running = settings.model_copy(update={"streams": (accepted.folder,)})
        _bootstrap(Lake(running, connection))
        lookups = AcceptedLookups(running, connection)
        for line in lookups.update():
            stderr.print(line, soft_wrap=True)
        running = running.model_copy(update={"lookups": (lookups.folder,)})
        with open_instance(settings) as instance:
            fail_orphaned_runs(instance)
        programs = [
            _http(settings),
            *_kinesis(settings),
            _serving(settings),
            *supervisor.dagster_programs(settings, DEFINITIONS, IMPORTS, page=not no_ui),
            *_alerts(running),
        ]
        report = partial(stderr.print, soft_wrap=True)
        for name, copies in {"streams": accepted, "lookups": lookups}.items():
            threading.Thread(target=watch, args=(copies, report, stop_watching), name=name, daemon=True).start()
        threading.Thread(target=_copy_audit_log, args=(settings, stop_watching), name="audit log", daemon=True).start()
        threading.Thread(target=publish_metrics, args=(settings, stop_watching), name="metrics", daemon=True).start()
        Supervisor(
            settings,
            programs,
            lambda state: _print_urls(settings, state),
            partial(_check_all, (_storage_check(settings), _problems_check(settings))),
            # A change of the project's file counts at the next `up`, as a whole.
            settings_environment(running) | {"LAKEHOUSE_PROJECT": NO_PROJECT},
        ).run()
    finally:
        stop_watching.set()
        supervisor.state_path(settings).unlink(missing_ok=True)
        storage.stop(settings)


def _copy_audit_log(settings: Settings, stop: Event) -> None:
    """Copy new entries of the audit log into its table every minute, until `stop` is set."""
    while not stop.wait(AUDIT_LOG_SECONDS):
        try:
            copy_entries(Lake(settings))
        except Exception as error:  # storage is away for a while, or an entry was changed
            stderr.print(f"The audit log could not be copied into its table: {error}", soft_wrap=True)


def _bootstrap(lake: Lake) -> None:
    """Create and evolve tables. A stream whose tables can't follow its contract is reported, and the others go on."""
    try:
        lake.bootstrap()
    except (SchemaChangeError, ContractError) as error:
        stderr.print(f"{error} All other streams go on.", soft_wrap=True)


def _storage_check(settings: Settings) -> Callable[[], None]:
    """Build the supervisor's check of storage: each time whether it runs, and from time to time whether it answers."""
    last_probe = time.monotonic()

    def check() -> None:
        nonlocal last_probe
        probe = time.monotonic() - last_probe >= STORAGE_PROBE_SECONDS
        keep_storage(settings, probe=probe)
        if probe:
            last_probe = time.monotonic()

    return check


def _problems_check(settings: Settings) -> Callable[[], None]:
    """Build the check that prints what is wrong with queries, dashboards and assets, once. `watch` prints the others."""
    printed: list[str] = []

    def check() -> None:
        nonlocal printed
        problems = read_problems(settings, ("queries", "dashboards", "assets"))
        for problem in (problem for problem in problems if problem not in printed):
            stderr.print(f"{problem} What ran before runs on.", soft_wrap=True)
        printed = problems

    return check


def _check_all(checks: Sequence[Callable[[], None]]) -> None:
    for check in checks:
        check()


def keep_storage(settings: Settings, *, probe: bool) -> None:
    """Restart the embedded storage server when its process is gone or, if it is to be probed, hangs.

    Errors are printed, and the next call tries again.
    """
    try:
        connection = storage.connection(settings)
        if settings.storage == "external" or not probe or is_healthy(connection):
            return
    except StorageUnavailableError:
        pass
    try:
        storage.start(settings)
    except LakehouseError as error:
        console.print(str(error))


def _http(settings: Settings) -> Program:
    """Describe the HTTP server. It stores the events that it holds before it ends."""
    keys.local_key(settings)

    def url() -> str | None:
        running = http_server.running(settings)
        return running.url if running else None

    command = python_command(http_server.MODULE)
    return Program("http", command, is_ready=lambda: http_server.SERVICE.has_started(settings), url=url)


def _serving(settings: Settings) -> Program:
    """Describe the serving process, to which the HTTP server forwards reads."""
    command = python_command("lakehouse.serving.api")
    return Program("serving", command, is_ready=lambda: serving.SERVICE.has_started(settings))


def _kinesis(settings: Settings) -> list[Program]:
    """Describe the process that reads Kinesis, if a stream is configured."""
    return [Program("kinesis", python_command("lakehouse", "kinesis"))] if settings.kinesis else []


def _alerts(settings: Settings) -> list[Program]:
    """Describe the process that sends alerts, if there is a receiver. It starts last and stops first.

    It is a process of its own, so that a supervisor which is killed is reported, too.
    """
    is_used = settings.alerts is not None or settings.webhook_url is not None
    return [Program("alerts", python_command("lakehouse.alerting"))] if is_used else []


def _detach(settings: Settings, *, no_ui: bool) -> None:
    command = python_command("lakehouse", "up", *(["--no-ui"] if no_ui else []))
    log = supervisor.log_path(settings, "up")
    # Another `up` may be writing to the log at this moment, so it is not deleted.
    old_bytes = log.stat().st_size if log.exists() else 0
    child = spawn(command, log, env=os.environ | environment(settings))

    def is_ready() -> bool:
        state = supervisor.read_state(settings)
        return state is not None and state.ready and state.supervisor.pid == child.pid

    if wait_until_ready(is_ready, lambda: child.poll() is None, START_SECONDS, poll_seconds=0.1):
        leave_running(child)
        if state := supervisor.read_state(settings):
            _print_urls(settings, state)
        return
    if child.poll() is not None:
        lines = log.read_bytes()[old_bytes:].decode(errors="replace").strip().splitlines() or ["it ended at once"]
        raise LakehouseError(f"{lines[-1].removeprefix('lakehouse: ')} (see {log})")
    stop_child(child, supervisor.STOP_SECONDS)
    raise LakehouseError(f"The lakehouse did not come up within {START_SECONDS:.0f} s; see {log}.")


def _print_urls(settings: Settings, state: State) -> None:
    console.print("The lakehouse is up.")
    for child in state.children:
        if child.process is None:
            log = supervisor.log_path(settings, child.name)
            console.print(f"  {child.name:12} did not start and is started again from time to time; see {log}")
        elif child.url:
            console.print(f"  {child.name:12} {child.url}")
    console.print("  `lakehouse status` shows the processes, `lakehouse down` stops them.")
