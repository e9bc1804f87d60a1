"""Concurrent runs and killed runs leave every partition right, and the last good snapshot readable."""

import os
import signal
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import date, timedelta
from functools import partial
from itertools import count
from multiprocessing.process import BaseProcess
from pathlib import Path
from threading import Barrier
from typing import Any
from unittest.mock import patch

import pytest

from lakehouse.pipeline import bronze, commits, realtime, silver
from lakehouse.pipeline.lake import Lake
from lakehouse.settings import Settings
from lakehouse.storage.iceberg import commit as committing
from lakehouse_tests import forked
from lakehouse_tests.pipeline.own import Own, assert_conserved, noon, payment, span

DAY = date(2018, 7, 1)
WRITERS = 3


@pytest.fixture
def own(make_stream: Callable[..., Own]) -> Own:
    return make_stream()


def _start(own: Own, layer: str, killed_at: int = 0, day: date = DAY) -> BaseProcess:
    """Run a layer in a process of its own; with `killed_at`, kill it when its nth commit is due."""
    arguments = (str(own.lake.settings.root), str(own.stream.folder.parent), own.name, layer, killed_at, day)
    return forked.start(_run_layer, arguments)


def _run_layer(home: str, streams: str, name: str, layer: str, killed_at: int, day: date) -> None:
    lake = Lake(Settings(home=Path(home), streams=(Path(streams),)))
    stream = lake.stream(name)
    if killed_at:
        _kill_at_commit(killed_at)
    match layer:
        case "bronze":
            bronze.ingest_days(lake, stream, [day])
        case "bronze again":
            bronze.ingest_days(lake, stream, [day], replace=True)
        case "silver":
            silver.clean_days(lake, stream, [day])
        case "realtime":
            realtime.ingest_hours(lake, stream, [f"{day}-12:00"])
        case _:
            raise ValueError(layer)


def _kill_at_commit(number: int) -> None:
    """Kill this process when its files are written and its nth commit is due."""
    calls = count(1)

    def kill_or_commit(*arguments: Any, **options: Any) -> Any:
        if next(calls) == number:
            os.kill(os.getpid(), signal.SIGKILL)
        return committing.commit(*arguments, **options)

    patch.object(commits, "commit", kill_or_commit).start()


def _exit_code(process: BaseProcess) -> int | None:
    process.join(120)
    return process.exitcode


def _together(runs: Sequence[Callable[[], object]]) -> None:
    """Run all at once; the first failure is raised."""
    start = Barrier(len(runs))

    def start_together(run: Callable[[], object]) -> object:
        start.wait()
        return run()

    with ThreadPoolExecutor(len(runs)) as pool:
        list(pool.map(start_together, runs))


def _apart(own: Own) -> Own:
    """Return the same stream for another thread: nothing but storage is shared."""
    return Own(_lake_of(own), own.stream)


def _lake_of(own: Own) -> Lake:
    lake = Lake(own.lake.settings, own.lake.connection)
    lake.streams = own.lake.streams
    lake.engine = own.lake.engine
    return lake


def test_concurrent_bronze_runs_ingest_each_object_once(own: Own) -> None:
    for number in range(4):
        own.land([payment(f"e{number}", noon(DAY))], noon(DAY) + timedelta(minutes=number))
    _together([partial(_apart(own).bronze, DAY) for _ in range(WRITERS)])
    assert own.ask("select _object, count(*) from {bronze} group by all having count(*) > 1") == []
    assert own.counts("bronze") == {DAY: 4}


def test_concurrent_append_and_replacement_ingest_objects_once(own: Own) -> None:
    own.land([payment("a", noon(DAY))], noon(DAY))
    own.bronze(DAY)
    own.land([payment("b", noon(DAY))], noon(DAY) + timedelta(minutes=1))
    first, second = _apart(own), _apart(own)
    _together([lambda: first.bronze(DAY), lambda: second.bronze(DAY, replace=True)])
    assert sorted(own.ask("select event_id from {bronze}")) == [("a",), ("b",)]


def test_concurrent_silver_runs_of_one_day_conserve_rows(own: Own) -> None:
    own.land([payment("a", noon(DAY)), *[payment(f"b{n}", noon(DAY)) for n in range(30)], "{"], noon(DAY))
    own.bronze(DAY)
    _together([partial(_apart(own).clean, DAY) for _ in range(WRITERS)])
    assert (own.counts("silver"), own.counts("quarantine")) == ({DAY: 31}, {DAY: 1})


