"""Dagster's run launcher of a lakehouse: a run is forked from a process that has imported everything, when there is one.

It differs from Dagster's default in where the process of a run comes from, and in that it sees whether that process
lives. What runs in it, its logs, its retries and the queue's limits are Dagster's own. The process to fork from is
`warm.py`'s; where none answers, the code server starts a new one, as Dagster's default launcher does.

Dagster names this way of extension (`run_launcher` in dagster.yaml); what passes between launcher and run is not
public, hence `dagster._core`. Dagster is pinned below 1.14.
"""

import contextlib
import json
import signal
import socket
import time
from collections.abc import Mapping
from pathlib import Path
from threading import Thread
from typing import Any, Self

import dagster as dg
import psutil
from dagster import DefaultRunLauncher
from dagster._config import StringSource
from dagster._core.launcher.base import CheckRunHealthResult, LaunchRunContext, WorkerStatus
from dagster._grpc.types import ExecuteRunArgs
from dagster._serdes import serialize_value
from dagster._serdes.config_class import ConfigurableClassData

from lakehouse.runtime.ipc import ASK_SECONDS, read_line, write_line
from lakehouse.runtime.orphaned_runs import report_dead_process
from lakehouse.runtime.run_process import RunWorker, find_worker

INTERRUPT_SECONDS = 1.5
"""Between two interruptions: time to write down that it was stopped, and less than an asset waits to try again."""

ANSWER_SECONDS = 10.0
"""How long the warm process may take to answer; it may be loading anew or serving others."""

START_SECONDS = 5.0
"""How long a run may take to say which process it is."""

CANCEL_SECONDS = 50.0
"""After which a run that was asked to stop is killed; before run monitoring says that it has been canceled."""


class ForkingRunLauncher(DefaultRunLauncher):
    """Starts runs in a fork of the warm process of this lakehouse; watches and stops them by their process."""

    def __init__(self, state: str, inst_data: ConfigurableClassData | None = None) -> None:
        """`state` is the file in which the warm process says where it is."""
        super().__init__(inst_data)
        self._state = Path(state)

    @classmethod
    def config_type(cls) -> dict[str, Any]:
        """What dagster.yaml says of it."""
        return {"state": StringSource}

    @classmethod
    def from_config_value(cls, inst_data: ConfigurableClassData, config_value: Mapping[str, Any]) -> Self:
        """Made by Dagster from dagster.yaml."""
        return cls(config_value["state"], inst_data)

    def launch_run(self, context: LaunchRunContext) -> None:
        """Start the run's process; where there is no warm one to fork from, the code server makes it."""
        run = context.dagster_run
        forked = self._fork(run) if run.job_code_origin else False
        if forked is None:
            # It was asked and gave no answer; if it forked before it died the run says so within a moment.
            forked = self._await_worker(run) is not None
        if not forked:
            super().launch_run(context)

    def _fork(self, run: dg.DagsterRun) -> bool | None:
        """Ask the warm process; None when it may have forked and may have not."""
        assert run.job_code_origin is not None
        words = serialize_value(ExecuteRunArgs(run.job_code_origin, run.run_id, self._instance.get_ref()))
        try:
            found = json.loads(self._state.read_text())
            channel = socket.create_connection(("127.0.0.1", found["port"]), ASK_SECONDS)
        except (OSError, ValueError, KeyError):
            return False
        with channel:
            try:
                write_line(channel, {"key": found["key"], "run": run.run_id, "words": words})
                return bool(read_line(channel, ANSWER_SECONDS)["forked"])
            except (OSError, ValueError, KeyError):
                return None

    def terminate(self, run_id: str) -> bool:
        """Interrupt the run, which then ends its steps in order; False when there was no process to interrupt."""
        run = self._instance.get_run_by_id(run_id)
        if run is None or run.is_finished:
            return False
        self._instance.report_run_canceling(run)
        worker = self._await_worker(run)
        process = worker.process if worker else None
        if process is None:
            report_dead_process(self._instance, run_id, "The process of this run had ended before.")
            return False
        Thread(target=_see_off, args=(process,), name="see-off", daemon=True).start()
        return True

    def _await_worker(self, run: dg.DagsterRun) -> RunWorker | None:
        deadline = time.monotonic() + START_SECONDS
        while (found := find_worker(self._instance, run)) is None and time.monotonic() < deadline:
            time.sleep(0.05)
        return found

    @property
    def supports_check_run_worker_health(self) -> bool:
        """Run monitoring may ask."""
        return True

    def check_run_worker_health(self, run: dg.DagsterRun) -> CheckRunHealthResult:
        """Whether the run's process lives, as far as this machine can tell."""
        worker = find_worker(self._instance, run)
        if worker is None or worker.process is not None:
            return CheckRunHealthResult(WorkerStatus.RUNNING)
        return CheckRunHealthResult(WorkerStatus.NOT_FOUND, "The process of this run is gone; it is computed again.")


def _see_off(process: psutil.Process) -> None:
    """Interrupt it until it ends. An asset that may be tried again takes one interruption for a failure to try again
    after, and ends at the next, before it begins.
    """
    deadline = time.monotonic() + CANCEL_SECONDS
    with contextlib.suppress(psutil.NoSuchProcess):
        while time.monotonic() < deadline:
            process.send_signal(signal.SIGINT)
            with contextlib.suppress(psutil.TimeoutExpired):
                process.wait(INTERRUPT_SECONDS)
        process.kill()
