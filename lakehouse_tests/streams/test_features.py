"""Features equal a slow computation in Python, window by window."""

from collections.abc import Callable, Iterable
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pytest

from lakehouse.contracts.model import Contract
from lakehouse.sources.simulation import Simulate
from lakehouse_tests.contracts.earlier_definitions import RELEASE, has_release, released_sql

Rows = list[dict[str, Any]]

START, DAYS = datetime(2025, 10, 1), 50


def count(field: str, *values: object) -> Callable[[Rows], int]:
    return lambda rows: sum(row[field] in values for row in rows)


def total(field: str) -> Callable[[Rows], Any]:
    return lambda rows: sum(row[field] for row in rows)


def share(part: Callable[[Rows], Any], whole: Callable[[Rows], Any]) -> Callable[[Rows], float | None]:
    return lambda rows: float(part(rows)) / float(whole(rows)) if whole(rows) else None


def extreme(choose: Callable[[Iterable[Any]], Any], field: str, **only: str) -> Callable[[Rows], Any]:
    def value(rows: Rows) -> Any:
        values = [row[field] for row in _only(rows, only) if row[field] is not None]
        return choose(values) if values else None

    return value


def mean(field: str, **only: str) -> Callable[[Rows], float | None]:
    def value(rows: Rows) -> float | None:
        values = [row[field] for row in _only(rows, only) if row[field] is not None]
        return sum(values) / len(values) if values else None

    return value


def a_day(*fields: str) -> Callable[[Rows], int]:
    """Count the distinct values of each day, summed over the days."""
    return lambda rows: len({tuple(row[field] for field in ("dt", *fields)) for row in rows})


def _only(rows: Rows, values: dict[str, str]) -> Rows:
    return [row for row in rows if all(row[field] == value for field, value in values.items())]


FEATURES: dict[str, dict[str, Callable[[Rows], Any]]] = {
    "iot": {
        "readings": len,
        "out_of_range": count("out_of_range", True),
        "out_of_range_share": share(count("out_of_range", True), len),
        "avg_temperature": mean("value_normalised", metric="temperature"),
        "max_vibration": extreme(max, "value_normalised", metric="vibration"),
        "min_battery": extreme(min, "value_normalised", metric="battery"),
        "active_days": a_day(),
    },
    "clickstream": {
        "events": len,
        "sessions": a_day("session_id"),
        "page_views": count("event_type", "page_view"),
        "searches": count("event_type", "search"),
        "add_to_carts": count("event_type", "add_to_cart"),
        "purchases": count("event_type", "purchase"),
        "purchases_per_session": share(count("event_type", "purchase"), a_day("session_id")),
        "active_days": a_day(),
    },
    "logs": {
        "events": len,
        "errors": count("level", "ERROR", "FATAL"),
        "error_share": share(count("level", "ERROR", "FATAL"), len),
        "server_errors": count("status_class", "5xx"),
        "avg_latency_ms": mean("latency_ms"),
        "max_latency_ms": extreme(max, "latency_ms"),
    },
    "social": {
        "actions": len,
        "posts": count("action", "post"),
        "likes": count("action", "like"),
        "shares": count("action", "share"),
        "comments": count("action", "comment"),
        "engagement": total("engagement_weight"),
        "hashtags": total("hashtag_count"),
        "max_followers": extreme(max, "followers"),
        "active_days": a_day(),
    },
    "financial": {
        "transactions": len,
        "declined": count("status", "declined"),
        "declined_share": share(count("status", "declined"), len),
        "high_risk": count("risk_band", "high"),
        "night_transactions": count("hour", *range(6)),
        "amount": total("amount"),
        "max_amount": extreme(max, "amount"),
        "active_days": a_day(),
    },
    "retail": {
        "invoices": a_day("invoice_no"),
        "lines": len,
        "units": total("quantity"),
        "net_revenue": total("line_amount"),
        "cancellations": lambda rows: a_day("invoice_no")([row for row in rows if row["is_cancellation"]]),
        "active_days": a_day(),
    },
    "orders": {
        "changes": len,
        "created": count("status", "created"),
        "paid": count("status", "paid"),
        "cancelled": count("status", "cancelled"),
        "cancelled_share": share(count("status", "cancelled"), count("status", "created")),
        "amount_created": lambda rows: sum((r["amount"] for r in rows if r["status"] == "created"), Decimal(0)),
        "active_days": a_day(),
    },
}


def slowly(stream: str, entity: str, events: Rows, days: list[date]) -> dict[tuple[date, object], dict[str, Any]]:
    expected: dict[tuple[date, object], dict[str, Any]] = {}
    for day in days:
        for member in {row[entity] for row in events} - {None}:
            windows = {
                length: [row for row in events if row[entity] == member and 0 <= (day - row["dt"]).days < length]
                for length in (1, 7, 30)
            }
            if windows[30]:
                expected[day, member] = {
                    f"{name}_{length}d": feature(rows)
                    for name, feature in FEATURES[stream].items()
                    for length, rows in windows.items()
                }
    return expected


def test_features_match_a_slow_computation(
    contract: Contract,
    simulate: Simulate,
    lake: duckdb.DuckDBPyConnection,
    land: Callable[[pa.Table], None],
    sql: Callable[[str], str],
) -> None:
    assert contract.entity is not None
    # Only the busiest entities, because the reference computation is slow.
    land(simulate(np.random.default_rng(5), 6_000, START, START + timedelta(days=DAYS)))
    few = f"select {contract.entity} from silver group by all order by count(*) desc, 1 limit 12"
    lake.execute(
        f"create table few as select * from silver where {contract.entity} is null or {contract.entity} in ({few})"
    )
    days = [START.date() + timedelta(days=after) for after in (29, 30, 36, DAYS - 1)]
    first = min(days) - timedelta(days=29)
    lake.execute(f"create or replace view events as select * from few where dt between '{first}' and '{max(days)}'")
    lake.execute("create or replace table days as select unnest($1::date[]) as dt", [days])

    computed = {
        (row.pop("dt"), row.pop(contract.entity)): row for row in lake.sql(sql("features")).to_arrow_table().to_pylist()
    }
    events = lake.sql("from events").to_arrow_table().to_pylist()
    expected = slowly(contract.stream, contract.entity, events, days)
    assert len(expected) > 12
    assert computed.keys() == expected.keys()
    for key, features in expected.items():
        assert computed[key] == {
            name: pytest.approx(value) if isinstance(value, float) else value for name, value in features.items()
        }


@pytest.mark.skipif(
    not has_release(), reason=f"{RELEASE} is not in this clone's history; `git fetch --unshallow` brings it"
)
def test_features_with_windows_as_input_are_those_of_own_windows(
    contract: Contract,
    simulate: Simulate,
    lake: duckdb.DuckDBPyConnection,
    land: Callable[[pa.Table], None],
    sql: Callable[[str], str],
) -> None:
    land(simulate(np.random.default_rng(7), 5_000, START, START + timedelta(days=DAYS)))
    before = lake.sql(f"from ({released_sql(contract.stream, 'features')}) order by all")
    after = lake.sql(f"from ({sql('features')}) order by all")
    assert after.columns == before.columns
    assert after.types == before.types
    rows = after.fetchall()
    assert len(rows) > DAYS
    assert rows == [
        tuple(pytest.approx(value) if isinstance(value, float) else value for value in row) for row in before.fetchall()
    ]
