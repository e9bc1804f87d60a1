"""The queue of Dagster's daemon starts a run when it is requested, not at the next poll."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from threading import Event, Timer
from typing import Any

import dagster as dg
import pytest
from dagster._daemon.daemon import DaemonIterator
from dagster._daemon.run_coordinator.queued_run_coordinator_daemon import QueuedRunCoordinatorDaemon

from lakehouse.runtime.daemon import PromptRunQueueDaemon, daemons
from lakehouse.runtime.instance import open_instance
from lakehouse.settings import Settings

TIMEOUT_SECONDS = 20.0


@pytest.fixture
def history(tmp_path: Path) -> Iterator[dg.DagsterInstance]:
    with open_instance(Settings(home=tmp_path / "home")) as history:
        yield history


def _database(history: dg.DagsterInstance) -> Path:
    return Path(history.root_directory, "history", "runs.db")


class _CountingQueue(PromptRunQueueDaemon):
    """Record each poll and start nothing."""

    def __init__(self, interval_seconds: float, database: Path | None) -> None:
        super().__init__(interval_seconds, database)
        self.polls = 0

    def run_iteration(self, *_: Any, **__: Any) -> DaemonIterator:
        self.polls += 1
        yield None


def _count_polls(queue: _CountingQueue, until: int, seconds: float) -> int:
    """Wait for this many polls, or seconds, and return the number of polls."""
    over = Event()
    Timer(seconds, over.set).start()
    for _ in queue.core_loop(None, over):
        if queue.polls >= until or over.is_set():
            break
    return queue.polls


def test_daemons_are_dagsters_with_this_queue(history: dg.DagsterInstance) -> None:
    started = list(daemons(history))
    assert {daemon.daemon_type() for daemon in started} == set(history.get_required_daemon_types())
    (queue,) = (daemon for daemon in started if isinstance(daemon, QueuedRunCoordinatorDaemon))
    assert isinstance(queue, PromptRunQueueDaemon)
    assert queue.interval_seconds == 1


@pytest.mark.parametrize("kept_open", [False, True], ids=["closed after", "kept open"])
def test_queue_polls_again_when_a_run_is_written(history: dg.DagsterInstance, kept_open: bool) -> None:
    queue = _CountingQueue(TIMEOUT_SECONDS, _database(history))

    def request_run() -> None:
        history.add_run(dg.DagsterRun("job", status=dg.DagsterRunStatus.NOT_STARTED))

    with closing(sqlite3.connect(_database(history))) as other:
        if kept_open:
            other.execute("select count(*) from runs").fetchall()
        Timer(0.3, request_run).start()
        assert _count_polls(queue, until=2, seconds=TIMEOUT_SECONDS) == 2


def test_queue_waits_while_nothing_is_written(history: dg.DagsterInstance) -> None:
    assert _count_polls(_CountingQueue(TIMEOUT_SECONDS, _database(history)), until=2, seconds=0.5) == 1


def test_queue_without_file_polls_at_intervals() -> None:
    assert _count_polls(_CountingQueue(0.1, None), until=3, seconds=TIMEOUT_SECONDS) == 3
