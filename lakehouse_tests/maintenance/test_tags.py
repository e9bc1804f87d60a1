"""A tagged snapshot does not expire, keeps its files, and can be queried by the tag's name."""

from collections.abc import Callable
from datetime import date, timedelta

import pytest

from lakehouse.errors import LakehouseError, QueryError
from lakehouse.maintenance import tags
from lakehouse.maintenance.orphans import remove_orphans
from lakehouse.pipeline.commits import expire_snapshots
from lakehouse.pipeline.lake import Lake
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


def test_tagged_snapshot_is_readable_after_expiry(own: Own) -> None:
    name = f"bronze.{own.name}"
    (tag,) = tags.create_tags(own.lake, "before", [name])
    for minute in range(1, 4):
        own.land([payment(f"e{minute}", noon(DAY))], noon(DAY) + timedelta(minutes=minute))
        own.bronze(DAY, replace=True)
    with own.lake.tables.load(name).transaction() as change:
        change.set_properties({"lakehouse.snapshots-kept": "1"})
    assert expire_snapshots(own.lake, own.lake.tables.load(name), at_least=1) == 2
    remove_orphans(own.lake, name, age=SOON)
    assert _count(own.lake, f"select count(*) from {name} at (version => 'before')") == 1
    assert _count(own.lake, f"select count(*) from {name}") == 4

    assert tags.list_tags(own.lake, [name]) == [tag]
    assert tags.delete_tags(own.lake, "before", [name]) == [tag]
    with pytest.raises(QueryError, match="has no snapshot or tag before"):
        run_query(own.lake, f"select * from {name} at (version => 'before')")
    assert expire_snapshots(own.lake, own.lake.tables.load(name), at_least=1) == 1


def test_tag_needs_a_snapshot_and_an_unused_name(own: Own) -> None:
    name = f"bronze.{own.name}"
    tags.create_tags(own.lake, "once", [name])
    with pytest.raises(LakehouseError, match=r"already has a tag once\. Remove it with: lakehouse tag delete once"):
        tags.create_tags(own.lake, "once", [name])
    with pytest.raises(LakehouseError, match="no snapshot yet"):
        tags.create_tags(own.lake, "empty", [f"silver.{own.name}"])
    with pytest.raises(LakehouseError, match="There is no tag none"):
        tags.delete_tags(own.lake, "none", [name])


@pytest.mark.parametrize("name", ["main", "", "123", "a b", "a'b", "ä"])
def test_invalid_tag_name_is_rejected(own: Own, name: str) -> None:
    with pytest.raises(LakehouseError, match="is not a valid tag name"):
        tags.create_tags(own.lake, name, [f"bronze.{own.name}"])


def test_last_snapshot_of_each_day_is_kept_for_time_travel(own: Own) -> None:
    name, day = f"bronze.{own.name}", 24 * 3600 * 1000
    for minute in range(1, 4):
        own.land([payment(f"e{minute}", noon(DAY))], noon(DAY) + timedelta(minutes=minute))
        own.bronze(DAY)
    table = own.lake.tables.load(name)
    ordered = sorted(table.metadata.snapshots, key=lambda s: s.sequence_number or 0)
    today = ordered[3].timestamp_ms // day * day
    times = [today - 40 * day, today - 3 * day + 1, today - 3 * day + 2, ordered[3].timestamp_ms]
    first, second, third, fourth = (
        snapshot.model_copy(update={"timestamp_ms": at}) for snapshot, at in zip(ordered, times, strict=True)
    )
    table.metadata = table.metadata.model_copy(update={"snapshots": [first, second, third, fourth]})
    assert snapshots.expirable(table, 1, days=30, at_least=1) == [first, second]
    assert snapshots.expirable(table, 1, days=0, at_least=1) == [first, second, third]
    assert snapshots.expirable(table, 3, days=0, at_least=1) == [first]
    assert snapshots.expirable(table, 1, days=30) == [], "two snapshots are not worth a commit during a write"