def test_concurrent_silver_runs_of_two_days_conserve_rows(own: Own) -> None:
    days = span(DAY, WRITERS)
    own.land([payment(f"e{day}", noon(day)) for day in days], noon(days[-1]))
    own.bronze(days[-1])
    _together([partial(_apart(own).clean, day) for day in days])
    assert own.counts("silver") == dict.fromkeys(days, 1)
    for day in days:
        assert_conserved(own, own.clean(day))


def test_concurrent_realtime_runs_ingest_each_object_once(own: Own) -> None:
    for number in range(3):
        own.land([payment(f"e{number}", noon(DAY))], noon(DAY) + timedelta(minutes=number))
    _together([partial(_apart(own).refresh_realtime, f"{DAY}-12:00") for _ in range(WRITERS)])
    assert own.ask("select count(*), count(distinct _object) from {realtime}") == [(3, 3)]


def test_silver_is_stale_if_bronze_grew_meanwhile(own: Own, monkeypatch: pytest.MonkeyPatch) -> None:
    own.land([payment("a", noon(DAY))], noon(DAY))
    own.bronze(DAY)
    commit = committing.commit

    def late(table, *rest, **more):  # type: ignore[no-untyped-def]  # stands before pyiceberg's
        if table.name()[0] == "quarantine":
            monkeypatch.setattr(commits, "commit", commit)
            own.land([payment("b", noon(DAY))], noon(DAY) + timedelta(minutes=1))
            own.bronze(DAY)
        return commit(table, *rest, **more)

    monkeypatch.setattr(commits, "commit", late)
    own.clean(DAY)
    assert own.counts("silver") == {DAY: 1}
    own.below(DAY)
    assert own.stale() == [DAY]
    own.clean(DAY)
    assert own.counts("silver") == {DAY: 2}


def test_two_processes_ingest_a_day_once(own: Own) -> None:
    for number in range(3):
        own.land([payment(f"e{number}", noon(DAY))], noon(DAY) + timedelta(minutes=number))
    processes = [_start(own, "bronze") for _ in range(2)]
    assert [_exit_code(process) for process in processes] == [0, 0]
    assert own.ask("select count(*), count(distinct _object) from {bronze}") == [(3, 3)]


@pytest.fixture(scope="module")
def killed(make_shared_stream: Callable[..., Own]) -> Own:
    """A stream for runs that are killed, each of a day of its own."""
    return make_shared_stream()


@pytest.mark.parametrize(
    ("layer", "killed_at", "day"),
    [
        pytest.param("bronze", 1, DAY, id="bronze before its commit"),
        pytest.param("bronze again", 1, DAY + timedelta(2), id="a replacement of bronze before its commit"),
        pytest.param("silver", 1, DAY + timedelta(4), id="silver before both commits"),
        pytest.param("silver", 2, DAY + timedelta(6), id="silver between the commit of quarantine and its own"),
        pytest.param("realtime", 1, DAY + timedelta(8), id="realtime before its commit"),
    ],
)
def test_run_killed_before_its_commit_can_be_repeated(killed: Own, layer: str, killed_at: int, day: date) -> None:
    own = killed
    count_unified = f"select count(*), count(distinct event_id) from {{unified}} where dt = date '{day}'"
    own.land([payment("a", noon(day)), payment("b", noon(day))], noon(day))
    own.bronze(day)
    own.clean(day)
    own.refresh_realtime(f"{day}-12:00")
    own.land(
        [*[payment(f"c{n}", noon(day)) for n in range(30)], payment("a", noon(day), amount="9"), "{"],
        noon(day) + timedelta(minutes=1),
    )
    if layer == "silver":
        own.bronze(day)
    held = {name: own.counts(name) for name in ("bronze", "silver", "realtime")}
    unified = own.ask(count_unified)

    assert _exit_code(_start(own, layer, killed_at, day)) == -signal.SIGKILL

    assert {name: own.counts(name) for name in held} == held
    assert own.ask(count_unified) == unified

    own.bronze(day)
    assert day in own.stale()
    cleaned = own.clean(day)
    own.refresh_realtime(f"{day}-12:00")
    assert_conserved(own, cleaned)
    ledger = cleaned.ledgers[day]
    assert (ledger.landed, ledger.silver, ledger.quarantined, ledger.duplicates) == (34, 32, 1, 1)
    assert own.counts("realtime")[day] == 33
    assert own.ask(count_unified) == [(32, 32)]
