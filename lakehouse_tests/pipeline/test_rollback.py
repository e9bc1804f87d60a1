"""A table that another program rolls back: what was computed from the undone commits is computed again."""

from collections import Counter
from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime, timedelta

import pytest
from pyiceberg.table import Table

from lakehouse.auditing import audit as auditing
from lakehouse.auditing.findings import Report
from lakehouse.pipeline.exports import export_unified
from lakehouse.storage.iceberg.snapshots import history, undone
from lakehouse_tests.pipeline.own import Own, noon, payment

TODAY = datetime.now(UTC).date()
FIRST, SECOND = (TODAY - timedelta(days=back) for back in (2, 1))
LANDED = {FIRST: 3, SECOND: 2}


@pytest.fixture
def own(make_stream: Callable[..., Own]) -> Own:
    """A stream whose second run added rows to the first day and computed a second day."""
    own = make_stream()
    _run(own, {FIRST: 2})
    _run(own, {FIRST: 1, SECOND: 2})
    assert _audit(own).findings == []
    return own


def _run(own: Own, rows: Mapping[date, int]) -> None:
    for day, count in rows.items():
        own.land([payment(f"{day}-{count}-{n}", noon(day)) for n in range(count)], noon(day))
        own.refresh_realtime(f"{day}-12:00")
    own.bronze(*rows)
    _compute(own, *rows)


def _compute(own: Own, *days: date) -> None:
    own.clean(*days)
    own.below(*days)
    export_unified(own.lake, own.stream, days)


def _audit(own: Own) -> Report:
    return auditing.audit(own.lake, [own.stream], FIRST, SECOND)


def _roll_back(own: Own, name: str) -> Table:
    """Take the last commit of a table back, as pyiceberg and Spark do."""
    table = own.lake.tables.load(name)
    before = history(table)[-2]
    table.manage_snapshots().rollback_to_snapshot(before.snapshot_id).commit()
    assert own.lake.tables.load(name).metadata.current_snapshot_id == before.snapshot_id
    return own.lake.tables.load(name)


def test_rolled_back_layer_is_computed_again(own: Own) -> None:
    landed = Counter(LANDED)
    layers = ("silver.{}", "quarantine.{}", "gold.{}_daily", "serving.{}_features", "serving.{}_alerts")
    for number, layer in enumerate(layers):
        if number:  # what is undone has to be more than another computation of the same rows
            more = dict.fromkeys(LANDED, 2 + number)
            _run(own, more)
            landed.update(more)
        table = _roll_back(own, layer.format(own.name))
        assert [step for _, step in undone(table)] == [history(table)[-1].sequence_number], layer
        assert own.stale() == [FIRST, SECOND], layer
        assert _audit(own).wrong == [], layer
        _compute(own, *own.stale())
        assert own.stale() == [], layer
        assert own.counts("silver") == landed, layer
        assert _audit(own).findings == [], layer


def test_layers_follow_bronze_that_is_rolled_back(own: Own) -> None:
    _roll_back(own, f"bronze.{own.name}")
    assert own.stale() == [FIRST, SECOND]
    assert own.counts("unified") == LANDED
    _compute(own, *own.stale())
    assert own.stale() == []
    assert own.counts("silver") == Counter({FIRST: 2})
    assert own.counts("unified") == LANDED
    assert {finding.check for finding in _audit(own).findings} == {"landed = bronze"}
    own.bronze()
    assert own.stale() == [FIRST, SECOND]
    _compute(own, *own.stale())
    assert own.counts("silver") == LANDED
    assert own.stale() == []
    assert _audit(own).findings == []
