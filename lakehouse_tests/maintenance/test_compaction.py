"""Small files become few, the rows and what is known of them stay, and writers are not in its way."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import date, timedelta
from threading import Event
from typing import Any

import pytest
from pyiceberg.table import Table

from lakehouse.maintenance.budget import Budget
from lakehouse.maintenance.compaction import compact, plan
from lakehouse.pipeline.lineage.staleness import changed, sequence_of
from lakehouse.storage.iceberg.replace import live_entries, replace_files
from lakehouse_tests.pipeline.own import Own, noon, payment, span

FIRST = date(2018, 5, 1)
DAYS = span(FIRST, 2)
NOW = timedelta(0)


@pytest.fixture
def own(make_stream: Callable[..., Own]) -> Own:
    """Two days, each of four small files in bronze."""
    own = make_stream()
    for minute in range(4):
        for day in DAYS:
            own.land([payment(f"{day}-{minute}", noon(day))], noon(day) + timedelta(minutes=minute))
        own.bronze(*DAYS)
    return own


@pytest.fixture
def computed(own: Own) -> Own:
    """The same, computed down to serving."""
    own.clean(*DAYS)
    own.below(*DAYS)
    assert own.stale() == []
    return own


def _load(own: Own, layer: str = "bronze") -> Table:
    return own.lake.tables.load(f"{layer}.{own.name}")


def _rows(own: Own) -> list[tuple[Any, ...]]:
    return own.ask("select * from {bronze} order by _object, _row")


def test_small_files_become_one_a_partition_and_every_row_stays(own: Own) -> None:
    rows, before = _rows(own), changed(_load(own))
    done = compact(own.lake, f"bronze.{own.name}", Budget(), quiet=NOW)
    assert (done.files_before, done.files_after, done.skipped) == (8, 2, 0)
    table = _load(own)
    assert len(list(live_entries(table))) == 2
    assert _rows(own) == rows
    summary = table.current_snapshot()
    assert summary is not None
    assert summary.summary is not None
    assert summary.summary.operation.value == "replace"
    assert summary.summary["total-records"] == "8"
    assert changed(table) == before, "a rewritten row is no newer row"
    assert compact(own.lake, f"bronze.{own.name}", Budget(), quiet=NOW).files_before == 0, "once is enough"


def test_nothing_is_computed_again_because_of_it(computed: Own) -> None:
    for layer in ("bronze", "silver", "quarantine"):
        compact(computed.lake, f"{layer}.{computed.name}", Budget(), quiet=NOW)
    assert computed.stale() == []
    assert computed.bronze(*DAYS).snapshot_id is None, "bronze knows which objects it holds"
    computed.land([payment("late", noon(DAYS[0]))], noon(DAYS[1]) + timedelta(hours=1))
    computed.bronze(DAYS[1])
    assert computed.stale() == [DAYS[0]]


def test_the_best_is_first_and_what_was_written_a_moment_ago_is_left_to_its_writers(own: Own) -> None:
    name, before = f"bronze.{own.name}", sequence_of(_load(own))
    own.land([payment("more", noon(DAYS[1]))], noon(DAYS[1]) + timedelta(hours=1))
    own.bronze(DAYS[1])
    assert plan(_load(own)) == []
    assert [len(group.entries) for group in plan(_load(own), quiet=NOW)] == [5, 4]
    said = compact(own.lake, name, Budget(), quiet=NOW, dry_run=True)
    assert (said.files_before, said.files_after) == (9, 2)
    assert sequence_of(_load(own)) == before + 1, "a dry run changes nothing"
    assert compact(own.lake, name, Budget(bytes=1), quiet=NOW).files_before == 5, "the rest is the next run's"


def test_columns_that_came_later_are_null_in_older_rows(own: Own) -> None:
    with _load(own).update_schema() as update:
        update.add_column("added", _load(own).schema().find_type("event_id"))
    compact(own.lake, f"bronze.{own.name}", Budget(), quiet=NOW)
    assert own.ask("select count(*), count(added) from {bronze}") == [(8, 0)]


@pytest.fixture
def paused(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Event, Event]]:
    """Holds compaction between its files and its commit: said when it is there, and waits to go on."""
    there, go_on = Event(), Event()

    def held(*arguments: Any) -> None:
        there.set()
        assert go_on.wait(30)
        replace_files(*arguments)

    monkeypatch.setattr("lakehouse.maintenance.compaction.replace_files", held)
    yield there, go_on
    go_on.set()


def test_rows_appended_meanwhile_stay_and_compaction_succeeds(own: Own, paused: tuple[Event, Event]) -> None:
    there, go_on = paused
    with ThreadPoolExecutor(1) as pool:
        compacting = pool.submit(compact, own.lake, f"bronze.{own.name}", Budget(), quiet=NOW)
        assert there.wait(30)
        own.land([payment("meanwhile", noon(DAYS[0]))], noon(DAYS[0]) + timedelta(hours=2))
        own.bronze(DAYS[0])
        go_on.set()
        assert compacting.result().files_before == 8
    assert own.ask("select count(*), count(distinct event_id) from {bronze}") == [(9, 9)]


def test_a_partition_replaced_meanwhile_is_as_its_writer_left_it(own: Own, paused: tuple[Event, Event]) -> None:
    there, go_on = paused
    with ThreadPoolExecutor(1) as pool:
        compacting = pool.submit(compact, own.lake, f"bronze.{own.name}", Budget(), quiet=NOW)
        assert there.wait(30)
        own.bronze(DAYS[0], replace=True)
        go_on.set()
        done = compacting.result()
    assert done.skipped == 0, "it tried again"
    assert own.ask("select count(*), count(distinct event_id) from {bronze}") == [(8, 8)]


def test_a_writer_that_was_slower_computes_again_and_succeeds(own: Own) -> None:
    before = _load(own)
    compact(own.lake, f"bronze.{own.name}", Budget(), quiet=NOW)
    assert before.metadata_location != _load(own).metadata_location
    own.bronze(*DAYS, replace=True)
    assert own.ask("select count(*), count(distinct event_id) from {bronze}") == [(8, 8)]
