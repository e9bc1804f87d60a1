"""Rows of silver, gold and models are traced to the very rows of landing objects they were made of, and these add up."""

import json
from collections import Counter
from collections.abc import Callable
from datetime import date, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lakehouse.errors import QueryError
from lakehouse.pipeline.models import write_model
from lakehouse.pipeline.row_receipts import Place, find_row_here
from lakehouse.pipeline.tracing.grouping import find_grouping
from lakehouse.pipeline.tracing.places import find_places
from lakehouse.pipeline.tracing.trace import DayOrigin, Hop, ObjectOrigin, RowOrigin, StreamOrigins, Trace
from lakehouse.pipeline.view_names import live_model, models_by_view
from lakehouse.serving.query.tracing import trace_rows
from lakehouse_tests.pipeline.landings import examples
from lakehouse_tests.pipeline.modelled import check, write_models
from lakehouse_tests.pipeline.own import Own, noon, payment, threshold

DAY = date(2021, 3, 1)
ROWS = st.lists(
    st.tuples(st.integers(0, 5), st.sampled_from(["12.50", "13", "-1", "much"]), st.integers(0, 1)),
    min_size=1,
    max_size=6,
)


def _only(trace: Trace) -> StreamOrigins:
    (origins,) = trace.streams
    return origins


@examples(3, 60)
@given(objects=st.lists(ROWS, min_size=1, max_size=3))
def test_rows_traced_from_silver_are_those_whose_receipts_say_silver(
    make_stream: Callable[..., Own], objects: list[list[tuple[int, str, int]]]
) -> None:
    own = make_stream(edit=threshold(0))
    places: list[Place] = []
    for second, drawn in enumerate(objects):
        events = [payment(f"e{key}", noon(DAY - timedelta(days=back)), amount=amount) for key, amount, back in drawn]
        key = own.land(events, noon(DAY) + timedelta(seconds=second))
        places += [Place(key, number) for number in range(1, len(events) + 1)]
    own.bronze()
    days = [DAY - timedelta(days=1), DAY]
    own.clean(*days)
    outcomes = {place: find_row_here(own.lake, own.stream, place) for place in places}
    trace = trace_rows(own.lake, f"silver.{own.name}", "true", 100)
    made_of = {place for place, found in outcomes.items() if found and found.outcome == "silver"}
    assert trace.matched == len(made_of)
    if not made_of:
        assert trace.streams == ()
        return
    origins = _only(trace)
    assert {Place(row.object, row.row) for row in origins.rows} == made_of
    assert (origins.silver_rows, origins.bronze_rows, origins.without_bronze) == (len(made_of), len(made_of), 0)
    for each in origins.by_object:
        counts = Counter(
            found.outcome
            for place, found in outcomes.items()
            if found and place.object == each.object and found.day == each.day
        )
        assert (each.landed, each.silver) == (counts.total(), counts["silver"])
        assert (each.quarantined, each.duplicates) == (counts["rejected"], counts["duplicate"])
    assert all(day.unaccounted == 0 for day in origins.days)


def test_number_in_gold_is_traced_to_bytes_of_landing_objects(make_stream: Callable[..., Own]) -> None:
    own = make_stream(edit=threshold(0))
    events = [
        payment("a", noon(DAY)),
        payment("b", noon(DAY), currency="USD"),
        payment("c", noon(DAY), amount="much"),
        payment("a", noon(DAY), amount="13"),
    ]
    lines = [json.dumps(event) for event in events]
    key = own.land(lines, noon(DAY))
    own.bronze()
    own.clean(DAY)
    own.gold(DAY)
    trace = trace_rows(own.lake, f"gold.{own.name}_daily", "currency = 'EUR'", 10)
    assert trace.hops == (Hop(f"gold.{own.name}_daily", f"silver.{own.name}", True, "", ()),)
    origins = _only(trace)
    ledger = {"landed": 4, "silver": 2, "quarantined": 1, "duplicates": 1}
    assert origins.days == (DayOrigin(DAY, rows=1, **ledger, partition=ledger),)
    assert origins.by_object == (ObjectOrigin(key, DAY, rows=1, **ledger),)
    assert origins.rows == (RowOrigin(key, 4, DAY, {"event_id": "a"}),)
    places = find_places(own.lake.objects, own.stream, origins)
    position = places.rows[key, 4]
    content = own.lake.objects.get(key)
    assert content[position.first_byte :][: position.bytes].decode() == lines[3]
    own.clean(DAY)
    own.land([payment("d", noon(DAY))], noon(DAY) + timedelta(seconds=1))
    own.bronze()
    own.clean(DAY)
    (hop,) = trace_rows(own.lake, f"gold.{own.name}_daily", "true", 10).hops
    assert hop.stale == (DAY,)


MODELS = {
    "gold/big.sql": """/* {description: Sums, partition: dt} */
        select dt, sum(amount) as total from silver.NAME where amount > 20 group by dt""",
    "gold/shares.sql": """/* {description: Shares, partition: dt} */
        select dt, currency, amount / sum(amount) over (partition by dt) as share from gold.NAME_daily""",
}


