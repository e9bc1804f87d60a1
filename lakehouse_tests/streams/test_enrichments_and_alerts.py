"""Each stream's SQL gives the expected rows for chosen events."""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import duckdb
import pytest

LandRows = Callable[[Sequence[Mapping[str, Any]]], None]
Sql = Callable[[str], str]

NOON = datetime(2025, 11, 20, 12)


def column(lake: duckdb.DuckDBPyConnection, name: str, order: str = "event_id") -> list[Any]:
    return [value for (value,) in lake.sql(f"select {name} from silver order by {order}").fetchall()]


def alerts(lake: duckdb.DuckDBPyConnection, sql: Sql) -> list[tuple[Any, ...]]:
    """Return each alert's severity, entity, value, threshold and key."""
    query = f"select severity, entity, value, threshold, event_key from ({sql('alerts')}) order by event_key"
    return lake.sql(query).fetchall()


@pytest.mark.parametrize("folder", ["iot"], indirect=True)
@pytest.mark.parametrize(
    ("metric", "value", "unit", "normalised", "in_unit", "out_of_range"),
    [
        ("temperature", 21.5, "°C", 21.5, "C", False),
        ("temperature", 21.5, None, 21.5, "C", False),
        ("temperature", 212.0, " F", 100.0, "C", True),
        ("temperature", 293.15, "K", 20.0, "C", False),
        ("temperature", -40.0, "C", -40.0, "C", False),
        ("temperature", -40.5, "C", -40.5, "C", True),
        ("humidity", 100.0, "percent", 100.0, "%", False),
        ("humidity", 100.5, "%", 100.5, "%", True),
        ("pressure", 101.3, "kPa", 1013.0, "hPa", False),
        ("pressure", 101_300.0, "Pa", 1013.0, "hPa", False),
        ("vibration", 2.0, "in/s", 50.8, "mm/s", True),
        ("battery", -1.0, "%", -1.0, "%", True),
        ("other", 1e9, " lux ", 1e9, "lux", False),
    ],
)
def test_reading_is_converted_and_compared_with_its_range(
    lake: duckdb.DuckDBPyConnection,
    land_rows: LandRows,
    metric: str,
    value: float,
    unit: str | None,
    normalised: float,
    in_unit: str,
    out_of_range: bool,
) -> None:
    land_rows([{"metric": metric, "value": value, "unit": unit}])
    assert column(lake, "value_normalised") == [pytest.approx(normalised)]
    assert column(lake, "unit_normalised") == [in_unit]
    assert column(lake, "out_of_range") == [out_of_range]


@pytest.mark.parametrize("folder", ["iot"], indirect=True)
def test_reading_out_of_range_alerts_with_the_bound_passed(
    lake: duckdb.DuckDBPyConnection, land_rows: LandRows, sql: Sql
) -> None:
    values = [20.0, 85.0, 85.5, 150.0, -41.0, -200.0]
    land_rows([{"metric": "temperature", "value": value, "unit": "C"} for value in values])
    assert alerts(lake, sql) == [
        ("warning", "x", 85.5, 85.0, "key-0002"),
        ("critical", "x", 150.0, 85.0, "key-0003"),
        ("warning", "x", -41.0, -40.0, "key-0004"),
        ("critical", "x", -200.0, -40.0, "key-0005"),
    ]


@pytest.mark.parametrize("folder", ["clickstream"], indirect=True)
def test_events_have_a_position_in_the_days_session(lake: duckdb.DuckDBPyConnection, land_rows: LandRows) -> None:
    midnight = datetime(2025, 11, 21)
    seconds = [-90.0, -60.0, -60.0, -0.5, 1.25]
    land_rows([{"session_id": "s", "event_time": midnight + timedelta(seconds=s)} for s in seconds])
    assert column(lake, "session_position") == [1, 2, 3, 4, 1]
    assert column(lake, "seconds_since_previous") == [None, 30.0, 0.0, 59.5, None]
    assert column(lake, "is_entry") == [True, False, False, False, True]


@pytest.mark.parametrize("folder", ["clickstream"], indirect=True)
@pytest.mark.parametrize(
    ("referrer", "source"),
    [
        (None, "direct"),
        ("", "direct"),
        ("not a url", "direct"),
        ("https://shop.example/cart", "internal"),
        ("https://SHOP.example:443/", "internal"),
        ("https://www.google.co.uk/search?q=mug", "search"),
        ("https://duckduckgo.com/", "search"),
        ("https://m.facebook.com/", "social"),
        ("https://t.co/abc", "social"),
        ("https://nott.co/abc", "referral"),
        ("https://notgoogle.com/", "referral"),
        ("https://blog.example.org/?from=google.com", "referral"),
    ],
)
def test_traffic_source_follows_from_referrer_host(
    lake: duckdb.DuckDBPyConnection, land_rows: LandRows, referrer: str | None, source: str
) -> None:
    land_rows([{"page_url": "https://shop.example/product/1", "referrer": referrer}])
    assert column(lake, "traffic_source") == [source]


