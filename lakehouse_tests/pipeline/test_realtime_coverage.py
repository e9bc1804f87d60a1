"""The unified view reads only uncovered hours of realtime, and has the same rows as if it read all."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyiceberg.table import Table

from lakehouse.contracts.odcs import load_contract
from lakehouse.landing.listing import list_days
from lakehouse.maintenance.compaction import Budget, compact
from lakehouse.pipeline import bronze, cleaning, commits, silver
from lakehouse.pipeline import unified_view as views
from lakehouse.pipeline.lake import Lake
from lakehouse.pipeline.lineage import realtime_coverage as coverage
from lakehouse.pipeline.lineage.properties import DEFINITION_PROPERTY
from lakehouse.pipeline.lineage.realtime_coverage import uncovered_hours
from lakehouse.pipeline.table_specs import table_specs
from lakehouse.storage.iceberg.replace import merge_manifests
from lakehouse_tests.pipeline.landings import OBJECTS, DrawnObjects, examples, first_days, landings_from, run_step
from lakehouse_tests.pipeline.own import Own, noon, payment, threshold

STEPS = st.lists(
    st.sampled_from(
        ("bronze", "bronze again", "silver", "realtime", "realtime again", "compact", "manifests", "expire")
    ),
    max_size=4,
)
DAY = date(2016, 6, 1)
NEXT = DAY + timedelta(days=1)


@pytest.fixture(scope="module")
def next_first_day() -> Callable[[], date]:
    return first_days(date(2013, 1, 1))


@pytest.fixture
def own(make_stream: Callable[..., Own]) -> Own:
    return make_stream(edit=threshold(0))


@pytest.fixture
def gated(make_stream: Callable[..., Own]) -> Own:
    """A stream with the default quality threshold, so that the gate blocks many days."""
    return make_stream()


Seen = tuple[Table, Table, Table]


def _seen(own: Own) -> Seen:
    """Load realtime, bronze and silver as of now."""
    realtime, ingested, cleaned = (
        own.lake.tables.load(f"{layer}.{own.name}") for layer in ("realtime", "bronze", "silver")
    )
    return realtime, ingested, cleaned


def _uncovered(own: Own, seen: Seen | None = None) -> Sequence[str] | None:
    return uncovered_hours(own.stream, *(seen or _seen(own)))


def _rows(own: Own, seen: Seen, uncovered: Sequence[str] | None) -> list[tuple[Any, ...]]:
    select = views.unified_sql(own.stream, seen[2], seen[0], uncovered=uncovered)
    with own.lake.engine.cursor() as cursor:
        return cursor.execute(f"select * from ({select}) order by all").fetchall()


def _assert_same(own: Own, seen: Seen | None = None) -> Sequence[str] | None:
    """Assert that the view has the same rows as if it read all of realtime. Returns the hours that it reads."""
    seen = seen or _seen(own)
    uncovered = _uncovered(own, seen)
    assert _rows(own, seen, uncovered) == _rows(own, seen, None)
    return uncovered


def _keys(own: Own) -> list[str]:
    seen = _seen(own)
    return sorted(row[0] for row in _rows(own, seen, _uncovered(own, seen)))


@examples(3, nightly=24)
@given(data=st.data(), drawn=OBJECTS, gate_blocks=st.booleans())
def test_unified_view_has_all_rows_whatever_runs_when(
    own: Own,
    gated: Own,
    next_first_day: Callable[[], date],
    data: st.DataObject,
    drawn: DrawnObjects,
    gate_blocks: bool,
) -> None:
    stream, first = gated if gate_blocks else own, next_first_day()
    landings = landings_from(first, drawn)
    days = sorted({day for landing in landings for day in landing.days})
    past: list[Seen] = []
    for landing in data.draw(st.permutations(landings)):
        landing.land(stream)
        for step in data.draw(STEPS):
            _run_step(stream, step, first, days)
        _assert_same(stream)
        past.append(_seen(stream))
    # A reader may have loaded its tables at different times.
    realtime, ingested, cleaned = (data.draw(st.sampled_from(past))[n] for n in range(3))
    _assert_same(stream, (realtime, ingested, cleaned))
    for step in ("realtime", "bronze", "silver"):
        _run_step(stream, step, first, days)
    uncovered = _assert_same(stream)
    assert gate_blocks or uncovered == []


def _run_step(own: Own, step: str, first: date, days: list[date]) -> None:
    match step:
        case "compact":
            compact(own.lake, f"realtime.{own.name}", Budget(), quiet=timedelta(0))
        case "manifests":
            for table in _seen(own):
                if table.current_snapshot() is not None:
                    merge_manifests(table)
        case "expire":
            _expire(own)
        case _:
            run_step(own, step, first, days)


def _expire(own: Own) -> None:
    """Expire all snapshots but the newest."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(commits, "MIN_SNAPSHOTS_KEPT", 1)
        for table in _seen(own):
            settings = own.lake.settings.model_copy(update={"time_travel_days": 0})
            lake = Lake(settings, own.lake.connection)
            commits.expire_snapshots(lake, table, at_least=1)


