"""Partition states, freshness, quarantine reports and daily metrics of one stream, from landing to gold."""

from collections.abc import Callable
from datetime import date, timedelta

import pytest

from lakehouse.pipeline.metric_forecasts import Aggregation, aggregation_of
from lakehouse.pipeline.open_rows import replaced_counts_sql
from lakehouse.pipeline.quarantine import land_corrections, rejected_rows
from lakehouse.pipeline.unified_view import create_views_sql, metrics_view_sql, view_names
from lakehouse.serving.monitoring.daily_metrics import (
    measures_sql,
    metric_by_day,
    metric_sql,
    stream_measures,
)
from lakehouse.serving.monitoring.partition_state import DayLedger, State, StreamPartitions, stream_partitions
from lakehouse.serving.query.rejects import (
    RecentArrivals,
    parse_time,
    quarantine_report,
    reasons_sql,
    reject_samples,
    samples_sql,
)
from lakehouse.storage.iceberg.manifests import newest_time
from lakehouse_tests.pipeline.own import Own, noon, payment, threshold

DAY = date(2024, 3, 5)
LATER = DAY + timedelta(days=1)
HOUR = timedelta(hours=1)


def states(own: Own, day: date = DAY) -> dict[str, State]:
    layers = stream_partitions(own.stream, own.lake.tables.load).layers
    return {layer: days[day].state for layer, days in layers.items() if day in days}


