"""The maintenance job runs every task in turn, and fails at its end if one of them failed."""

from collections.abc import Callable, Iterator
from pathlib import Path

import dagster as dg
import pytest

from lakehouse.assets import resources
from lakehouse.automation.maintenance import maintenance
from lakehouse.maintenance import tasks
from lakehouse.maintenance.tasks import TASKS, TaskReport
from lakehouse.pipeline.lake import Lake
from lakehouse.runtime.instance import open_instance
from lakehouse.settings import Settings
from lakehouse_tests.pipeline.own import Own, make_stream, shared_lake

__all__ = ["make_stream", "shared_lake"]


def test_failed_task_fails_the_run_after_every_task(
    make_stream: Callable[..., Own], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own, done = make_stream(tables=False), []
    monkeypatch.setattr(resources, "_lake", lambda: own.lake)

    def work(run: tasks.TaskRun, name: str) -> Iterator[TaskReport]:
        done.append(name)
        yield TaskReport(name, "a table", problem="is broken, fix it" if name == "expire" else "")

    def alone(name: str) -> Callable[[Lake], list[str]]:
        return lambda _: [name]

    for name in TASKS:
        monkeypatch.setitem(TASKS, name, (alone(name), work))
    with open_instance(Settings(home=tmp_path / "home")) as history:
        ended = maintenance.execute_in_process(instance=history, raise_on_error=False)
        assert done == list(TASKS)
        assert not ended.success
        (failed,) = [event for event in ended.all_events if event.event_type == dg.DagsterEventType.STEP_FAILURE]
        assert failed.step_key == "raise_errors"
        assert "expire of a table: is broken, fix it" in str(failed.event_specific_data)
        monkeypatch.setitem(TASKS, "expire", (lambda _: [], work))
        assert maintenance.execute_in_process(instance=history).success