def test_models_are_traced_by_row_where_their_sql_shows_it_else_by_day(
    make_stream: Callable[..., Own], tmp_path: Path
) -> None:
    own = make_stream()
    days = [DAY, DAY + timedelta(days=1)]
    rows = [payment(f"{day}{amount}", noon(day), amount=amount) for day in days for amount in ("10", "30", "40")]
    own.land(rows, noon(days[-1]))
    own.bronze()
    own.clean(*days)
    own.gold(*days)
    big, shares = f"gold.{own.name}_big", f"gold.{own.name}_shares"
    files = {name.replace("/", f"/{own.name}_"): text.replace("NAME", own.name) for name, text in MODELS.items()}
    own.lake.models = check(own.lake, write_models(tmp_path, files))
    for name in (big, shares):
        write_model(own.lake, own.lake.models.models.by_name[name], days)
    exact = trace_rows(own.lake, big, f"dt = date '{DAY}'", 10)
    assert [hop.by_row for hop in exact.hops] == [True]
    assert [row.key["event_id"] for row in _only(exact).rows] == [f"{DAY}30", f"{DAY}40"]
    by_day = trace_rows(own.lake, shares, f"dt = date '{DAY}'", 10)
    assert [(hop.source, hop.by_row) for hop in by_day.hops] == [
        (f"gold.{own.name}_daily", False),
        (f"silver.{own.name}", True),
    ]
    assert _only(by_day).silver_rows == 3
    own.lake.live_models = models_by_view(own.lake.models.models.by_name.values())
    live = trace_rows(own.lake, live_model(big), f"dt = date '{DAY}'", 10)
    assert [(hop.source, hop.by_row) for hop in live.hops] == [(f"serving.unified_{own.name}", True)]
    assert _only(live).rows == _only(exact).rows
    live = trace_rows(own.lake, live_model(shares), f"dt = date '{DAY}'", 10)
    assert [hop.source for hop in live.hops] == [f"serving.live_{own.name}_daily", f"serving.unified_{own.name}"]


@pytest.mark.parametrize(
    ("sql", "columns"),
    [
        ("select dt, upper(a) as b from t group by 1, b", {"dt": '"origin"."dt"', "b": 'UPPER("origin"."a")'}),
        ("select dt, -- The day.\n a /* not b */ from t group by dt, a", {"dt": '"origin"."dt"', "a": '"origin"."a"'}),
        ("select dt, count(*) as n from t group by all", {"dt": '"origin"."dt"'}),
        ("select count(*) as n from t", {}),
        ("select * from t", {"dt": '"origin"."dt"', "a": '"origin"."a"'}),
        ("select dt, sum(a) as s from t group by dt, a", None),
        ("select dt, mystery(a) as s from t", None),
        ("select dt, a, row_number() over () as n from t", None),
        ("select dt, a from t limit 3", None),
        ("select t.dt, t.a from t join u using (a)", None),
        ("select distinct dt, a from (select * from t)", None),
        ("select dt, a from t where a in (select a from u)", None),
        ("with t as (select 1) select * from t", None),
        ("select * exclude (a) from t", None),
        ("not sql at all ;;", None),
    ],
)
def test_grouping_is_found_where_values_tell_rows_apart(sql: str, columns: dict[str, str] | None) -> None:
    grouping = find_grouping(sql, ["dt", "a"])
    assert (grouping and dict(grouping.columns)) == columns


@pytest.mark.parametrize(
    ("table", "where", "part"),
    [
        ("gold.nothing", "true", "no such table"),
        ("a b", "true", "no such table"),
        ("gold.daily_metrics", "nope = 1", 'Referenced column "nope" not found'),
        ("gold.daily_metrics", "true); drop table x; --", "syntax error"),
    ],
)
def test_wrong_trace_says_what_is_wrong(
    make_shared_stream: Callable[..., Own], table: str, where: str, part: str
) -> None:
    own = make_shared_stream()
    with pytest.raises(QueryError, match=part):
        trace_rows(own.lake, table, where, 10)


def test_todays_numbers_are_traced_to_realtime_where_silver_lacks_them(make_stream: Callable[..., Own]) -> None:
    own = make_stream()
    old = own.land([payment("a", noon(DAY)), payment("b", noon(DAY))], noon(DAY))
    own.bronze()
    own.clean(DAY)
    own.below(DAY)
    late = [payment("b", noon(DAY), amount="9"), payment("c", noon(DAY)), payment("x", noon(DAY), amount="much")]
    new = own.land(late, noon(DAY) + timedelta(seconds=1))
    own.refresh_realtime("2021-03-01-12:00")
    for view in (f"serving.unified_{own.name}", f"serving.live_{own.name}_daily"):
        trace = trace_rows(own.lake, view, f"dt = date '{DAY}'", 10)
        origins = _only(trace)
        assert (origins.silver_rows, origins.bronze_rows, origins.realtime_rows) == (2, 2, 1)
        assert (origins.without_bronze, origins.tail_rows, origins.objects) == (0, 0, 2)
        assert [(row.object, row.row) for row in origins.rows] == [(old, 1), (old, 2), (new, 2)]
        assert origins.by_object[1] == ObjectOrigin(new, DAY, 1, None, None, None, None)
    assert [(hop.source, hop.by_row) for hop in trace.hops] == [(f"serving.unified_{own.name}", True)]
    number = f"stream = '{own.name}' and metric_name = 'transactions'"
    for metrics, daily, rows in (
        ("serving.live_daily_metrics", f"serving.live_{own.name}_daily", 3),
        ("gold.daily_metrics", f"gold.{own.name}_daily", 2),
    ):
        trace = trace_rows(own.lake, metrics, number, 10)
        assert (trace.matched, trace.hops[0].source, trace.hops[0].by_row) == (1, daily, True)
        assert len(_only(trace).rows) == rows
    features = trace_rows(own.lake, f"serving.{own.name}_features", "true", 10)
    assert [(hop.source, hop.by_row) for hop in features.hops] == [(f"silver.{own.name}", False)]
    assert _only(features).silver_rows == 2