def _day(own: Own, day: date, hours: Sequence[int] = (9, 15)) -> None:
    """Land events through a day, some of the day before, and run realtime."""
    for hour in hours:
        at = datetime(day.year, day.month, day.day, hour, 30, tzinfo=UTC)
        own.land([payment(f"{day}-{hour}", at), payment(f"{day}-{hour}-late", at - timedelta(days=1))], at)
        own.refresh_realtime(f"{at:%Y-%m-%d-%H}:00")


def _batch(own: Own, day: date) -> None:
    """Run bronze and silver of a day, as the daily run does."""
    own.clean(*own.bronze(day).event_dates)


def test_daily_run_covers_its_day_and_not_the_next(own: Own) -> None:
    _day(own, DAY)
    _day(own, NEXT, hours=(0, 1))
    assert _uncovered(own) is None
    _batch(own, DAY)
    assert _assert_same(own) == [f"{NEXT}-00", f"{NEXT}-01"]
    _batch(own, NEXT)
    assert _assert_same(own) == []


def test_later_changes_are_uncovered_until_ingested(own: Own) -> None:
    _day(own, DAY)
    _batch(own, DAY)
    own.land([payment("late", noon(DAY - timedelta(days=1)))], noon(NEXT))
    touched = own.bronze(NEXT).event_dates
    assert _assert_same(own) is None  # all hours have rows of that day
    own.clean(*touched)
    assert _assert_same(own) == []
    own.refresh_realtime(f"{DAY}-09:00", replace=True)
    assert _assert_same(own) == [f"{DAY}-09"]
    before = own.snapshots("bronze")
    own.bronze(DAY)
    assert own.snapshots("bronze") == before
    assert _assert_same(own) == []


def test_arrivals_during_a_bronze_run_are_uncovered(own: Own, monkeypatch: pytest.MonkeyPatch) -> None:
    _day(own, DAY, hours=(9,))

    def meanwhile(*arguments: Any) -> Any:
        """Realtime ingests one object before bronze does, and another that bronze's listing lacks."""
        monkeypatch.setattr(bronze, "list_days", list_days)
        _day(own, DAY, hours=(10,))
        listed = list_days(*arguments)
        _day(own, DAY, hours=(11,))
        return listed

    monkeypatch.setattr(bronze, "list_days", meanwhile)
    _batch(own, DAY)
    assert _assert_same(own) == [f"{DAY}-10", f"{DAY}-11"]
    assert len(_keys(own)) == 6
    _batch(own, DAY)
    assert _assert_same(own) == []


def test_rows_ingested_during_a_silver_run_are_uncovered(own: Own, monkeypatch: pytest.MonkeyPatch) -> None:
    _day(own, DAY, hours=(9,))
    own.bronze(DAY)
    clean = cleaning.clean_group

    def meanwhile(*arguments: Any) -> Any:
        monkeypatch.setattr(silver, "clean_group", clean)
        _day(own, DAY, hours=(10,))
        own.bronze(DAY)
        return clean(*arguments)

    monkeypatch.setattr(silver, "clean_group", meanwhile)
    own.clean(DAY, DAY - timedelta(days=1))
    assert _assert_same(own) is None
    own.clean(DAY, DAY - timedelta(days=1))
    assert _assert_same(own) == []


@pytest.mark.parametrize("hours", [(), (9,)], ids=["blocked day", "blocked object"])
def test_day_with_held_rows_stays_uncovered(gated: Own, hours: Sequence[int]) -> None:
    _day(gated, DAY)
    _batch(gated, DAY)
    _day(gated, NEXT, hours=hours)
    gated.land([payment("held", noon(NEXT)), payment("broken", noon(NEXT), amount="-1")], noon(NEXT))
    gated.refresh_realtime(f"{NEXT}-12:00")
    assert gated.clean(*gated.bronze(NEXT).event_dates).blocked == ([] if hours else [NEXT])
    assert _assert_same(gated) == [f"{NEXT}-{hour:02}" for hour in (*hours, 12)]
    assert "held" in _keys(gated)


