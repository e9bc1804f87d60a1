"""A live model is the model's SELECT over the unified view for every day, whatever has run, by itself and over others."""

from collections.abc import Callable
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import duckdb
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lakehouse.pipeline import unified_view as views
from lakehouse.pipeline.lake import Lake
from lakehouse.pipeline.model_staleness import stale_days
from lakehouse.pipeline.models import write_model
from lakehouse.pipeline.readable_lake import ReadableLake
from lakehouse.pipeline.view_names import live_model, models_by_view
from lakehouse.serving.query.linked_tail import LakeWithTail
from lakehouse_tests.pipeline.landings import OBJECTS, DrawnObjects, examples, first_days, landings_from, run_step
from lakehouse_tests.pipeline.modelled import check, write_models
from lakehouse_tests.pipeline.own import Own, noon, payment
from lakehouse_tests.pipeline.tails import Tail, tail

__all__ = ["tail"]

STEPS = st.lists(st.sampled_from(("bronze", "silver", "realtime", "below", "models", "tail")), max_size=3)
Rows = list[tuple[Any, ...]]

RANKED = """/*
description: The newest payments of two days, with a window over both.
look_back: 1
*/
with ranked as (
  select "Silver".dt, event_id, amount, row_number() over (order by "Silver".event_time, event_id) as place
  from silver.{name} as "Silver"
)
select dt, event_id, place, amount::double as amount, (select count(*) from silver.{name}) as payments
from ranked
"""
ABOVE = """/*
description: What a model and gold say of a day.
*/
select dt, max(place) as last_place, any_value(transactions) as transactions
from gold.{name}_ranked
left join (from gold.{name}_daily select dt, sum(transactions)::bigint as transactions group by dt) using (dt)
group by dt
"""


@pytest.fixture
def own(make_stream: Callable[..., Own], tmp_path: Path) -> Own:
    own = make_stream()
    texts = {
        f"gold/{own.name}_{end}.sql": text.format(name=own.name) for end, text in (("ranked", RANKED), ("above", ABOVE))
    }
    checked = check(own.lake, write_models(tmp_path, texts))
    assert checked.models.problems == ()
    own.lake.__dict__["models"] = checked
    own.lake.__dict__["live_models"] = models_by_view(checked.models.by_name.values())
    return own


@pytest.fixture(scope="module")
def next_first_day() -> Callable[[], date]:
    return first_days(date(2014, 1, 1))


def _live(own: Own, lake: ReadableLake) -> tuple[Rows, Rows]:
    """Query both live models, and compare them with the same SQL over the rows of the unified view, day by day."""
    sql = {end: views.view_sql(lake, live_model(f"gold.{own.name}_{end}")) for end in ("ranked", "above")}
    with own.lake.engine.cursor() as cursor:
        live = {end: cursor.execute(f"select * from ({each}) order by all").fetchall() for end, each in sql.items()}
        unified = cursor.execute(views.view_sql(lake, f"serving.unified_{own.name}")).to_arrow_table()
        daily = cursor.execute(views.view_sql(lake, f"serving.live_{own.name}_daily")).to_arrow_table()
    ranked: Rows = []
    with duckdb.connect() as plain:
        plain.register("every", unified)
        plain.execute("create schema silver")
        days = [day for (day,) in plain.execute("select distinct dt from every order by dt").fetchall()]
        for day in days:
            plain.execute(
                f"create or replace view silver.{own.name} as"
                f" from every where dt between date '{day - timedelta(days=1)}' and date '{day}'"
            )
            ranked += plain.execute(f"from ({RANKED.format(name=own.name)}) where dt = date '{day}'").fetchall()
        assert live["ranked"] == sorted(ranked)
        plain.register("daily", daily)
        counts = dict(plain.execute("select dt, sum(transactions)::bigint from daily group by dt").fetchall())
    places = {day: max(row[2] for row in ranked if row[0] == day) for day in days}
    assert live["above"] == [(day, place, counts.get(day)) for day, place in sorted(places.items())]
    return live["ranked"], live["above"]


def _write_models(lake: Lake, own: Own) -> None:
    for model in own.lake.models.models.by_name.values():
        write_model(lake, model, stale_days(lake, model))


@examples(2, nightly=24)
@given(data=st.data(), drawn=OBJECTS)
def test_live_model_is_its_select_over_the_unified_view_whatever_runs_when(
    own: Own, tail: Tail, next_first_day: Callable[[], date], data: st.DataObject, drawn: DrawnObjects
) -> None:
    first = next_first_day()
    landings = landings_from(first, drawn)
    days = sorted({day for landing in landings for day in landing.days})

    def run(step: str) -> None:
        if step == "models":
            _write_models(own.lake, own)
        elif step == "tail":
            tail.read()
        else:
            run_step(own, step, first, days)
            tail.drop()

    for landing in data.draw(st.permutations(landings)):
        landing.land(own)
        for step in data.draw(STEPS):
            run(step)
        _live(own, tail.lake)
    for step in ("realtime", "bronze", "silver", "below", "models"):
        run(step)
    _live(own, tail.lake)


def test_late_event_is_in_the_live_model_before_any_run(own: Own, tail: Tail) -> None:
    day = date(2016, 6, 2)
    own.land([payment("a", noon(day)), payment("b", noon(day - timedelta(days=1)))], noon(day))
    own.bronze()
    own.clean(day, day - timedelta(days=1))
    own.below(day, day - timedelta(days=1))
    _write_models(own.lake, own)
    name = f"gold.{own.name}_ranked"
    assert live_model(name) in views.view_names(own.lake)
    assert len(_live(own, own.lake)[0]) == 2
    own.land([payment("late", noon(day - timedelta(days=1)))], noon(day).replace(hour=14))
    tail.read()
    ranked, _ = _live(own, LakeWithTail(own.lake, tail.tail.files()))
    assert [(row[1], row[4]) for row in ranked] == [("b", 2), ("late", 2), ("a", 3)]
    assert views.source_tables(own.lake, live_model(name)).count(f"realtime.{own.name}") == 1