def test_day_is_waiting_then_materialised_then_stale(
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
    partitions = stream_partitions(own.stream, own.lake.tables.load)
    assert partitions.ledgers == {DAY: DayLedger(DAY, 2, 1, 1, 1, 0, False)}
    assert partitions.last_day == partitions.ledgers[DAY]
    assert partitions.layers["silver"][DAY].rows == 1
    own.land([payment("c", noon(DAY))], noon(LATER))
    own.bronze()
    assert states(own) == dict.fromkeys(layers, "materialised") | {"silver": "stale"}


def test_day_is_blocked_until_its_bronze_changes(make_stream: Callable[..., Own]) -> None:
    own = make_stream(edit=threshold(0.5))
    own.land([payment("a", noon(DAY)), "{", "["], noon(DAY))
    own.bronze()
    own.clean(DAY)
    partitions = stream_partitions(own.stream, own.lake.tables.load)
    assert partitions.layers["silver"][DAY].state == "held_back"
    assert partitions.ledgers[DAY].quality == pytest.approx(1 / 3)
    own.land([payment(key, noon(DAY)) for key in "bcdef"], noon(DAY) + HOUR)
    own.bronze()
    assert states(own)["silver"] == "waiting"
    own.clean(DAY)
    assert states(own)["silver"] == "materialised"


def test_newest_event_is_read_from_file_statistics(make_stream: Callable[..., Own]) -> None:
    own = make_stream()
    table = own.lake.tables.load(f"silver.{own.name}")
    assert newest_time(table, "event_time") is None
    own.land([payment("a", noon(DAY)), payment("b", noon(LATER)), payment("c", noon(DAY) - HOUR)], noon(LATER) + HOUR)
    own.bronze()
    own.clean(DAY, LATER)
    table = own.lake.tables.load(f"silver.{own.name}")
    assert (newest_time(table, "event_time"), newest_time(table, "_arrived_at")) == (noon(LATER), noon(LATER) + HOUR)


def test_quarantine_report_counts_reasons_and_shows_raw_rows(make_stream: Callable[..., Own]) -> None:
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
            parameters = {"since": since and parse_time(since), "reason": reason}
            queries = {
                reasons_sql(own.lake, own.stream): parameters,
                samples_sql(own.lake, own.stream): {**parameters, "limit": limit},
            }
            counted, samples = (cursor.execute(*query).to_arrow_table().to_pylist() for query in queries.items())
            report = quarantine_report(own.name, RecentArrivals(5, 4), counted, reject_samples(samples))
            counts = {reason.reason: reason.rows for reason in report.reasons}
            return report.rows, counts, [sample.raw or "" for sample in report.samples]

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


def test_daily_metrics_match_gold(make_stream: Callable[..., Own]) -> None:
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
    numbers = metrics_view_sql(own.lake, [own.stream], own.name)
    with own.lake.engine.cursor() as cursor:
        cursor.execute(f"attach ':memory:' as {own.name}; use {own.name}")
        for statement in create_views_sql(own.lake, ["gold.daily_metrics"]):
            cursor.execute(statement)
        measures = stream_measures(own.name, cursor.execute(measures_sql(numbers)).to_arrow_table().to_pylist())
        assert (measures.first_day, measures.last_day) == (DAY, LATER)
        assert [(measure.name, measure.how) for measure in measures.measures] == [
            ("amount", "sum"),
            ("declined", "sum"),
            ("max_amount", "max"),
            ("transactions", "sum"),
        ]
        assert measures.measures[0].dimensions == ["currency", "type"]

        def ask(metric: str, by: str | None) -> dict[str, list[float | None]]:
            parameters = {"metric": metric, "first": DAY, "last": LATER} | ({"by": by} if by else {})
            rows = cursor.execute(metric_sql(numbers, metric, by), parameters).to_arrow_table().to_pylist()
            return {
                series.name: series.values for series in metric_by_day(own.name, metric, by, [DAY, LATER], rows).series
            }

        assert ask("amount", None) == {"amount": [11.75, 3.0]}
        assert ask("amount", "currency") == {"EUR": [10.25, 3.0], "USD": [1.5, None]}
        assert ask("max_amount", None) == {"max_amount": [10.25, 3.0]}
        assert cursor.execute("select count(*) from gold.daily_metrics where stream = ?", [own.name]).fetchall() == [
            (12,)
        ]


@pytest.mark.parametrize(
    ("metric", "aggregation"),
    [
        ("amount", "sum"),
        ("max_amount", "max"),
        ("min_value", "min"),
        ("avg_value", "mean"),
        ("p95_latency_ms", "mean"),
        ("paid", "sum"),
    ],
)
def test_aggregation_follows_the_metric_name(metric: str, aggregation: Aggregation) -> None:
    assert aggregation_of(metric) == aggregation


def test_series_beyond_the_maximum_are_combined() -> None:
    rows = [{"date_key": DAY, "name": f"{n:02}", "value": float(n)} for n in range(1, 11)]
    series = metric_by_day("s", "amount", "x", [DAY], rows).series
    assert [it.name for it in series] == ["10", "09", "08", "07", "06", "05", "04", "03", "2 others"]
    assert series[-1].values == [3.0]
    assert len(metric_by_day("s", "max_amount", "x", [DAY], rows).series) == 8


@pytest.mark.parametrize(
    ("ledger", "quality"),
    [
        (DayLedger(DAY, 0, 0, 0, 0, 0, False), None),
        (DayLedger(DAY, 4, 4, 3, 0, 1, False), 1.0),
        (DayLedger(DAY, 4, 3, 3, 1, 0, False), 0.75),
        (DayLedger(DAY, 4, 2, 2, 2, 0, False, replaced=1), 2 / 3),
        (DayLedger(DAY, 4, 2, 2, 2, 0, False, replaced=2), 1.0),
        (DayLedger(DAY, 4, 0, 0, 4, 0, False, replaced=4), None),
        (DayLedger(DAY, 4, 0, 0, 2, 2, False, replaced=2), None),  # equal rejected rows are in quarantine once
        (DayLedger(DAY, 4, 1, 0, 4, 0, True), 0.25),  # blocked
    ],
)
def test_quality_counts_open_rows(ledger: DayLedger, quality: float | None) -> None:
    assert ledger.quality == pytest.approx(quality)


def test_day_whose_rows_are_all_replaced_is_not_the_last_day() -> None:
    partitions = StreamPartitions(
        {}, {DAY: DayLedger(DAY, 2, 1, 1, 1, 0, False), LATER: DayLedger(LATER, 3, 0, 0, 3, 0, False)}
    )
    assert partitions.last_day == partitions.ledgers[LATER]
    assert partitions.with_replaced({LATER: 3}).last_day == partitions.ledgers[DAY]


def test_replaced_rows_are_counted_by_the_day_of_the_rejected_row(make_stream: Callable[..., Own]) -> None:
    own = make_stream(edit=threshold(0))
    own.land([payment("a", noon(DAY), amount="-1"), payment("b", noon(DAY), amount="-2"), "{"], noon(DAY))
    own.bronze()
    own.clean(DAY)

    def replaced() -> dict[date, int]:
        with own.lake.engine.cursor() as cursor:
            return dict(cursor.execute(replaced_counts_sql(own.lake, own.stream)).fetchall())

    assert replaced() == {}
    place = next((row.object, row.row) for row in rejected_rows(own.lake, own.stream) if row.row == 1)
    land_corrections(own.lake, own.stream, [(place, payment("a", noon(LATER)))])
    own.bronze()
    own.clean(*own.stale())
    assert replaced() == {DAY: 1}
