"""Every maintenance task runs over a whole lake, reports its changes, and leaves the rows as they are."""

from collections.abc import Callable, Iterator
from datetime import date, timedelta

import pytest

from lakehouse.errors import LakehouseError
from lakehouse.maintenance import tasks
from lakehouse.maintenance.file_changes import FileChanges
from lakehouse.maintenance.manifests import merge_small_manifests
from lakehouse.maintenance.tasks import TASKS, TaskReport, run_task
from lakehouse.pipeline.commits import expire_snapshots
from lakehouse.pipeline.lake import Lake
from lakehouse_tests.pipeline.own import Own, noon, payment

DAY = date(2018, 8, 1)


def test_merging_manifests_makes_nothing_stale(make_stream: Callable[..., Own]) -> None:
    own = make_stream()
    name = f"bronze.{own.name}"
    with own.lake.tables.load(name).transaction() as change:
        change.set_properties({"commit.manifest-merge.enabled": "false"})
    for minute in range(8):
        own.land([payment(f"e{minute}", noon(DAY))], noon(DAY) + timedelta(minutes=minute))
        own.bronze(DAY)
    own.clean(DAY)
    own.below(DAY)
    assert (merge_small_manifests(own.lake, name, dry_run=True).removed, own.stale()) == (8, [])
    merged = merge_small_manifests(own.lake, name)
    assert (merged.removed, merged.added, own.stale()) == (8, 1, [])
    assert own.ask("select count(*), count(distinct event_id) from {bronze}") == [(8, 8)]
    assert merge_small_manifests(own.lake, name) == FileChanges(name), "one manifest is left as it is"
    assert own.bronze(DAY).snapshot_id is None


def test_blocked_day_stays_blocked_after_snapshot_expiry(
    make_stream: Callable[..., Own],
) -> None:
    own = make_stream()
    own.land([payment("good", noon(DAY)), payment("bad", noon(DAY), amount="-1")], noon(DAY))
    own.drop(b"event_id,event_time,account_id,amount,currency,type,status\n", "header.csv")
    own.bronze()
    assert own.clean(DAY).blocked == [DAY]
    assert own.stale() == []
    for layer in ("bronze", "quarantine", "silver"):
        name = f"{layer}.{own.name}"
        own.clean(DAY + timedelta(days=1))
        own.land([payment(layer, noon(DAY + timedelta(days=1)))], noon(DAY + timedelta(days=1)) + timedelta(minutes=1))
        own.bronze(DAY + timedelta(days=1))
        with own.lake.tables.load(name).transaction() as change:
            change.set_properties({"lakehouse.snapshots-kept": "1"})
    own.clean(DAY + timedelta(days=1))
    own.below(DAY + timedelta(days=1))
    for layer in ("bronze", "quarantine", "silver"):
        assert expire_snapshots(own.lake, own.lake.tables.load(f"{layer}.{own.name}"), at_least=1) > 0
    assert own.stale() == []
    assert own.bronze().snapshot_id is None, "an object without rows is not read again"


def test_failure_in_one_table_does_not_stop_the_others(
    make_stream: Callable[..., Own], monkeypatch: pytest.MonkeyPatch
) -> None:
    own = make_stream()

    def work(run: tasks.TaskRun, name: str) -> Iterator[TaskReport]:
        if name == "one":
            raise LakehouseError("broken, fix it")
        if name == "two":
            raise KeyError("surprise")
        yield TaskReport("compact", name, "done")

    monkeypatch.setitem(TASKS, "compact", (lambda _: ["one", "two", "three"], work))
    assert [(report.what, report.done, report.problem) for report in run_task(own.lake, "compact")] == [
        ("one", "", "broken, fix it"),
        ("two", "", "KeyError: 'surprise'"),
        ("three", "done", ""),
    ]


@pytest.mark.parametrize("task", TASKS)
def test_task_runs_over_the_whole_lake(make_stream: Callable[..., Own], task: str) -> None:
    own = make_stream()
    own.lake.tables.names = lambda: [f"{layer}.{own.name}" for layer in ("bronze", "realtime")]  # type: ignore[method-assign]
    assert isinstance(own.lake, Lake)
    assert [report.problem for report in run_task(own.lake, task) if report.problem] == []
