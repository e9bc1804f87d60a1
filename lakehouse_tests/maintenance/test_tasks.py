"""Every task runs over a whole lake, says what it did, and leaves what the lake holds as it was."""

from collections.abc import Callable, Iterator
from datetime import date, timedelta

import pytest

from lakehouse.errors import LakehouseError
from lakehouse.maintenance import tasks
from lakehouse.maintenance.manifests import tidy
from lakehouse.maintenance.tasks import TASKS, Outcome, run_task
from lakehouse.pipeline.lake import Lake
from lakehouse.pipeline.writing import expire_old
from lakehouse_tests.pipeline.own import Own, noon, payment

DAY = date(2018, 8, 1)


def test_many_manifests_become_few_and_nothing_is_newer_for_it(make_stream: Callable[..., Own]) -> None:
    own = make_stream()
    name = f"bronze.{own.name}"
    with own.lake.tables.load(name).transaction() as change:
        change.set_properties({"commit.manifest-merge.enabled": "false"})
    for minute in range(8):
        own.land([payment(f"e{minute}", noon(DAY))], noon(DAY) + timedelta(minutes=minute))
        own.bronze(DAY)
    own.clean(DAY)
    own.below(DAY)
    assert (tidy(own.lake, name, dry_run=True).before, own.stale()) == (8, [])
    merged = tidy(own.lake, name)
    assert (merged.before, merged.after, own.stale()) == (8, 1, [])
    assert own.ask("select count(*), count(distinct event_id) from {bronze}") == [(8, 8)]
    assert tidy(own.lake, name).after == 1
    assert own.bronze(DAY).snapshot_id is None


def test_a_day_that_the_gate_refused_stays_refused_when_the_snapshot_that_says_so_has_expired(
    make_stream: Callable[..., Own],
) -> None:
    own = make_stream()
    own.land([payment("good", noon(DAY)), payment("bad", noon(DAY), amount="-1")], noon(DAY))
    own.drop(b"event_id,event_time,account_id,amount,currency,type,status\n", "header.csv")
    own.bronze()
    assert own.clean(DAY).held_back == [DAY]
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
        assert expire_old(own.lake, own.lake.tables.load(f"{layer}.{own.name}"), at_least=1) > 0
    assert own.stale() == []
    assert own.bronze().snapshot_id is None, "the file without rows is not read again"


def test_a_table_that_fails_keeps_no_other_from_its_turn(
    make_stream: Callable[..., Own], monkeypatch: pytest.MonkeyPatch
) -> None:
    own = make_stream()

    def work(run: tasks.Run, name: str) -> Iterator[Outcome]:
        if name == "one":
            raise LakehouseError("it is broken; mend it")
        if name == "two":
            raise KeyError("surprise")
        yield Outcome("compact", name, "done")

    monkeypatch.setitem(TASKS, "compact", (lambda _: ["one", "two", "three"], work))
    assert [(o.what, o.done, o.problem) for o in run_task(own.lake, "compact")] == [
        ("one", "", "it is broken; mend it"),
        ("two", "", "KeyError: 'surprise'"),
        ("three", "done", ""),
    ]


@pytest.mark.parametrize("task", TASKS)
def test_every_task_runs_over_the_whole_lake(make_stream: Callable[..., Own], task: str) -> None:
    own = make_stream()
    own.lake.tables.names = lambda: [f"{layer}.{own.name}" for layer in ("bronze", "realtime")]  # type: ignore[method-assign]
    assert isinstance(own.lake, Lake)
    assert [outcome.problem for outcome in run_task(own.lake, task) if outcome.problem] == []