@pytest.mark.parametrize("folder", ["clickstream"], indirect=True)
def test_only_long_fast_session_alerts_as_robot(lake: duckdb.DuckDBPyConnection, land_rows: LandRows, sql: Sql) -> None:
    sessions = [("fast and long", 60, 0.5), ("fast and short", 59, 0.5), ("slow and long", 61, 2.0)]
    land_rows(
        [
            {"session_id": name, "event_time": NOON + timedelta(seconds=number * gap)}
            for name, length, gap in sessions
            for number in range(length)
        ]
    )
    assert alerts(lake, sql) == [("info", "fast and long", pytest.approx(60 / 29.5 * 60), 60.0, "2025-11-20 12:00:00")]


@pytest.mark.parametrize("folder", ["logs"], indirect=True)
def test_services_are_normalised_and_lines_classified(lake: duckdb.DuckDBPyConnection, land_rows: LandRows) -> None:
    codes = [None, 102, 200, 308, 404, 599, 600, -1]
    levels = ["DEBUG", "INFO", "WARN", "ERROR", "FATAL", "INFO", "INFO", "INFO"]
    land_rows([{"service": " Pay ", "level": lv, "status_code": c} for lv, c in zip(levels, codes, strict=True)])
    assert set(column(lake, "service_normalised")) == {"pay"}
    assert column(lake, "is_error") == [False, False, False, True, True, False, False, False]
    assert column(lake, "status_class") == [None, "1xx", "2xx", "3xx", "4xx", "5xx", "other", "other"]


@pytest.mark.parametrize("folder", ["logs"], indirect=True)
def test_twenty_errors_in_five_clock_minutes_are_a_burst(
    lake: duckdb.DuckDBPyConnection, land_rows: LandRows, sql: Sql
) -> None:
    def lines(service: str, level: str, minute: int, count: int) -> list[dict[str, Any]]:
        return [
            {"service": service, "level": level, "event_time": NOON + timedelta(minutes=minute, milliseconds=number)}
            for number in range(count)
        ]

    land_rows(
        lines("Pay", "ERROR", 5, 12)
        + lines("pay", "FATAL", 9, 8)
        + lines("pay", "ERROR", 10, 19)
        + lines("mail", "WARN", 5, 50)
        + lines("search", "ERROR", 59, 100)
        + lines("search", "ERROR", 64, 19)
    )
    assert alerts(lake, sql) == [
        ("warning", "pay", 20.0, 20.0, "2025-11-20 12:05:00"),
        ("critical", "search", 100.0, 20.0, "2025-11-20 12:55:00"),
    ]


@pytest.mark.parametrize("folder", ["social"], indirect=True)
def test_engagement_weighs_actions_and_makes_posts_viral(
    lake: duckdb.DuckDBPyConnection, land_rows: LandRows, sql: Sql
) -> None:
    actions = [("post", None), ("like", []), ("comment", ["a"]), ("share", ["a", "b"])]
    land_rows([{"action": action, "hashtags": tags, "text": "ça va"} for action, tags in actions])
    assert column(lake, "engagement_weight") == [0, 1, 2, 3]
    assert column(lake, "hashtag_count") == [0, 0, 1, 2]
    assert column(lake, "text_length") == [5, 5, 5, 5]
    shares = {"viral": 334, "quiet": 333}
    land_rows(
        [{"post_id": p, "action": "share", "hashtags": ["a"]} for p, count in shares.items() for _ in range(count)]
    )
    assert alerts(lake, sql) == [("info", "viral", 1002.0, 1000.0, "viral")]


@pytest.mark.parametrize("folder", ["financial"], indirect=True)
@pytest.mark.parametrize(
    ("amount", "kind", "status", "hour", "band"),
    [
        ("499.99", "payment", "settled", 12, "low"),
        ("500.00", "payment", "settled", 12, "medium"),
        ("5.00", "payment", "declined", 12, "medium"),
        ("5.00", "withdrawal", "settled", 5, "medium"),
        ("5.00", "withdrawal", "settled", 6, "low"),
        ("999.99", "payment", "declined", 12, "medium"),
        ("1000.00", "payment", "declined", 12, "high"),
        ("1000.00", "transfer", "settled", 3, "high"),
        ("5000.00", "deposit", "settled", 12, "high"),
    ],
)
def test_risk_band_follows_from_amount_status_type_and_hour(
    lake: duckdb.DuckDBPyConnection, land_rows: LandRows, amount: str, kind: str, status: str, hour: int, band: str
) -> None:
    at = datetime(2025, 11, 23, hour, 59)
    land_rows([{"amount": Decimal(amount), "type": kind, "status": status, "event_time": at}])
    assert column(lake, "risk_band") == [band]
    assert column(lake, "hour") == [hour]
    assert column(lake, "day_of_week") == [7]


