"""Named queries: files are checked strictly, and the built-in ones return exact rows."""

from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import pytest

from lakehouse.contracts.sql import quote
from lakehouse.contracts.streams import discover
from lakehouse.errors import ParameterError, QueryFileError
from lakehouse.pipeline.table_specs import METRIC_COLUMNS, table_specs
from lakehouse.pipeline.unified_view import HEALTH_COLUMNS
from lakehouse.pipeline.view_names import LIVE_METRICS
from lakehouse.serving.query.named_queries import NamedQuery, read_queries, read_query

GOOD = """/*
name: q
description: Some numbers.
parameters:
  days: {type: integer, default: 7, minimum: 1, maximum: 9, description: d}
*/
select $days as days
"""


def _file(folder: Path, text: str, name: str = "q.sql") -> Path:
    path = folder / name
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (GOOD, "select 1", "must start with a /\\* … \\*/ comment"),
        ("name: q", "name: other", "must be the file's name, 'q'"),
        ("name: q", "name: [", "line .*not YAML"),
        ("select $days", "-- chart: pie\nselect $days", "line 7: chart: pie is no kind of chart"),
        ("name: q\n", "", "name: Field required"),
        ("description: Some numbers.", "description: ''", "description: "),
        ("type: integer", "type: int", "parameters.days.type: Input should be 'text', 'integer'"),
        ("default: 7", "default: 70", "70 is more than 9"),
        ("default: 7", "default: x", "'x' is not an integer"),
        ("default: 7", "defualt: 7", "parameters.days.defualt: Extra inputs are not permitted"),
        ("$days", "7", "the header has the parameters days, the SQL uses none"),
        ("$days", "$days + $more", "the SQL uses days, more"),
        ("select $days as days", "selekt $days", "syntax error"),
        ("select $days as days", "drop table x", "must hold one SELECT"),
        ("select $days as days", "select $days; select 1", "must hold one SELECT"),
    ],
)
def test_invalid_file_is_an_error_with_the_rule(tmp_path: Path, old: str, new: str, message: str) -> None:
    path = _file(tmp_path, GOOD.replace(old, new))
    with pytest.raises(QueryFileError, match=message) as raised:
        read_query(path)
    assert str(path) in str(raised.value)


def test_added_file_adds_or_replaces_a_query(tmp_path: Path) -> None:
    _file(tmp_path, GOOD)
    _file(tmp_path, GOOD.replace("name: q", "name: funnel"), "funnel.sql")
    queries = read_queries([tmp_path])
    assert queries.keys() == read_queries().keys() | {"q"}
    assert queries["funnel"].path == tmp_path / "funnel.sql"
    with pytest.raises(QueryFileError, match="is not a folder"):
        read_queries([tmp_path / "none"])


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"day": "1"}, "q has no parameter day. It has: days."),
        ({"days": "0"}, "days: 0 is less than 1."),
        ({"days": "10"}, "days: 10 is more than 9."),
        ({"days": "1.5"}, "days: '1.5' is not an integer"),
        ({"days": "1; drop"}, "days: '1; drop' is not an integer"),
    ],
)
def test_invalid_parameter_is_an_error(tmp_path: Path, given: Mapping[str, str], message: str) -> None:
    query = read_query(_file(tmp_path, GOOD))
    with pytest.raises(ParameterError) as raised:
        query.bind(given)
    assert message in str(raised.value)


def test_values_are_typed_and_defaults_filled_in(tmp_path: Path) -> None:
    text = """/*
name: q
description: d
parameters:
  a: {type: text, description: d}
  b: {type: number, default: 1.10, description: d}
  c: {type: boolean, default: false, description: d}
  d: {type: date, default: today, description: d}
  e: {type: timestamp, default: null, description: d}
*/
select $a, $b, $c, $d, $e
"""
    query = read_query(_file(tmp_path, text))
    today = datetime.now(UTC).date()
    bound = query.bind({"a": "x"})
    assert bound == {"a": "x", "b": Decimal("1.1"), "c": False, "d": bound["d"], "e": None}
    assert today <= bound["d"] <= today + timedelta(days=1)  # type: ignore[operator]
    given = {"a": "'", "b": "0.30", "c": "true", "d": "2025-01-02", "e": "2025-01-02T03:04:05+02:00"}
    assert query.bind(given) == {
        "a": "'",
        "b": Decimal("0.30"),
        "c": True,
        "d": date(2025, 1, 2),
        "e": datetime(2025, 1, 2, 1, 4, 5),
    }
    with pytest.raises(ParameterError, match="q needs a"):
        query.bind({})


