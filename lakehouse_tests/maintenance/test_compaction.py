"""Compaction merges small files, keeps the rows and their sequence numbers, and yields to writers."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import date, timedelta
from threading import Event
from typing import Any

import pytest
from pyiceberg.table import Table

from lakehouse.maintenance.compaction import Budget, compact, plan
from lakehouse.pipeline.lineage.staleness import last_changes
from lakehouse.storage.iceberg.manifests import live_entries
from lakehouse.storage.iceberg.replace import replace_files
from lakehouse.storage.iceberg.snapshots import sequence_of
from lakehouse_tests.pipeline.own import Own, noon, payment, span

FIRST = date(2018, 5, 1)
DAYS = span(FIRST, 2)
NOW = timedelta(0)


@pytest.fixture
def own(make_stream: Callable[..., Own]) -> Own:
    """A stream with two days in bronze, four small files each."""
    own = make_stream()
    for minute in range(4):
        for day in DAYS:
            own.land([payment(f"{day}-{minute}", noon(day))], noon(day) + timedelta(minutes=minute))
        own.bronze(*DAYS)
    return own


@pytest.fixture
def computed(own: Own) -> Own:
    """The same stream, computed down to serving."""
    own.clean(*DAYS)
    own.below(*DAYS)
    assert own.stale() == []
    return own


def _load(own: Own, layer: str = "bronze") -> Table:
    return own.lake.tables.load(f"{layer}.{own.name}")


def _rows(own: Own) -> list[tuple[Any, ...]]:
    return own.ask("select * from {bronze} order by _object, _row")


def test_small_files_merge_into_one_per_partition_without_row_loss(own: Own) -> None:
    rows, before = _rows(own), last_changes(_load(own))
    done = compact(own.lake, f"bronze.{own.name}", Budget(), quiet=NOW)
    assert (done.removed, done.added, done.skipped) == (8, 2, 0)
    table = _load(own)
    assert len(list(live_entries(table))) == 2
    assert _rows(own) == rows
    summary = table.current_snapshot()
    assert summary is not None
    assert summary.summary is not None
    assert summary.summary.operation.value == "replace"
    assert summary.summary["total-records"] == "8"
    assert last_changes(table) == before, "rewriting does not make rows newer"
    assert compact(own.lake, f"bronze.{own.name}", Budget(), quiet=NOW).removed == 0, "nothing left to do"


def test_compaction_makes_no_partition_stale(computed: Own) -> None:
    for layer in ("bronze", "silver", "quarantine"):
        compact(computed.lake, f"{layer}.{computed.name}", Budget(), quiet=NOW)
    assert computed.stale() == []
    assert computed.bronze(*DAYS).snapshot_id is None, "bronze knows which objects it holds"
    computed.land([payment("late", noon(DAYS[0]))], noon(DAYS[1]) + timedelta(hours=1))
    computed.bronze(DAYS[1])
    assert computed.stale() == [DAYS[0]]


def test_best_group_comes_first_and_recent_partitions_are_skipped(own: Own) -> None:
    name, before = f"bronze.{own.name}", sequence_of(_load(own))
    own.land([payment("more", noon(DAYS[1]))], noon(DAYS[1]) + timedelta(hours=1))
    own.bronze(DAYS[1])
    assert plan(_load(own)) == []
    assert [len(group.entries) for group in plan(_load(own), quiet=NOW)] == [5, 4]
    dry_run = compact(own.lake, name, Budget(), quiet=NOW, dry_run=True)
    assert (dry_run.removed, dry_run.added) == (9, 2)
    assert sequence_of(_load(own)) == before + 1, "a dry run changes nothing"
    assert compact(own.lake, name, Budget(bytes=1), quiet=NOW).removed == 5, "the next run does the rest"


def test_columns_added_later_are_null_in_older_rows(own: Own) -> None:
    with _load(own).update_schema() as update:
        update.add_column("added", _load(own).schema().find_type("event_id"))
    compact(own.lake, f"bronze.{own.name}", Budget(), quiet=NOW)
    assert own.ask("select count(*), count(added) from {bronze}") == [(8, 0)]


@pytest.fixture
def paused(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Event, Event]]:
    """Pause compaction before its commit: the first event reports the pause, the second ends it."""
    reached, resume = Event(), Event()

    def paused_replace(*arguments: Any) -> None:
        reached.set()
        assert resume.wait(30)
        replace_files(*arguments)

    monkeypatch.setattr("lakehouse.maintenance.compaction.replace_files", paused_replace)
    yield reached, resume
    resume.set()


def test_rows_appended_during_compaction_are_kept(own: Own, paused: tuple[Event, Event]) -> None:
    reached, resume = paused
    with ThreadPoolExecutor(1) as pool:
        compacting = pool.submit(compact, own.lake, f"bronze.{own.name}", Budget(), quiet=NOW)
        assert reached.wait(30)
        own.land([payment("meanwhile", noon(DAYS[0]))], noon(DAYS[0]) + timedelta(hours=2))
        own.bronze(DAYS[0])
        resume.set()
        assert compacting.result().removed == 8
    assert own.ask("select count(*), count(distinct event_id) from {bronze}") == [(9, 9)]


def test_partition_replaced_during_compaction_wins(own: Own, paused: tuple[Event, Event]) -> None:
    reached, resume = paused
    with ThreadPoolExecutor(1) as pool:
        compacting = pool.submit(compact, own.lake, f"bronze.{own.name}", Budget(), quiet=NOW)
        assert reached.wait(30)
        own.bronze(DAYS[0], replace=True)
        resume.set()
        done = compacting.result()
    assert done.skipped == 0, "the second attempt succeeds"
    assert own.ask("select count(*), count(distinct event_id) from {bronze}") == [(8, 8)]


def test_writer_after_compaction_recomputes_and_succeeds(own: Own) -> None:
    before = _load(own)
    compact(own.lake, f"bronze.{own.name}", Budget(), quiet=NOW)
    assert before.metadata_location != _load(own).metadata_location
    own.bronze(*DAYS, replace=True)
    assert own.ask("select count(*), count(distinct event_id) from {bronze}") == [(8, 8)]
