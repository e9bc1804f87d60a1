"""The run forker: a process that has imported everything a run needs. Each run is a fork of it, ready in milliseconds.

A fork copies only one thread, so this process never has more than one. It keeps neither storage nor a Dagster instance
open. One loop waits for requests and for children to exit. When code or contracts on disk change, it replaces itself in
place. It is an optimization: without it, runs start more slowly, in new processes.

Dagster 1.13 does not export the command that executes a run, hence `dagster._cli`; it is pinned below 1.14.
"""

import contextlib
import gc
import hmac
import importlib
import json
import logging
import os
import secrets
import selectors
import signal
import socket
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import NoReturn

import duckdb
from dagster._cli.api import execute_run_command

from lakehouse.processes.child import python_command
from lakehouse.processes.file_stamps import file_stamps
from lakehouse.processes.home import write_state
from lakehouse.runtime.instance import loaded_definitions, open_instance, run_forker_state
from lakehouse.runtime.ipc import ASK_SECONDS, read_line, write_line
from lakehouse.runtime.orphaned_runs import report_dead_process
from lakehouse.settings import Settings, get_settings

RELOAD_CHECK_INTERVAL_SECONDS = 2.0
"""Time between two checks of whether the loaded files have changed on disk."""

LAZY_MODULES = (
    "dagster._core.execution.plan.active",
    "dagster._core.executor.in_process",
    "dagster._core.storage.local_compute_log_manager",
    "dagster._core.workspace.autodiscovery",
    "idna",
    "pyiceberg.catalog.rest",
    "pyiceberg.io.pyarrow",
    "requests",
)
"""Modules that every run imports at their first use."""


class RunForker:
    """Fork a process for each requested run, and report those that fail."""

    def __init__(self, settings: Settings, runs: Mapping[int, str]) -> None:
        """Take over `runs`, by process id: the children of the process that this one replaced."""
        self._settings = settings
        self._key = secrets.token_hex(32)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._listener, selectors.EVENT_READ)
        self._runs: dict[int, str] = {}
        for pid, run_id in runs.items():
            self._watch(pid, run_id)

    @property
    def runs(self) -> Mapping[int, str]:
        """The active runs by process id."""
        return self._runs

    def serve(self, is_current: Callable[[], bool]) -> None:
        """Fork for each request until `is_current` is false: the loaded files have changed on disk."""
        port = self._listener.getsockname()[1]
        write_state(run_forker_state(self._settings), {"port": port, "key": self._key, "pid": os.getpid()})
        checked_at = time.monotonic()
        while True:
            for key, _ in self._selector.select(RELOAD_CHECK_INTERVAL_SECONDS):
                if key.data is not None:
                    self._reap(key)
                elif not self._answer(is_current):
                    return
            if time.monotonic() - checked_at > RELOAD_CHECK_INTERVAL_SECONDS:
                if not is_current():
                    return
                checked_at = time.monotonic()

    def _answer(self, is_current: Callable[[], bool]) -> bool:
        """Fork for a request with the right key. False when the loaded files are not current."""
        channel, _ = self._listener.accept()
        with channel, contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            request = read_line(channel, ASK_SECONDS)
            if not hmac.compare_digest(str(request["key"]), self._key):
                return True
            current = is_current()
            forked = current and _is_alone()
            if forked:
                self._fork(str(request["run"]), str(request["words"]))
            write_line(channel, {"forked": forked})
            return current
        return True

    def _fork(self, run_id: str, words: str) -> None:
        pid = os.fork()
        if pid == 0:
            self._become(lambda: _execute(words))
        self._watch(pid, run_id)

    def _become(self, work: Callable[[], None]) -> NoReturn:
        """Do the work in the child and exit, even if it raises."""
        status = 1
        try:
            self._selector.close()
            self._listener.close()
            work()
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            logging.shutdown()
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(status)

    def _watch(self, pid: int, run_id: str) -> None:
        self._runs[pid] = run_id
        self._selector.register(os.pidfd_open(pid), selectors.EVENT_READ, pid)

    def _reap(self, key: selectors.SelectorKey) -> None:
        pid: int = key.data
        self._selector.unregister(key.fileobj)
        os.close(key.fd)
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        run_id = self._runs.pop(pid)
        if code and run_id:
            # Report it in a fork, because this process must not open the Dagster instance.
            reporter = os.fork()
            if reporter == 0:
                self._become(lambda: _report(self._settings, run_id, code))
            self._watch(reporter, "")


def _execute(words: str) -> None:
    """Execute a run with the command that Dagster's container launchers use."""
    execute_run_command.main([words], standalone_mode=False)


def _report(settings: Settings, run_id: str, code: int) -> None:
    how = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with {code}"
    with open_instance(settings) as instance:
        report_dead_process(instance, run_id, f"The process of this run {how}; it is computed again.")


def _is_alone() -> bool:
    """Return whether this process has one thread. In a fork, a lock that another thread holds would stay locked."""
    return len(os.listdir("/proc/self/task")) == 1


def main() -> None:
    """Serve until ended.

    The command line names the module of the definitions, and the active runs of the process that this one replaces.
    """
    definitions = sys.argv[1]
    runs = json.loads(sys.argv[2]) if len(sys.argv) > 2 else {}
    settings = get_settings()
    loaded = _stamps(settings)
    load(settings, definitions)
    forker = RunForker(settings, {int(pid): run_id for pid, run_id in runs.items()})
    forker.serve(lambda: _stamps(settings) == loaded)
    print("The code or a contract has changed; reloading.", flush=True)
    command = python_command("lakehouse.runtime.run_forker", definitions, json.dumps(dict(forker.runs)))
    os.execv(sys.executable, command)  # noqa: S606 (the command needs no shell)


def _stamps(settings: Settings) -> object:
    """Stamp the code and contracts that are loaded, and the code server's last load of the user's own assets.

    Assets that can't be loaded don't count: the code server, and so this process, then keep those that they have.
    """
    served = loaded_definitions(settings)
    return (
        file_stamps([Path(__file__).parents[1], *settings.streams]),
        served.read_text() if served.exists() else None,
    )


def load(settings: Settings, definitions: str) -> None:
    """Import what a run needs, resolve the jobs of the module `definitions`, and end the threads of libraries."""
    preload(definitions)
    sys.modules[definitions].defs.get_repository_def().get_all_jobs()
    with open_instance(settings) as instance:  # open it once, because this imports all of its parts
        instance.get_runs(limit=1)
    end_threads()


def preload(*modules: str) -> None:
    """Import these modules, and those that every run imports."""
    # Arrow reads this variable at import. Its allocator would otherwise purge memory in a background thread.
    with _environment("JE_ARROW_MALLOC_CONF", "background_thread:false"):
        for module in (*modules, *LAZY_MODULES):
            importlib.import_module(module)


def end_threads() -> None:
    """End the threads of libraries, and let forks share this process's memory."""
    duckdb.close()  # importing DuckDB opens a default connection, which has threads
    if os.fork() == 0:  # OpenBLAS ends its threads before a fork and restarts them when it needs them
        os._exit(0)
    os.wait()
    # The garbage collector skips frozen objects, so a fork does not copy their pages.
    gc.collect()
    gc.freeze()


@contextlib.contextmanager
def _environment(name: str, value: str) -> Iterator[None]:
    before = os.environ.get(name)
    os.environ.setdefault(name, value)
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]


if __name__ == "__main__":
    main()
