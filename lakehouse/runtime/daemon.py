"""Dagster's daemon, with a run queue that starts a run as soon as it is requested.

Dagster's own queue polls at intervals and sleeps at least half a second in between, so a run that could start waits for
most of a second. This one polls again when the SQLite database of runs is written to, because a run was requested or has
ended. With PostgreSQL it polls every second.

Dagster 1.13 exports none of the parts of its daemon, hence the private imports; it is pinned below 1.14.
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

WATCH_INTERVAL_SECONDS = 0.05
"""Between two checks for a write; a check costs two calls of `stat`."""

FileStamps = Sequence[tuple[int, int]]
"""Size and time of change of each file."""


class PromptRunQueueDaemon(QueuedRunCoordinatorDaemon):
    """Start queued runs within the concurrency limits, when the database of runs changes and at intervals."""

    def __init__(self, interval_seconds: float, database: Path | None) -> None:
        """Watch `database`, SQLite's file of runs; None polls at intervals only."""
        super().__init__(interval_seconds)
        self._files = [Path(f"{database}{suffix}") for suffix in ("", "-wal")] if database else []

    def core_loop(self, workspace_process_context: Any, shutdown_event: Event) -> DaemonIterator:
        """Poll the queue, then wait for a write or the end of the interval, again and again."""
        while True:
            # Stamp the files before polling, so that a write during the poll is not missed.
            stamps, until = self._stamps(), time.monotonic() + self.interval_seconds
            yield from self.run_iteration(workspace_process_context)
            while (
                time.monotonic() < until
                and self._stamps() == stamps
                and not shutdown_event.wait(WATCH_INTERVAL_SECONDS)
            ):
                yield None
            yield None

    def _stamps(self) -> FileStamps:
        return [_size_and_time(file) for file in self._files]


def _size_and_time(file: Path) -> tuple[int, int]:
    try:
        status = file.stat()
    except FileNotFoundError:  # SQLite removes its log when the last connection closes
        return 0, 0
    return status.st_size, status.st_mtime_ns


def daemons(instance: dg.DagsterInstance) -> Iterable[DagsterDaemon[Any]]:
    """List the daemons of Dagster's daemon process, with this module's queue in place of Dagster's own."""
    database = Path(instance.root_directory, "history", "runs.db")
    for daemon in create_daemons_from_instance(instance):
        if isinstance(daemon, QueuedRunCoordinatorDaemon):
            yield PromptRunQueueDaemon(daemon.interval_seconds, database if database.exists() else None)
        else:
            yield daemon


def main() -> None:
    """Run until interrupted, like `dagster-daemon run`; the command line names the workspace file."""
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