@pytest.mark.parametrize("folder", ["financial"], indirect=True)
def test_transaction_alerts_from_ten_thousand_on(
    lake: duckdb.DuckDBPyConnection, land_rows: LandRows, sql: Sql
) -> None:
    amounts = ["9999.99", "10000.00", "99999.99", "100000.00"]
    land_rows([{"amount": Decimal(amount), "currency": "EUR", "status": "pending"} for amount in amounts])
    assert alerts(lake, sql) == [
        ("warning", "x", 10_000.0, 10_000.0, "key-0001"),
        ("warning", "x", 99_999.99, 10_000.0, "key-0002"),
        ("critical", "x", 100_000.0, 10_000.0, "key-0003"),
    ]
    messages = lake.sql(f"select message from ({sql('alerts')}) order by event_key").fetchall()
    assert messages[0] == ("payment of 10000.00 EUR is pending",)


@pytest.mark.parametrize("folder", ["retail"], indirect=True)
def test_line_amounts_are_exact_and_large_cancellations_alert(
    lake: duckdb.DuckDBPyConnection, land_rows: LandRows, sql: Sql
) -> None:
    land_rows(
        [
            {"invoice_no": "C1", "quantity": -3, "unit_price": Decimal("333.333"), "customer_id": 17_850},
            {"invoice_no": "C1", "quantity": -1, "unit_price": Decimal("0.001"), "customer_id": 17_850},
            {"invoice_no": "C2", "quantity": -1, "unit_price": Decimal("999.999"), "customer_id": None},
            {"invoice_no": "C3", "quantity": -1, "unit_price": Decimal("10000.000"), "customer_id": None},
            {"invoice_no": "536365", "quantity": 2**63 - 1, "unit_price": Decimal("999999999999999.999")},
        ]
    )
    assert column(lake, "line_amount", "invoice_no, quantity") == [
        Decimal("9223372036854775797776627963145224.193"),
        Decimal("-999.999"),
        Decimal("-0.001"),
        Decimal("-999.999"),
        Decimal("-10000.000"),
    ]
    assert column(lake, "is_cancellation", "invoice_no, quantity") == [False, True, True, True, True]
    assert alerts(lake, sql) == [
        ("warning", "17850", 1000.0, 1000.0, "C1"),
        ("critical", None, 10_000.0, 1000.0, "C3"),
    ]


@pytest.mark.parametrize("folder", ["retail"], indirect=True)
def test_units_beyond_bigint_are_null(lake: duckdb.DuckDBPyConnection, land_rows: LandRows, sql: Sql) -> None:
    land_rows([{"invoice_no": n, "quantity": 2**63 - 1, "country": "UK", "customer_id": 1} for n in ("1", "2")])
    assert lake.sql(f"select units, net_revenue from ({sql('gold')})").fetchall() == [(None, Decimal(2**64 - 2))]
    assert lake.sql(f"select units_30d, lines_30d from ({sql('features')})").fetchall() == [(None, 2)]


@pytest.mark.parametrize("folder", ["orders"], indirect=True)
def test_order_enters_a_status_once(lake: duckdb.DuckDBPyConnection, land_rows: LandRows, sql: Sql) -> None:
    life = [
        ("insert", "created", "600.00"),
        ("update", "paid", "600.00"),
        ("update", "paid", "500.00"),
        ("update", "cancelled", "500.00"),
        ("update", "cancelled", "700.00"),
        ("delete", "cancelled", None),
    ]
    land_rows(
        [
            {"order_id": "o", "version": version, "op": op, "status": status, "amount": amount and Decimal(amount)}
            for version, (op, status, amount) in enumerate(life, start=1)
        ]
    )
    assert column(lake, "enters_status", "version") == [True, True, False, True, False, False]
    assert column(lake, "is_delete", "version") == [False] * 5 + [True]
    assert column(lake, "status_rank", "version") == [1, 2, 2, 5, 5, 5]
    assert lake.sql(f"select created, paid, cancelled, amount_created from ({sql('gold')})").fetchall() == [
        (1, 1, 1, Decimal("600.00"))
    ]
    assert alerts(lake, sql) == [("warning", "x", 500.0, 500.0, "o:4")]


@pytest.mark.parametrize("folder", ["orders"], indirect=True)
def test_order_status_ignores_the_day_before(lake: duckdb.DuckDBPyConnection, land_rows: LandRows) -> None:
    changes = [(1, "insert", NOON), (2, "update", NOON), (3, "update", NOON + timedelta(days=1))]
    land_rows(
        [{"order_id": "o", "version": v, "op": op, "status": "created", "event_time": at} for v, op, at in changes]
    )
    assert column(lake, "enters_status", "version") == [True, False, True]
