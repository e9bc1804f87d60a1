"""Exactly the stale days are computed again, and table metadata is enough to find them."""

from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta

import pytest

from lakehouse.contracts.odcs import load_contract
from lakehouse.contracts.streams import Stream
from lakehouse.pipeline import bronze
from lakehouse.pipeline.alerts import write_alerts
from lakehouse.pipeline.features import affected_days
from lakehouse.pipeline.lineage.staleness import last_changes, stale_days
from lakehouse.pipeline.refresh import pending_files
from lakehouse.storage.iceberg import snapshots
from lakehouse.storage.iceberg.snapshots import sequence_of
from lakehouse_tests.pipeline.own import Own, noon, payment, span

FIRST = date(2017, 5, 1)
DAYS = span(FIRST, 3)
OLD = date(2015, 2, 3)
START = "  - property: historyStart\n    value: "


@pytest.fixture
def own(make_stream: Callable[..., Own]) -> Own:
    return make_stream()


@pytest.fixture
def fresh(own: Own) -> Own:
    """A stream with three days, all computed down to serving."""
    return _computed(own)


@pytest.fixture(scope="module")
def shared(make_shared_stream: Callable[..., Own]) -> Own:
    """Such a stream for tests that add no row and leave nothing stale."""
    return _computed(make_shared_stream())


@pytest.fixture
def ingested(own: Own) -> Own:
    """A stream with three days in bronze."""
    return _ingested(own)


def _ingested(own: Own) -> Own:
    for day in DAYS:
        own.land([payment(f"e{day}", noon(day))], noon(day))
    own.bronze()
    return own


def _computed(own: Own) -> Own:
    _ingested(own)
    assert own.stale() == DAYS
    own.clean(*DAYS)
    own.below(*DAYS)
    assert own.stale() == []
    return own


def test_late_row_makes_only_its_day_stale(fresh: Own) -> None:
    fresh.land([payment("late", noon(OLD))], noon(DAYS[2]) + timedelta(minutes=1))
    landed = fresh.bronze(DAYS[2])
    assert landed.event_dates == [OLD]
    assert fresh.stale() == [OLD]
    fresh.clean(OLD)
    fresh.below(OLD)
    assert fresh.stale() == []


def test_repeated_bronze_run_makes_nothing_stale(shared: Own) -> None:
    before = shared.snapshots("bronze")
    assert dict(shared.bronze(*DAYS).partitions) == {
        day: dict.fromkeys(("rows", "bytes", "files", "objects"), 0) for day in DAYS
    }
    assert shared.snapshots("bronze") == before
    assert shared.stale() == []


def test_replaced_bronze_day_makes_its_event_dates_stale(fresh: Own) -> None:
    fresh.bronze(DAYS[1], replace=True)
    assert fresh.stale() == [DAYS[1]]


def test_layers_below_recomputed_silver_are_stale(shared: Own) -> None:
    shared.clean(DAYS[1])
    assert shared.stale() == [DAYS[1]]
    silver = shared.lake.tables.load(f"silver.{shared.name}")
    for table in (f"gold.{shared.name}_daily", f"serving.{shared.name}_features", f"serving.{shared.name}_alerts"):
        assert stale_days(silver, shared.lake.tables.load(table)) == [DAYS[1]], table
    shared.below(DAYS[1])
    assert shared.stale() == []


def _edited(own: Own, file: str, old: str, new: str) -> Own:
    """Open the same stream after an edit of one of its files."""
    path = own.stream.folder / file
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))
    stream = Stream(own.name, own.stream.folder, load_contract(own.stream.folder))
    own.lake.streams = {own.name: stream}
    return Own(own.lake, stream)


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        pytest.param(
            "contract.odcs.yaml", "- value: declined", "- value: declined\n          - value: lost", id="rule"
        ),
        pytest.param("silver.sql", "5000", "6000", id="silver"),
        pytest.param("gold.sql", "count(*)", "1 * count(*)", id="gold"),
        pytest.param("features.sql", "count(", "1 * count(", id="features"),
        pytest.param("alerts.sql", "10000.00 as high_value", "20000.00 as high_value", id="alerts"),
    ],
)
def test_days_of_another_definition_are_stale_until_recomputed(edited: Own, file: str, old: str, new: str) -> None:
    own = _edited(edited, file, old, new)
    assert own.stale() == DAYS
    own.clean(*DAYS)
    own.below(*DAYS)
    assert own.stale() == []


@pytest.fixture(scope="module")
def edited(make_shared_stream: Callable[..., Own]) -> Own:
    """A stream with three computed days, whose definition each test changes once more."""
    return _computed(make_shared_stream())


def test_comment_in_sql_makes_nothing_stale(shared: Own) -> None:
    assert _edited(shared, "silver.sql", "5000", "5000 /* cents */").stale() == []


