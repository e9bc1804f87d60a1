"""Dagster's run launcher for a lakehouse: it starts a run as a fork of the run forker, which has imported everything.

It differs from Dagster's default launcher in where a run's process comes from, and in that it checks whether that process
is alive. When the run forker does not answer, the code server starts a new process, as with the default launcher.

`run_launcher` in dagster.yaml is a documented extension point, but Dagster 1.13 does not export the types that pass
between launcher and run, hence the private imports. Dagster is pinned below 1.14.
"""

import contextlib
import signal
import socket
import time
from collections.abc import Mapping
from pathlib import Path
from threading import Thread
from typing import Any, Self

import dagster as dg
import psutil
from dagster import DefaultRunLauncher, StringSource, serialize_value
from dagster._core.launcher.base import CheckRunHealthResult, LaunchRunContext, WorkerStatus
from dagster._grpc.types import ExecuteRunArgs
from dagster._serdes.config_class import ConfigurableClassData

from lakehouse.processes.home import read_state
from lakehouse.runtime.ipc import ASK_SECONDS, read_line, write_line
from lakehouse.runtime.orphaned_runs import report_dead_process
from lakehouse.runtime.run_process import RunWorker, find_worker

INTERRUPT_SECONDS = 1.5
"""Between two interrupts: enough to report the cancellation, and less than an asset waits before it retries."""

ANSWER_SECONDS = 10.0
"""How long the run forker may take to answer; it may be reloading or serving other launchers."""

START_SECONDS = 5.0
"""How long a run may take to report its process."""

CANCEL_SECONDS = 50.0
"""After which a run that is being canceled is killed; less than run monitoring waits to report it as canceled."""


class ForkingRunLauncher(DefaultRunLauncher):
    """Start runs as forks of this lakehouse's run forker; watch and stop them by their process."""

    def __init__(self, state: str, inst_data: ConfigurableClassData | None = None) -> None:
        """Take `state`, the file in which the run forker publishes its port and key."""
        super().__init__(inst_data)
        self._state = Path(state)

    @classmethod
    def config_type(cls) -> dict[str, Any]:
        """Describe its configuration in dagster.yaml."""
        return {"state": StringSource}

    @classmethod
    def from_config_value(cls, inst_data: ConfigurableClassData, config_value: Mapping[str, Any]) -> Self:
        """Make the launcher from its configuration in dagster.yaml."""
        return cls(config_value["state"], inst_data)

    def launch_run(self, context: LaunchRunContext) -> None:
        """Start the run's process: a fork of the run forker, or a process of the code server when that does not answer."""
        run = context.dagster_run
        forked = self._fork(run) if run.job_code_origin else False
        if forked is None:
            # The run forker died without an answer. If it had forked before, the run reports its process soon.
            forked = self._await_worker(run) is not None
        if not forked:
            super().launch_run(context)

    def _fork(self, run: dg.DagsterRun) -> bool | None:
        """Ask the run forker for a fork. None when it is unknown whether it forked."""
        assert run.job_code_origin is not None
        words = serialize_value(ExecuteRunArgs(run.job_code_origin, run.run_id, self._instance.get_ref()))
        try:
            forker = read_state(self._state) or {}
            channel = socket.create_connection(("127.0.0.1", forker["port"]), ASK_SECONDS)
        except (OSError, ValueError, KeyError):
            return False
        with channel:
            try:
                write_line(channel, {"key": forker["key"], "run": run.run_id, "words": words})
                return bool(read_line(channel, ANSWER_SECONDS)["forked"])
            except (OSError, ValueError, KeyError):
                return None

    def terminate(self, run_id: str) -> bool:
        """Interrupt the run, which then ends its steps in order. False when its process is gone already."""
        run = self._instance.get_run_by_id(run_id)
        if run is None or run.is_finished:
            return False
        self._instance.report_run_canceling(run)
        worker = self._await_worker(run)
        process = worker.process if worker else None
        if process is None:
            report_dead_process(self._instance, run_id, "The process of this run had ended before.")
            return False
        Thread(target=_interrupt_until_ended, args=(process,), name="interrupt-run", daemon=True).start()
        return True

    def _await_worker(self, run: dg.DagsterRun) -> RunWorker | None:
        deadline = time.monotonic() + START_SECONDS
        while (worker := find_worker(self._instance, run)) is None and time.monotonic() < deadline:
            time.sleep(0.05)
        return worker

    @property
    def supports_check_run_worker_health(self) -> bool:
        """Run monitoring may check the health of runs."""
        return True

    def check_run_worker_health(self, run: dg.DagsterRun) -> CheckRunHealthResult:
        """Check whether the run's process is alive. A process on another machine counts as running."""
        worker = find_worker(self._instance, run)
        if worker is None or worker.process is not None:
            return CheckRunHealthResult(WorkerStatus.RUNNING)
        return CheckRunHealthResult(WorkerStatus.NOT_FOUND, "The process of this run is gone; it is computed again.")


def _interrupt_until_ended(process: psutil.Process) -> None:
    """Interrupt a process until it ends, and kill it after CANCEL_SECONDS.

    An asset with retries takes the first interrupt for a failure, waits to retry, and ends at the next.
    """
    deadline = time.monotonic() + CANCEL_SECONDS
    with contextlib.suppress(psutil.NoSuchProcess):
        while time.monotonic() < deadline:
            process.send_signal(signal.SIGINT)
            with contextlib.suppress(psutil.TimeoutExpired):
                process.wait(INTERRUPT_SECONDS)
        process.kill()
