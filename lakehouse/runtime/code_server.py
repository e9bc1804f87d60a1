"""Dagster's code server, which loads changed definitions in place.

`python -m lakehouse.runtime.code_server MODULE PORT [IMPORT…]` serves the definitions of MODULE. A process that has
imported what definitions need, such as IMPORT, forks another, which loads them and serves them. When contracts, look-ups or
Python files change, it forks a second one; once that serves, the first ends. Where the second can't load them, it reports why, and
the first runs on. Dagster's own `dagster code-server start` imports everything again for each change, and serves an error
where definitions can't be loaded.

Dagster 1.13 does not export the command that serves, hence `dagster._cli`; it is pinned below 1.14.
"""

import importlib
import multiprocessing
import signal
import sys
import time
from contextlib import suppress
from multiprocessing.process import BaseProcess
from threading import Event
from typing import Any

import psutil

from lakehouse.contracts.streams import revision
from lakehouse.processes.atomic_file import write_private
from lakehouse.processes.file_stamps import file_stamps
from lakehouse.processes.ports import LOOPBACK
from lakehouse.processes.problems import METADATA_KEY, report_problems
from lakehouse.processes.workers import end_after_parent
from lakehouse.runtime.instance import loaded_definitions
from lakehouse.runtime.run_forker import end_threads, preload
from lakehouse.settings import Settings, get_settings

WATCH_INTERVAL_SECONDS = 0.2
"""Time between two checks of the files. A change is taken up once two checks find the same, because it is written then."""

LOAD_SECONDS = 120.0

CONTEXT: Any = multiprocessing.get_context("fork" if sys.platform == "linux" else "spawn")
"""How servers start. On macOS the system's own libraries do not survive a fork."""


class CodeServer:
    """The process that serves definitions at a port, and its successors."""

    def __init__(self, settings: Settings, definitions: str, port: int) -> None:
        self._settings = settings
        self._definitions = definitions
        self._port = port
        self._serving: BaseProcess | None = None
        self._retired: list[BaseProcess] = []

    @property
    def is_alive(self) -> bool:
        """Whether definitions are served."""
        return self._serving is not None and self._serving.is_alive()

    def stamps(self) -> object:
        """Stamp what definitions are loaded from."""
        folders = (*self._settings.streams, *self._settings.lookups)
        return revision(folders), file_stamps([*self._settings.models, *self._settings.assets])

    def load(self) -> bool:
        """Load the definitions in a new process, and serve them once they are loaded. Return whether they are."""
        arguments = self._settings, self._definitions, self._port, self._serving is None
        successor = CONTEXT.Process(target=_serve, args=arguments, name="definitions")
        successor.start()
        deadline = time.monotonic() + LOAD_SECONDS
        while not _listens(successor, self._port):
            if not successor.is_alive() or time.monotonic() > deadline:
                successor.kill()
                successor.join()
                return False
            time.sleep(0.02)
        if self._serving is not None:
            self._serving.terminate()  # it ends once the runs that it has started have ended
            self._retired.append(self._serving)
        self._serving = successor
        write_private(loaded_definitions(self._settings), f"{successor.pid}\n")
        return True

    def reap(self) -> None:
        """Collect processes that have ended: one whose runs go on ends after them."""
        self._retired = [process for process in self._retired if process.is_alive()]

    def close(self) -> None:
        """End all processes, and wait for them."""
        processes = [*self._retired, *([self._serving] if self._serving else [])]
        for process in processes:
            process.terminate()
        for process in processes:
            process.join()


def _serve(settings: Settings, definitions: str, port: int, is_first: bool) -> None:
    """Load definitions and serve them until this process or its parent is ended.

    Files that can't be loaded are reported. Only a first server serves what is left without them.
    """
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.default_int_handler)
    end_after_parent()
    try:
        loaded = importlib.import_module(definitions).defs
        loaded.get_repository_def()
        found = (loaded.metadata or {}).get(METADATA_KEY)
        problems = list(found.value) if found else []
    except Exception as error:
        report_problems(settings, "assets", [f"{definitions} can't be loaded: {error}"])
        raise
    report_problems(settings, "assets", problems)
    if problems and not is_first:
        sys.exit(f"The definitions stay as they were, because files can't be loaded:\n{chr(10).join(problems)}")
    from dagster._cli.api import grpc_command

    grpc_command.main(serving_words(definitions, port), standalone_mode=False)


def serving_words(definitions: str, port: int) -> list[str]:
    """Return the words of Dagster's command that serves. Its runs would import from the current folder first (CWE-427)."""
    return ["-m", definitions, "-h", LOOPBACK, "-p", str(port), "--empty-working-directory"]


def _listens(process: BaseProcess, port: int) -> bool:
    with suppress(psutil.Error):
        connections = psutil.Process(process.pid).net_connections("tcp")
        return any(each.status == psutil.CONN_LISTEN and each.laddr.port == port for each in connections)
    return False


def main() -> None:
    """Serve until ended, and load the definitions again whenever their files have changed."""
    definitions, port, *imports = sys.argv[1:]
    stop = Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    server = CodeServer(get_settings(), definitions, int(port))
    if sys.platform == "linux":
        preload("dagster._cli.api", "dagster._grpc.server", *imports)
        end_threads()
    handled = server.stamps()
    if not server.load():
        sys.exit(1)
    try:
        while server.is_alive and not stop.wait(WATCH_INTERVAL_SECONDS):
            server.reap()
            if (stamps := server.stamps()) == handled:
                continue
            while not stop.wait(WATCH_INTERVAL_SECONDS) and (later := server.stamps()) != stamps:
                stamps = later
            handled = stamps
            print("The definitions have changed; they are loaded again.", flush=True)
            server.load()
    finally:
        server.close()


if __name__ == "__main__":
    main()
