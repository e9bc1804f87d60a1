"""A tag pins a snapshot: it neither expires nor loses its files, and can be read by the tag's name."""

from collections.abc import Callable
from datetime import date, timedelta

import pytest

from lakehouse.errors import LakehouseError, QueryError
from lakehouse.maintenance import tags
from lakehouse.maintenance.orphans import remove_orphans
from lakehouse.pipeline.lake import Lake
from lakehouse.pipeline.writing import expire_old
from lakehouse.serving.query.sql import run_query
from lakehouse.storage.iceberg import snapshots
from lakehouse_tests.pipeline.own import Own, noon, payment

DAY = date(2018, 7, 1)
SOON = timedelta(seconds=-5)


@pytest.fixture
def own(make_stream: Callable[..., Own]) -> Own:
    own = make_stream()
    own.land([payment("e0", noon(DAY))], noon(DAY))
    own.bronze(DAY)
    return own


def _count(lake: Lake, sql: str) -> int:
    (row,) = run_query(lake, sql).rows
    return int(row[0])


def test_what_a_tag_pins_can_be_read_when_all_else_of_its_time_has_gone(own: Own) -> None:
    name = f"bronze.{own.name}"
    (made,) = tags.create(own.lake, "before", [name])
    for minute in range(1, 4):
        own.land([payment(f"e{minute}", noon(DAY))], noon(DAY) + timedelta(minutes=minute))
        own.bronze(DAY, replace=True)
    with own.lake.tables.load(name).transaction() as change:
        change.set_properties({"lakehouse.snapshots-kept": "1"})
    assert expire_old(own.lake, own.lake.tables.load(name), at_least=1) == 2
    remove_orphans(own.lake, name, age=SOON)
    assert _count(own.lake, f"select count(*) from {name} at (version => 'before')") == 1
    assert _count(own.lake, f"select count(*) from {name}") == 4

    assert tags.listed(own.lake, [name]) == [made]
    assert tags.delete(own.lake, "before", [name]) == [made]
    with pytest.raises(QueryError, match="has no snapshot or tag before"):
        run_query(own.lake, f"select * from {name} at (version => 'before')")
    assert expire_old(own.lake, own.lake.tables.load(name), at_least=1) == 1


def test_a_tag_is_made_once_and_on_tables_that_hold_something(own: Own) -> None:
    name = f"bronze.{own.name}"
    tags.create(own.lake, "once", [name])
    with pytest.raises(LakehouseError, match="has a tag once already; `lakehouse tag delete once` frees it"):
        tags.create(own.lake, "once", [name])
    with pytest.raises(LakehouseError, match="has nothing in it yet"):
        tags.create(own.lake, "empty", [f"silver.{own.name}"])
    with pytest.raises(LakehouseError, match="There is no tag none"):
        tags.delete(own.lake, "none", [name])


@pytest.mark.parametrize("name", ["main", "", "123", "a b", "a'b", "ä"])
def test_names_that_would_be_taken_for_something_else_are_refused(own: Own, name: str) -> None:
    with pytest.raises(LakehouseError, match="can't be a tag's name"):
        tags.create(own.lake, name, [f"bronze.{own.name}"])


def test_of_each_day_the_last_snapshot_is_kept_for_time_travel(own: Own) -> None:
    name, day = f"bronze.{own.name}", 24 * 3600 * 1000
    for minute in range(1, 4):
        own.land([payment(f"e{minute}", noon(DAY))], noon(DAY) + timedelta(minutes=minute))
        own.bronze(DAY)
    table = own.lake.tables.load(name)
    made = sorted(table.metadata.snapshots, key=lambda s: s.sequence_number or 0)
    today = made[3].timestamp_ms // day * day
    times = [today - 40 * day, today - 3 * day + 1, today - 3 * day + 2, made[3].timestamp_ms]
    first, second, third, fourth = (
        snapshot.model_copy(update={"timestamp_ms": at}) for snapshot, at in zip(made, times, strict=True)
    )
    table.metadata = table.metadata.model_copy(update={"snapshots": [first, second, third, fourth]})
    assert snapshots.expirable(table, 1, days=30, at_least=1) == [first, second]
    assert snapshots.expirable(table, 1, days=0, at_least=1) == [first, second, third]
    assert snapshots.expirable(table, 3, days=0, at_least=1) == [first]
    assert snapshots.expirable(table, 1, days=30) == [], "two are not worth a commit to a writer"
