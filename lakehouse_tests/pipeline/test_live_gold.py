"""Live gold is `gold.sql` over the unified view for every day, whatever has run, and takes closed days from gold."""

from collections.abc import Callable, Mapping, Sequence
from datetime import date, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lakehouse.contracts.sql import literal
from lakehouse.engine.connection import columns_of, scan_sql
from lakehouse.pipeline import unified_view as views
from lakehouse.pipeline.commits import replace_days
from lakehouse.pipeline.lineage.open_days import open_days
from lakehouse.pipeline.lineage.properties import sources_of
from lakehouse.pipeline.live_gold import model_sql
from lakehouse.pipeline.readable_lake import ReadableLake
from lakehouse.pipeline.row_changes import delete_rows
from lakehouse.pipeline.view_names import LIVE_METRICS, live_daily
from lakehouse.pipeline.withdrawal import withdraw_objects
from lakehouse_tests.pipeline.landings import OBJECTS, DrawnObjects, examples, first_days, landings_from, run_step
from lakehouse_tests.pipeline.own import Own, noon, open_stream, payment
from lakehouse_tests.pipeline.tails import Tail, tail

__all__ = ["tail"]

STEPS = st.lists(st.sampled_from(("bronze", "silver", "realtime", "gold", "below", "tail")), max_size=3)
DAY = date(2016, 6, 1)
BEFORE = DAY - timedelta(days=1)

Rows = list[tuple[Any, ...]]


@pytest.fixture
def own(make_stream: Callable[..., Own]) -> Own:
    return make_stream()


@pytest.fixture(scope="module")
def next_first_day() -> Callable[[], date]:
    return first_days(date(2013, 1, 1))


def _query(own: Own, sql: str) -> Rows:
    with own.lake.engine.cursor() as cursor:
        return cursor.execute(f"select * from ({sql}) order by all").fetchall()


def _live(own: Own, lake: ReadableLake | None = None) -> Rows:
    """Assert that live gold is what its SQL gives over all of the unified view, in both forms. Returns its rows."""
    lake = lake or own.lake
    silver, realtime, daily = (
        lake.tables.load(name.format(own.name)) for name in ("silver.{}", "realtime.{}", "gold.{}_daily")
    )
    unified = views.unified_sql(own.stream, silver, realtime, uncovered=None, tail=lake.tail.get(own.name, ()))
    live = _query(own, views.view_sql(lake, live_daily(own.name)))
    assert live == _query(own, model_sql(own.stream, daily, unified))
    columns = [name for name, _ in columns_of(daily)]
    metrics = _query(own, f"from ({views.view_sql(lake, LIVE_METRICS)}) where stream = {literal(own.name)}")
    assert metrics == sorted(
        number for row in live for number in _long_form(own.name, dict(zip(columns, row, strict=True)))
    )
    return live


def _long_form(stream: str, row: Mapping[str, Any]) -> Rows:
    dimensions = {name: row[name] for name in ("currency", "type")}
    numbers = {name: value for name, value in row.items() if name not in ("dt", *dimensions) and value is not None}
    return [(row["dt"], stream, name, float(value), dimensions) for name, value in numbers.items()]


def _open(own: Own) -> list[date]:
    return open_days(own.stream, own.lake.tables.load)


def _run(own: Own, tail: Tail, step: str, first: date, days: Sequence[date]) -> None:
    if step == "gold":
        own.gold(*days)
    elif step == "tail":
        tail.read()
    else:
        run_step(own, step, first, days)
        tail.drop()


@examples(1, nightly=24)
@given(data=st.data(), drawn=OBJECTS)
def test_live_gold_is_gold_sql_over_the_unified_view_whatever_runs_when(
    own: Own, tail: Tail, next_first_day: Callable[[], date], data: st.DataObject, drawn: DrawnObjects
) -> None:
    first = next_first_day()
    landings = landings_from(first, drawn)
    days = sorted({day for landing in landings for day in landing.days})
    for landing in data.draw(st.permutations(landings)):
        landing.land(own)
        for step in data.draw(STEPS):
            _run(own, tail, step, first, days)
    _live(own, tail.lake)
    for step in ("realtime", "bronze", "silver", "below"):
        _run(own, tail, step, first, days)
    _live(own, tail.lake)


