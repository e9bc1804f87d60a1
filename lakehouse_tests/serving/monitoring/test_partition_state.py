"""A partition's state is what its tables' metadata says, at every step from landing to the numbers of the day."""

from collections.abc import Callable
from datetime import date, timedelta

import pytest

from lakehouse.engine.connection import rows_of
from lakehouse.pipeline.unified_view import create_views_sql, view_names
from lakehouse.serving.monitoring.daily_metrics import MEASURES_SQL, How, how_of, measures_of, numbers_of, numbers_sql
from lakehouse.serving.monitoring.freshness import newest
from lakehouse.serving.monitoring.partition_state import Day, State, partitions_of
from lakehouse.serving.query.rejects import (
    RecentArrivals,
    parse_time,
    quarantine_report,
    reasons_sql,
    reject_samples,
    samples_sql,
)
from lakehouse_tests.pipeline.own import Own, noon, payment, threshold

DAY = date(2024, 3, 5)
LATER = DAY + timedelta(days=1)
HOUR = timedelta(hours=1)


def states(own: Own, day: date = DAY) -> dict[str, State]:
    found = partitions_of(own.stream, own.lake.tables.load).layers
    return {layer: days[day].state for layer, days in found.items() if day in days}


def test_a_day_goes_from_waiting_to_materialised_and_is_stale_when_late_rows_come(
    make_stream: Callable[..., Own],
) -> None:
    own = make_stream(edit=threshold(0.1))
    assert states(own) == {}
    own.land([payment("a", noon(DAY)), payment("b", noon(LATER)), "{"], noon(DAY))
    own.bronze()
    assert states(own) == {"bronze": "materialised", "silver": "waiting"}
    own.clean(DAY)
    waiting = dict.fromkeys(("gold", "features", "alerts"), "waiting")
    assert states(own) == {"bronze": "materialised", "silver": "materialised", **waiting}
    assert states(own, LATER) == {"bronze": "materialised", "silver": "waiting"}
    own.below(DAY)
    layers = ("bronze", "silver", "gold", "metrics", "features", "alerts")
    assert states(own) == dict.fromkeys(layers, "materialised")
    found = partitions_of(own.stream, own.lake.tables.load)
    assert found.days == {DAY: Day(DAY, 2, 1, 1, 1, 0, False)}
    assert found.last == found.days[DAY]
    assert found.layers["silver"][DAY].rows == 1
    own.land([payment("c", noon(DAY))], noon(LATER))
    own.bronze()
    assert states(own) == dict.fromkeys(layers, "materialised") | {"silver": "stale"}


def test_a_day_that_the_gate_refused_is_held_back_until_its_bronze_changes(make_stream: Callable[..., Own]) -> None:
    own = make_stream(edit=threshold(0.5))
    own.land([payment("a", noon(DAY)), "{", "["], noon(DAY))
    own.bronze()
    own.clean(DAY)
    found = partitions_of(own.stream, own.lake.tables.load)
    assert found.layers["silver"][DAY].state == "held_back"
    assert found.days[DAY].quality == pytest.approx(1 / 3)
    own.land([payment(key, noon(DAY)) for key in "bcdef"], noon(DAY) + HOUR)
    own.bronze()
    assert states(own)["silver"] == "waiting"
    own.clean(DAY)
    assert states(own)["silver"] == "materialised"


def test_the_newest_event_is_read_off_statistics(make_stream: Callable[..., Own]) -> None:
    own = make_stream()
    table = own.lake.tables.load(f"silver.{own.name}")
    assert newest(table, "event_time") is None
    own.land([payment("a", noon(DAY)), payment("b", noon(LATER)), payment("c", noon(DAY) - HOUR)], noon(LATER) + HOUR)
    own.bronze()
    own.clean(DAY, LATER)
    table = own.lake.tables.load(f"silver.{own.name}")
    assert (newest(table, "event_time"), newest(table, "_arrived_at")) == (noon(LATER), noon(LATER) + HOUR)