DAY = date(2025, 6, 10)
UNTIL = {"until": str(DAY)}


def _at(hour: int, days_ago: int = 0) -> datetime:
    return datetime(DAY.year, DAY.month, DAY.day, hour) - timedelta(days=days_ago)


def _line(
    customer: int | None, amount: str, at: datetime, invoice: str = "1", country: str = "France"
) -> dict[str, Any]:
    line = {"customer_id": customer, "line_amount": Decimal(amount), "invoice_date": at, "invoice_no": invoice}
    return line | {"country": country, "dt": at.date()}


def _log(service: str, error: bool, at: datetime) -> dict[str, Any]:
    return {"service_normalised": service, "is_error": error, "event_time": at, "dt": at.date()}


def _click(kind: str, session: str, user: str | None = None) -> dict[str, Any]:
    return {"event_type": kind, "session_id": session, "user_id": user, "dt": DAY, "country": "FR"}


def _reading(device: str, metric: str, value: float, bad: bool, at: datetime) -> dict[str, Any]:
    reading = {"device_id": device, "metric": metric, "value_normalised": value, "out_of_range": bad}
    return reading | {"event_time": at, "dt": at.date(), "site": "s"}


def _payment(key: str, amount: str, currency: str = "EUR", at: datetime | None = None) -> dict[str, Any]:
    at = at or _at(1)
    return {"event_id": key, "amount": Decimal(amount), "currency": currency, "event_time": at, "dt": at.date()}


def _metric(stream: str, name: str, day: date) -> dict[str, Any]:
    return {"stream": stream, "metric_name": name, "metric_value": 1.5, "date_key": day, "dimensions": {"a": "b"}}


def _health(stream: str, events: int, quarantined: int, day: date = DAY) -> dict[str, Any]:
    moment = datetime(day.year, day.month, day.day)
    counts = {"stream": stream, "dt": day, "events": events, "quarantined": quarantined}
    return counts | {"newest_event": moment, "newest_arrival": moment}


CASES: list[tuple[str, dict[str, str], str, list[dict[str, Any]], list[tuple[Any, ...]]]] = [
    (
        "revenue_by_hour",
        UNTIL | {"country": "France"},
        "serving.unified_retail",
        [
            _line(1, "2.500", _at(9)),
            _line(1, "0.100", _at(9, 6), "2"),
            _line(1, "0.200", _at(9, 6), "2"),
            _line(2, "-1.000", _at(9), "C3"),
            _line(2, "9.000", _at(9), country="Spain"),
            _line(2, "9.000", _at(9, 7)),
            _line(2, "9.000", _at(9, -1)),
        ],
        [(_at(9, 6), Decimal("0.300"), 1, 2), (_at(9), Decimal("1.500"), 2, 2)],
    ),
    (
        "customer_segments",
        {},
        "serving.unified_retail",
        [
            _line(1, "1000.000", _at(9)),
            _line(2, "400.000", _at(9), "2"),
            _line(2, "100.000", _at(9, 1), "3"),
            _line(3, "499.999", _at(9), "4"),
            _line(4, "100.001", _at(9), "5"),
            _line(None, "5000.000", _at(9), "6"),
        ],
        [
            ("high", 1, Decimal("1000.000"), 1000.0, 1.0, 1.0),
            ("medium", 1, Decimal("500.000"), 500.0, 2.0, 2.0),
            ("low", 2, Decimal("600.000"), 300.0, 1.0, 1.0),
        ],
    ),
    (
        "daily_metrics",
        UNTIL | {"stream": "iot", "metric": "readings", "days": "2"},
        LIVE_METRICS,
        [
            _metric("iot", "readings", DAY),
            _metric("iot", "readings", DAY - timedelta(days=1)),
            _metric("iot", "readings", DAY - timedelta(days=2)),
            _metric("iot", "other", DAY),
            _metric("logs", "readings", DAY),
        ],
        [
            (DAY, "readings", {"a": "b"}, 1.5),
            (DAY - timedelta(days=1), "readings", {"a": "b"}, 1.5),
        ],
    ),
    (
        "top_services",
        UNTIL | {"limit": "2"},
        "serving.unified_logs",
        [
            *(_log("good", False, _at(3)) for _ in range(4)),
            _log("bad", True, _at(3)),
            _log("bad", True, _at(4)),
            _log("bad", False, _at(5)),
            _log("middling", True, _at(1)),
            *(_log("middling", False, _at(1)) for _ in range(3)),
        ],
        [("bad", 3, 2, 2 / 3, _at(4)), ("middling", 4, 1, 0.25, _at(1))],
    ),
    (
        "funnel",
        UNTIL,
        "serving.unified_clickstream",
        [
            _click("page_view", "a", "u"),
            _click("page_view", "a", "u"),
            _click("page_view", "b"),
            _click("purchase", "b"),
        ],
        [
            (1, "page_view", 3, 2, 1, 1.0),
            (2, "search", 0, 0, 0, 0.0),
            (3, "click", 0, 0, 0, 0.0),
            (4, "add_to_cart", 0, 0, 0, 0.0),
            (5, "purchase", 1, 1, 0, 0.5),
        ],
    ),
    (
        "device_health",
        UNTIL,
        "serving.unified_iot",
        [
            _reading("fine", "temperature", 20, False, _at(1)),
            _reading("flat", "battery", 9.5, False, _at(2)),
            _reading("weak", "battery", 19, False, _at(2)),
            _reading("hot", "temperature", 200, True, _at(3)),
            _reading("old", "temperature", 200, True, _at(3, 1)),
        ],
        [
            ("hot", "s", 1, 1, 1.0, None, _at(3), "critical"),
            ("flat", "s", 1, 0, 0.0, 9.5, _at(2), "critical"),
            ("weak", "s", 1, 0, 0.0, 19.0, _at(2), "warning"),
            ("fine", "s", 1, 0, 0.0, None, _at(1), "ok"),
        ],
    ),
    (
        "largest_transactions",
        UNTIL | {"limit": "2", "currency": "EUR"},
        "serving.unified_financial",
        [
            _payment("a", "0.01"),
            _payment("b", "9999999999999999.99"),
            _payment("c", "10000.00"),
            _payment("d", "9999999999999999.98", "USD"),
        ],
        [
            ("b", _at(1), None, None, Decimal("9999999999999999.99"), "EUR", None, None, None),
            ("c", _at(1), None, None, Decimal("10000.00"), "EUR", None, None, None),
        ],
    ),
]