def test_covered_hours_stay_covered_after_snapshot_expiry(own: Own) -> None:
    for day in (DAY, NEXT):
        _day(own, day)
        _batch(own, day)
    own.land([payment("other", noon(NEXT))], noon(NEXT + timedelta(days=1)))
    own.bronze(NEXT + timedelta(days=1))
    own.clean(NEXT)
    _expire(own)
    assert own.snapshots("bronze") == 1
    assert _assert_same(own) == []


def test_rows_that_only_realtime_has_stay_visible(own: Own) -> None:
    _day(own, DAY, hours=(9,))
    own.lake.objects.delete([own.land([payment("gone", noon(DAY))], noon(DAY))])
    gone = own.land([payment("gone", noon(DAY))], noon(DAY))
    own.refresh_realtime(f"{DAY}-12:00")
    own.lake.objects.delete([gone])
    _batch(own, DAY)
    assert "gone" in _keys(own)
    _assert_same(own)


def test_recreated_realtime_table_is_uncovered(own: Own) -> None:
    _day(own, DAY)
    _batch(own, DAY)
    own.lake.tables.catalog.drop_table(f"realtime.{own.name}")
    own.lake.tables.ensure(table_specs([own.stream]))
    own.refresh_realtime(f"{DAY}-09:00")
    own.land([payment("new", noon(DAY))], noon(DAY))
    own.refresh_realtime(f"{DAY}-12:00")
    assert _assert_same(own) is None
    assert "new" in _keys(own)
    _batch(own, DAY)
    assert _assert_same(own) == []


def test_rows_of_another_contract_are_uncovered(own: Own) -> None:
    _day(own, DAY)
    own.land([payment("refused", noon(DAY), status="declined")], noon(DAY))
    own.refresh_realtime(f"{DAY}-12:00")
    _batch(own, DAY)
    assert _assert_same(own) == []
    contract = own.stream.folder / "contract.odcs.yaml"
    contract.write_text(contract.read_text().replace("          - value: declined\n", ""))
    stricter = Own(own.lake, type(own.stream)(own.name, own.stream.folder, load_contract(own.stream.folder)))
    stricter.clean(DAY, DAY - timedelta(days=1))
    assert _assert_same(stricter) is None
    assert "refused" in _keys(stricter)  # until realtime drops it
    stricter.bronze(DAY)
    stricter.refresh_realtime(f"{DAY}-12:00")
    assert _assert_same(stricter) is None
    hour = f"{datetime.now(UTC):%Y-%m-%d-%H}"
    for layer in ("realtime", "bronze"):
        assert own.lake.tables.load(f"{layer}.{own.name}").properties[DEFINITION_PROPERTY].endswith(hour)


def test_days_that_silver_no_longer_keeps_are_uncovered(own: Own) -> None:
    kept = replace(own.stream.contract.retention, silver=3)
    stream = replace(own.stream, contract=replace(own.stream.contract, retention=kept))
    _day(own, DAY)
    _batch(own, DAY)
    seen = _seen(own)
    uncovered = {days: uncovered_hours(stream, *seen, today=DAY + timedelta(days=days)) for days in (1, 2, 3)}
    assert uncovered == {1: [], 2: [], 3: None}


def test_unreadable_bronze_metadata_uncovers_all_hours(own: Own) -> None:
    _day(own, DAY)
    _batch(own, DAY)
    seen = _seen(own)
    lost = seen[1].current_snapshot()
    assert lost is not None
    seen[1].io.delete(lost.manifest_list)
    assert _assert_same(own, seen) is None


def test_query_in_another_process_skips_covered_hours(own: Own, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(coverage, "MIN_REALTIME_ROWS", 0)
    _day(own, DAY)
    _day(own, NEXT)
    _batch(own, DAY)
    light = Lake(own.lake.settings, own.lake.connection, metadata_only=True)
    light.streams = own.lake.streams
    select = views.view_sql(light, f"serving.unified_{own.name}")
    assert f"arrival_hour in ('{NEXT}-09', '{NEXT}-15')" in select
    with own.lake.engine.cursor() as cursor:
        assert cursor.execute(f"select count(*), count(distinct event_id) from ({select})").fetchall() == [(8, 8)]
