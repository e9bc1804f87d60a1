"""The process that executes a run, as the run's tags and events tell it. Starting and ending one belong elsewhere."""

import os
import socket
import time
from dataclasses import dataclass

import dagster as dg
import psutil

from lakehouse.processes.child import find_running

PROCESS_TAG = "lakehouse/process"
"""Of a run that a command executes itself: host, process, time and the run, for Dagster copies tags to repetitions."""

CLOCK_SECONDS = 2.0
"""By which a process may seem to have begun after it said something: Linux counts that from its boot on."""


@dataclass(frozen=True, slots=True)
class RunWorker:
    """A process of this machine that executes a run, and a time, in seconds since 1970, by which it had begun."""

    pid: int
    begun_by: float
    is_command: bool
    """Whether it is a command that executes the run itself, and goes on afterwards."""

    @property
    def process(self) -> psutil.Process | None:
        """The process while it lives; None for one that got its number later."""
        process = find_running(self.pid)
        return process if process and process.create_time() < self.begun_by + CLOCK_SECONDS else None


def process_tag(run_id: str) -> dict[str, str]:
    """The tag of a run that this process is about to execute itself."""
    return {PROCESS_TAG: f"{socket.gethostname()} {os.getpid()} {time.time():.3f} {run_id}"}


def find_worker(instance: dg.DagsterInstance, run: dg.DagsterRun) -> RunWorker | None:
    """The process that executes the run; None when it has not said so yet, or is another machine's."""
    said = run.tags.get(PROCESS_TAG, "").split(" ")
    if said[-1] == run.run_id:
        host, pid, begun_by, _ = said
        return RunWorker(int(pid), float(begun_by), True) if host == socket.gethostname() else None
    for event in instance.all_logs(run.run_id, of_type=dg.DagsterEventType.ENGINE_EVENT):
        if event.dagster_event and (value := event.dagster_event.engine_event_data.metadata.get("pid")):
            return RunWorker(int(str(value.value)), event.timestamp, False)
    return None