def test_reasons_are_counted_and_rows_shown_as_they_arrived(make_stream: Callable[..., Own]) -> None:
    own = make_stream(edit=threshold(0.1))
    html = '<img src=x onerror="alert(1)">'
    own.land([payment("a", noon(DAY), amount="x", currency=html), payment("b", noon(DAY), amount="y")], noon(DAY))
    own.land(['{"event_id":', '{"event_id": "c", ', payment("ok", noon(DAY))], noon(DAY) + HOUR)
    own.bronze()
    own.clean(DAY)
    with own.lake.engine.cursor() as cursor:

        def ask(
            since: str | None = None, reason: str | None = None, limit: int = 10
        ) -> tuple[int, dict[str, int], list[str]]:
            asked = {"since": since and parse_time(since), "reason": reason}
            asking = {
                reasons_sql(own.lake, own.stream): asked,
                samples_sql(own.lake, own.stream): {**asked, "limit": limit},
            }
            counted, samples = (cursor.execute(*one).to_arrow_table().to_pylist() for one in asking.items())
            found = quarantine_report(own.name, RecentArrivals(5, 4), counted, reject_samples(samples))
            return found.rows, {one.reason: one.rows for one in found.reasons}, [one.raw or "" for one in found.samples]

        rows, reasons, raw = ask()
        assert (rows, len(raw)) == (4, 4)
        assert set(reasons.values()) <= {1, 2}
        assert any(html.replace('"', '\\"') in text for text in raw)
        amount = next(reason for reason in reasons if reason.startswith("amount"))
        assert reasons[amount] == 2
        rows, only, raw = ask(reason=amount, limit=1)
        assert (rows, only[amount], len(raw)) == (2, 2, 1)
        unread = [reason for reason in reasons if reason.startswith("not JSON")]
        assert all("character …" in reason for reason in unread)
        assert sum(reasons[reason] for reason in unread) == 2
        assert sum(ask(reason=reason)[0] for reason in unread) == 2
        assert ask(since=f"{DAY}T12:30:00Z")[0] == 2
        assert ask(since=f"{LATER}")[0] == 0


def test_numbers_by_day_are_those_of_gold(make_stream: Callable[..., Own]) -> None:
    own = make_stream()
    own.land(
        [
            payment("a", noon(DAY), amount="10.25"),
            payment("b", noon(DAY), amount="1.50", currency="USD"),
            payment("c", noon(LATER), amount="3.00", status="declined"),
        ],
        noon(LATER),
    )
    own.bronze()
    own.clean(DAY, LATER)
    own.below(DAY, LATER)
    assert "gold.daily_metrics" in view_names(own.lake)
    with own.lake.engine.cursor() as cursor:
        cursor.execute(f"attach ':memory:' as {own.name}; use {own.name}")
        for statement in create_views_sql(own.lake, ["gold.daily_metrics"]):
            cursor.execute(statement)
        measures = measures_of(own.name, cursor.execute(MEASURES_SQL, [own.name]).to_arrow_table().to_pylist())
        assert (measures.first_day, measures.last_day) == (DAY, LATER)
        assert [(one.name, one.how) for one in measures.measures] == [
            ("amount", "sum"),
            ("declined", "sum"),
            ("max_amount", "max"),
            ("transactions", "sum"),
        ]
        assert measures.measures[0].dimensions == ["currency", "type"]

        def ask(metric: str, by: str | None) -> dict[str, list[float | None]]:
            asked = {"stream": own.name, "metric": metric, "first": DAY, "last": LATER} | ({"by": by} if by else {})
            rows = cursor.execute(numbers_sql(metric, by), asked).to_arrow_table().to_pylist()
            return {one.name: one.values for one in numbers_of(own.name, metric, by, [DAY, LATER], rows).series}

        assert ask("amount", None) == {"amount": [11.75, 3.0]}
        assert ask("amount", "currency") == {"EUR": [10.25, 3.0], "USD": [1.5, None]}
        assert ask("max_amount", None) == {"max_amount": [10.25, 3.0]}
        assert rows_of(cursor, "select count(*) from gold.daily_metrics where stream = ?", [own.name]) == [(12,)]


@pytest.mark.parametrize(
    ("metric", "how"),
    [
        ("amount", "sum"),
        ("max_amount", "max"),
        ("min_value", "min"),
        ("avg_value", "mean"),
        ("p95_latency_ms", "mean"),
        ("paid", "sum"),
    ],
)
def test_extremes_stay_extremes_and_averages_are_not_added_up(metric: str, how: How) -> None:
    assert how_of(metric) == how


def test_what_is_beyond_eight_series_is_one() -> None:
    rows = [{"date_key": DAY, "name": f"{n:02}", "value": float(n)} for n in range(1, 11)]
    series = numbers_of("s", "amount", "x", [DAY], rows).series
    assert [one.name for one in series] == ["10", "09", "08", "07", "06", "05", "04", "03", "2 others"]
    assert series[-1].values == [3.0]
    assert len(numbers_of("s", "max_amount", "x", [DAY], rows).series) == 8