def _ask(
    query: NamedQuery, given: Mapping[str, str], table: str, rows: Sequence[Mapping[str, Any]]
) -> list[tuple[Any, ...]]:
    """Run the query over a table of these rows; missing columns are null."""
    with duckdb.connect() as database:
        schema = table.partition(".")[0]
        columns = ", ".join(f"{quote(name)} {sql_type}" for name, sql_type in _columns(table))
        database.execute(f"create schema {schema}; create table {table} ({columns})")
        for row in rows:
            names = ", ".join(map(quote, row))
            values = list(row.values())
            database.execute(f"insert into {table} ({names}) values ({', '.join('?' * len(row))})", values)
        return database.execute(query.sql, query.bind(given)).fetchall()


def _columns(table: str) -> Sequence[tuple[str, str]]:
    if table == "serving.stream_health":
        return HEALTH_COLUMNS
    if table == LIVE_METRICS:
        return METRIC_COLUMNS
    name = table.removeprefix("serving.unified_")
    specs = {spec.name: spec for spec in table_specs([discover(())[name]])}
    return specs[f"silver.{name}"].columns


@pytest.mark.parametrize(("name", "given", "table", "rows", "expected"), CASES, ids=[case[0] for case in CASES])
def test_builtin_query_returns_exact_rows(
    name: str,
    given: Mapping[str, str],
    table: str,
    rows: Sequence[Mapping[str, Any]],
    expected: Sequence[tuple[Any, ...]],
) -> None:
    assert _ask(read_queries()[name], given, table, rows) == expected


def test_stream_health_returns_one_row_per_stream() -> None:
    rows = [_health("iot", 3, 1), _health("iot", 4, 0, DAY - timedelta(days=1)), _health("logs", 0, 0)]
    rows += [_health("iot", 100, 100, DAY - timedelta(days=7)), {"stream": "social", "unreadable": "silver.social …"}]
    health = _ask(read_queries()["stream_health"], UNTIL, "serving.stream_health", rows)
    midnight = datetime(DAY.year, DAY.month, DAY.day)
    age = health[0][-2]
    assert health == [
        ("iot", 7, 1, 0.875, midnight, midnight, age, None),
        ("logs", 0, 0, None, midnight, midnight, health[1][-2], None),
        ("social", None, None, None, None, None, None, "silver.social …"),
    ]
    expected = (datetime.now(UTC).replace(tzinfo=None) - midnight).total_seconds()
    assert expected - 60 < age <= expected + 1


def test_every_builtin_query_is_tested() -> None:
    assert {case[0] for case in CASES} | {"stream_health"} == read_queries().keys()
