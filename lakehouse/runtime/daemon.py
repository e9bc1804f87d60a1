"""Dagster's daemon with a queue that starts a run as soon as it is asked for.

Dagster's own looks at the queue at intervals and sleeps half a second at least in between, so a run that nothing holds up
waits for most of a second. Here it looks again when the database of runs has been written to: somebody asked for a run, or
one has ended and left its place. Where that database is a server it looks every second.

What a daemon consists of is not public in Dagster, hence `dagster._core` and `dagster._daemon`; Dagster is pinned below 1.14.
"""

import sys
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from threading import Event
from typing import Any

import dagster as dg
from dagster._core.workspace.load_target import WorkspaceFileTarget
from dagster._daemon.controller import create_daemons_from_instance, daemon_controller_from_instance
from dagster._daemon.daemon import DaemonIterator, DagsterDaemon
from dagster._daemon.run_coordinator.queued_run_coordinator_daemon import QueuedRunCoordinatorDaemon
from dagster._utils.interrupts import capture_interrupts

LOOK_SECONDS = 0.05
"""Between two looks at whether something was written; a look asks the file system for two sizes and times."""

Stamp = Sequence[tuple[int, int]]


class PromptRunQueueDaemon(QueuedRunCoordinatorDaemon):
    """Starts queued runs, within the limits there are, when the database of runs changes and at intervals."""

    def __init__(self, interval_seconds: float, database: Path | None) -> None:
        """`database` is SQLite's file of runs, None where there is no such file."""
        super().__init__(interval_seconds)
        self._files = [Path(f"{database}{suffix}") for suffix in ("", "-wal")] if database else []

    def core_loop(self, workspace_process_context: Any, shutdown_event: Event) -> DaemonIterator:
        """Look, then wait for a change or for the interval to be over, again and again."""
        while True:
            # Taken before the look: what is written meanwhile is looked at, too.
            seen, until = self._stamp(), time.monotonic() + self.interval_seconds
            yield from self.run_iteration(workspace_process_context)
            while time.monotonic() < until and self._stamp() == seen and not shutdown_event.wait(LOOK_SECONDS):
                yield None
            yield None

    def _stamp(self) -> Stamp:
        return [_size_and_time(file) for file in self._files]


def _size_and_time(file: Path) -> tuple[int, int]:
    try:
        found = file.stat()
    except FileNotFoundError:  # SQLite's log is there while somebody has the database open
        return 0, 0
    return found.st_size, found.st_mtime_ns


def daemons(instance: dg.DagsterInstance) -> Iterable[DagsterDaemon[Any]]:
    """What Dagster's daemon consists of, with the queue of this module for Dagster's own."""
    database = Path(instance.root_directory, "history", "runs.db")
    for one in create_daemons_from_instance(instance):
        if isinstance(one, QueuedRunCoordinatorDaemon):
            yield PromptRunQueueDaemon(one.interval_seconds, database if database.exists() else None)
        else:
            yield one


def main() -> None:
    """Run until ended; the command line names the workspace file. Otherwise as `dagster-daemon run` does."""
    workspace = WorkspaceFileTarget([sys.argv[1]])
    try:
        with (
            capture_interrupts(),
            dg.DagsterInstance.get() as instance,
            daemon_controller_from_instance(
                instance, workspace, gen_daemons=daemons, code_server_log_level="warning"
            ) as controller,
        ):
            controller.check_daemon_loop()
    except KeyboardInterrupt:
        return


if __name__ == "__main__":
    main()