def test_days_before_a_later_history_start_are_not_stale(fresh: Own) -> None:
    """No run computes them, so asking for them would never end."""
    own = _edited(fresh, "contract.odcs.yaml", "customProperties:", f"customProperties:\n{START}{DAYS[1]}")
    assert own.stale() == DAYS[1:]


def test_metrics_older_than_gold_are_stale(shared: Own) -> None:
    shared.gold(DAYS[0])
    assert shared.stale() == [DAYS[0]]
    shared.below(DAYS[0])
    assert shared.stale() == []


def test_day_without_rows_counts_as_computed(own: Own) -> None:
    cleaned = own.clean(FIRST)
    own.below(FIRST)
    assert (cleaned.ledgers[FIRST].landed, cleaned.ledgers[FIRST].conserved) == (0, True)
    assert cleaned.silver.partitions[str(FIRST)]["rows"] == 0
    assert own.stale() == []


def test_fully_quarantined_day_is_computed_once(own: Own) -> None:
    own.land(["{", "]"], noon(FIRST))
    own.bronze()
    assert own.stale() == [FIRST]
    own.clean(FIRST)
    own.below(FIRST)
    assert own.stale() == []


def test_days_stay_computed_after_snapshot_expiry(fresh: Own, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(snapshots, "MIN_SNAPSHOTS_TO_EXPIRE", 1)
    table = f"serving.{fresh.name}_alerts"
    with fresh.lake.tables.load(table).transaction() as change:
        change.set_properties({"lakehouse.snapshots-kept": "2"})
    for _ in range(4):
        write_alerts(fresh.lake, fresh.stream, [DAYS[2]])
    assert len(fresh.lake.tables.load(table).metadata.snapshots) <= 3
    assert fresh.stale() == []
    fresh.clean(DAYS[0])
    assert fresh.stale() == [DAYS[0]]


def test_realtime_keeps_few_snapshots_and_all_rows(own: Own, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(snapshots, "MIN_SNAPSHOTS_TO_EXPIRE", 2)
    name = f"realtime.{own.name}"
    with own.lake.tables.load(name).transaction() as change:
        change.set_properties({"lakehouse.snapshots-kept": "3"})
    for minute in range(8):
        own.land([payment(f"e{minute}", noon(FIRST))], noon(FIRST) + timedelta(minutes=minute))
        own.refresh_realtime(f"{FIRST}-12:00")
    assert len(own.lake.tables.load(name).metadata.snapshots) <= 3 + 2
    assert own.ask("select count(*), count(distinct event_id) from {realtime}") == [(8, 8)]
    assert own.refresh_realtime(f"{FIRST}-12:00").snapshot_id is None


def test_last_changes_has_the_newest_commit_of_each_day(ingested: Own) -> None:
    table = ingested.lake.tables.load(f"bronze.{ingested.name}")
    before = sequence_of(table)
    assert sorted(last_changes(table)) == DAYS
    ingested.land([payment("late", noon(DAYS[0]))], noon(DAYS[2]) + timedelta(minutes=1))
    ingested.bronze(DAYS[2])
    table = ingested.lake.tables.load(f"bronze.{ingested.name}")
    assert last_changes(table, since=before) == {DAYS[0]: before + 1}


def test_late_data_affects_features_of_the_following_days(shared: Own) -> None:
    assert affected_days(shared.lake, shared.stream, [DAYS[0]]) == DAYS
    assert affected_days(shared.lake, shared.stream, [DAYS[2]]) == [DAYS[2]]
    assert affected_days(shared.lake, shared.stream, [FIRST - timedelta(days=28)]) == [
        FIRST - timedelta(days=28), *DAYS[:2]
    ]  # fmt: skip


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"event_id,event_time,account_id,amount,currency,type,status\n", id="a header alone"),
        pytest.param(b"\n\n", id="blank lines"),
        pytest.param(b"", id="no byte"),
    ],
)
def test_file_without_rows_is_ingested_once(own: Own, content: bytes) -> None:
    own.drop(content, "empty.csv")
    today = datetime.now(UTC).date()
    own.bronze(today)
    assert pending_files(own.lake, own.stream) == []
    assert bronze.pending_days(own.lake, own.stream, today, today) == []
    before = own.snapshots("bronze")
    own.bronze(today)
    assert own.snapshots("bronze") == before


def test_pending_days_have_objects_that_bronze_lacks(ingested: Own) -> None:
    assert bronze.pending_days(ingested.lake, ingested.stream, DAYS[0], DAYS[2]) == []
    ingested.land([payment("late", noon(DAYS[1]))], noon(DAYS[1]) + timedelta(hours=1))
    assert bronze.pending_days(ingested.lake, ingested.stream, DAYS[0], DAYS[2]) == [DAYS[1]]
    ingested.bronze(DAYS[1])
    assert bronze.pending_days(ingested.lake, ingested.stream, DAYS[0], DAYS[2]) == []
