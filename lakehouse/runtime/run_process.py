"""Find the process that executes a run, from the run's tags and events. See `run_launcher` for starting and stopping."""

import os
import socket
import time
from dataclasses import dataclass

import dagster as dg
import psutil

from lakehouse.processes.child import find_running

PROCESS_TAG = "lakehouse/process"
"""The tag of a run that a command executes itself: host, process, time and run id, because retries copy tags."""

CLOCK_SECONDS = 2.0
"""Tolerance of a process's start time, which Linux counts from boot and which may seem later than its first event."""


@dataclass(frozen=True, slots=True)
class RunWorker:
    """A process of this machine that executes a run, and a time, in seconds since 1970, before which it started."""

    pid: int
    started_before: float
    is_command: bool
    """Whether it is a command that executes the run itself, and outlives it."""

    @property
    def process(self) -> psutil.Process | None:
        """The process while it runs; None when it has ended or another process has its id."""
        process = find_running(self.pid)
        return process if process and process.create_time() < self.started_before + CLOCK_SECONDS else None


def process_tag(run_id: str) -> dict[str, str]:
    """Make the tag of a run that this process is about to execute itself."""
    return {PROCESS_TAG: f"{socket.gethostname()} {os.getpid()} {time.time():.3f} {run_id}"}


def find_worker(instance: dg.DagsterInstance, run: dg.DagsterRun) -> RunWorker | None:
    """Find the process that executes the run; None when it has not reported itself yet, or is on another machine."""
    fields = run.tags.get(PROCESS_TAG, "").split(" ")
    if fields[-1] == run.run_id:
        host, pid, started_before, _ = fields
        return RunWorker(int(pid), float(started_before), True) if host == socket.gethostname() else None
    for event in instance.all_logs(run.run_id, of_type=dg.DagsterEventType.ENGINE_EVENT):
        if event.dagster_event and (value := event.dagster_event.engine_event_data.metadata.get("pid")):
            return RunWorker(int(str(value.value)), event.timestamp, False)
    return None