def test_days_are_open_until_gold_has_all_that_landed(own: Own, tail: Tail) -> None:
    own.land([payment("a", noon(DAY)), payment("b", noon(BEFORE))], noon(DAY))
    assert _live(own) == []
    tail.read()
    assert len(_live(own, tail.lake)) == 2
    own.refresh_realtime(f"{DAY}-12:00")
    assert _open(own) == [BEFORE, DAY]
    own.bronze()
    own.clean(BEFORE, DAY)
    assert (_open(own), len(_live(own))) == ([BEFORE, DAY], 2)
    own.below(BEFORE)
    assert _open(own) == [DAY]
    own.below(DAY)
    assert _open(own) == []

    own.land([payment("late", noon(BEFORE)), payment("a", noon(DAY), amount="99")], noon(DAY) + timedelta(hours=1))
    own.refresh_realtime(f"{DAY}-13:00")
    assert _open(own) == [BEFORE, DAY]
    assert [row[3] for row in _live(own)] == [2, 1]
    own.bronze()
    own.clean(BEFORE, DAY)
    own.below(BEFORE, DAY)
    assert (_open(own), [row[3] for row in _live(own)]) == ([], [2, 1])


def test_withdrawn_erased_and_blocked_rows_leave_live_gold_with_the_unified_view(own: Own) -> None:
    own.land([payment(f"e{n}", noon(DAY)) for n in range(20)], noon(DAY))
    mistake = own.land([payment("mistake", noon(DAY))], noon(DAY) + timedelta(seconds=1))
    blocked = noon(DAY) + timedelta(hours=1)
    own.land([payment("blocked", noon(DAY)), *["garbage"] * 9], blocked)
    for step in ("bronze", "silver", "realtime", "below"):
        run_step(own, step, DAY, [DAY])
    own.refresh_realtime(f"{blocked:%Y-%m-%d-%H}:00")
    assert [row[3] for row in _live(own)] == [
        22
    ]  # as the unified view, it has the rows that the gate keeps out of silver
    withdraw_objects(own.lake, own.stream, [mistake])
    run_step(own, "silver", DAY, [DAY])
    assert (_open(own), [row[3] for row in _live(own)]) == ([DAY], [21])
    for layer in ("bronze", "realtime", "silver"):
        delete_rows(own.lake, f"{layer}.{own.name}", "event_id = 'e1'", run_id="test")
    assert [row[3] for row in _live(own)] == [20]


def test_closed_days_are_read_from_gold_and_days_of_another_definition_are_not(
    own: Own, make_stream: Callable[..., Own]
) -> None:
    own.land([payment("a", noon(DAY)), payment("b", noon(BEFORE))], noon(DAY))
    own.bronze()
    own.clean(BEFORE, DAY)
    own.below(BEFORE, DAY)
    daily = own.lake.tables.load(f"gold.{own.name}_daily")
    snapshot = daily.current_snapshot()
    assert snapshot is not None
    select = f"select * replace (transactions + 1 as transactions) from {scan_sql(daily)} where dt = date '{DAY}'"
    replace_days(own.lake, f"gold.{own.name}_daily", select, [DAY], sources=sources_of(snapshot))
    rows = _query(own, views.view_sql(own.lake, live_daily(own.name)))
    assert [row[3] for row in rows] == [1, 2]
    (own.stream.folder / "gold.sql").write_text(own.stream.sql("gold").replace("max(amount)", "min(amount)"))
    changed = open_stream(own.lake, own.stream.folder.parent, own.name)
    assert (_open(changed), [row[3] for row in _live(changed)]) == ([BEFORE, DAY], [1, 1])


def test_stream_without_gold_sql_has_live_counts(make_stream: Callable[..., Own]) -> None:
    shipped = make_stream(tables=False)
    (shipped.stream.folder / "gold.sql").unlink()
    own = open_stream(shipped.lake, shipped.stream.folder.parent, shipped.name)
    own.land([payment("a", noon(DAY)), payment("b", noon(DAY), type="refund")], noon(DAY))
    own.refresh_realtime(f"{DAY}-12:00")
    live = _query(own, views.view_sql(own.lake, live_daily(own.name)))
    assert live == [(DAY, "payment", "settled", 1), (DAY, "refund", "settled", 1)]
