"""Each stream's SQL runs in plain DuckDB on simulated events, with the expected columns and totals."""

import re
from collections import defaultdict
from collections.abc import Callable
from datetime import date, datetime
from decimal import Decimal
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pytest
import sqlglot

from lakehouse.contracts.model import Contract
from lakehouse.sources.simulation import Simulate

Land = Callable[[pa.Table], None]
Sql = Callable[[str], str]

GOLD = {
    "iot": "dt date, device_id varchar, metric varchar, readings bigint, min_value double, avg_value double,"
    " max_value double, out_of_range bigint",
    "clickstream": "dt date, event_type varchar, country varchar, events bigint, sessions bigint, users bigint",
    "logs": "dt date, service varchar, level varchar, events bigint, p95_latency_ms double",
    "social": "dt date, platform varchar, action varchar, events bigint, authors bigint",
    "financial": "dt date, currency varchar, type varchar, transactions bigint, declined bigint, amount decimal(38,2),"
    " max_amount decimal(38,2)",
    "retail": "dt date, country varchar, invoices bigint, lines bigint, units bigint, net_revenue decimal(38,3),"
    " customers bigint, cancellations bigint",
    "orders": "dt date, channel varchar, created bigint, paid bigint, cancelled bigint, amount_created decimal(38,2)",
}
ALERTS = (
    "dt date, alert varchar, severity varchar, entity varchar, event_time timestamp, value double, threshold double,"
    " message varchar, event_key varchar"
)
ENRICHED = {
    "iot": "unit_normalised varchar, value_normalised double, plausible_min double, plausible_max double,"
    " out_of_range boolean",
    "clickstream": "page_host varchar, referrer_host varchar, session_position bigint, seconds_since_previous double,"
    " is_entry boolean, traffic_source varchar",
    "logs": "service_normalised varchar, is_error boolean, status_class varchar",
    "social": "engagement_weight bigint, hashtag_count bigint, text_length bigint",
    "financial": "hour bigint, day_of_week bigint, risk_band varchar",
    "retail": "is_cancellation boolean, line_amount decimal(38,3)",
    "orders": "is_delete boolean, status_rank bigint, enters_status boolean",
}
ROWS_OF_GOLD = {"iot": "readings", "financial": "transactions", "retail": "lines", "orders": "created"}


@pytest.fixture(autouse=True)
def simulated(contract: Contract, simulate: Simulate, land: Land) -> None:
    """Land six days of events."""
    land(simulate(np.random.default_rng(11), 9_000, datetime(2025, 11, 15), datetime(2025, 11, 21)))


def columns(relation: duckdb.DuckDBPyRelation) -> str:
    return ", ".join(f"{n} {str(t).lower()}" for n, t in zip(relation.columns, relation.types, strict=True))


def rows(lake: duckdb.DuckDBPyConnection, sql: str) -> list[dict[str, Any]]:
    return lake.sql(sql).to_arrow_table().to_pylist()


def differences(lake: duckdb.DuckDBPyConnection, first: str, second: str) -> int:
    """Count the rows that one of two queries returns more often than the other."""
    both = f"(({first}) except all ({second})) union all (({second}) except all ({first}))"
    return len(lake.sql(both).fetchall())


def test_silver_keeps_every_row_and_column_of_valid(contract: Contract, lake: duckdb.DuckDBPyConnection) -> None:
    given = columns(lake.sql("from valid"))
    assert columns(lake.sql("from silver")) == f"{given}, {ENRICHED[contract.stream]}"
    names = ", ".join(lake.sql("from valid").columns)
    assert differences(lake, f"select {names} from silver", "select * from valid") == 0


def test_silver_of_a_day_ignores_other_days(lake: duckdb.DuckDBPyConnection, sql: Sql) -> None:
    lake.execute("create table several_days as from valid")
    lake.execute("create table day_by_day as from silver limit 0")
    for (day,) in lake.sql("from days").fetchall():
        lake.execute("create or replace table valid as select * from several_days where dt = $1", [day])
        lake.execute(f"insert into day_by_day {sql('silver')}")
    assert differences(lake, "select * from silver", "select * from day_by_day") == 0


def test_gold_has_its_columns_and_counts_each_row_once(
    contract: Contract, lake: duckdb.DuckDBPyConnection, sql: Sql
) -> None:
    lake.execute(f"create table gold as {sql('gold')}")
    assert columns(lake.sql("from gold")) == GOLD[contract.stream]
    counted = lake.sql(f"select sum({ROWS_OF_GOLD.get(contract.stream, 'events')}) from gold").fetchall()
    where = "where op = 'insert'" if contract.stream == "orders" else ""
    assert counted == lake.sql(f"select count(*) from silver {where}").fetchall()


def test_features_have_three_windows_and_a_row_per_entity_day(
    contract: Contract, lake: duckdb.DuckDBPyConnection, sql: Sql
) -> None:
    lake.execute(f"create table features as {sql('features')}")
    day, entity, *features = lake.sql("from features").columns
    assert (day, entity) == ("dt", contract.entity)
    names = [re.sub("_1d$", "", feature) for feature in features[::3]]
    assert features == [f"{name}_{window}" for name in names for window in ("1d", "7d", "30d")]
    assert lake.sql(f"select count(*) > 0, count(*) = count(distinct (dt, {entity})) from features").fetchall() == [
        (True, True)
    ]


def test_alerts_have_their_columns_and_distinct_keys(lake: duckdb.DuckDBPyConnection, sql: Sql) -> None:
    alerts = lake.sql(sql("alerts"))
    assert columns(alerts) == ALERTS
    raised = rows(lake, sql("alerts"))
    assert len({(a["dt"], a["alert"], a["entity"], a["event_key"]) for a in raised}) == len(raised)
    for alert in raised:
        assert alert["severity"] in ("info", "warning", "critical")
        assert None not in (alert["message"], alert["event_key"], alert["event_time"], alert["threshold"])


@pytest.mark.parametrize("layer", ["silver", "gold", "features", "alerts"])
def test_every_column_type_fits_a_table(layer: str, lake: duckdb.DuckDBPyConnection, sql: Sql) -> None:
    allowed = r"DECIMAL\(\d+,\d+\)|BIGINT|DOUBLE|VARCHAR|BOOLEAN|DATE|TIMESTAMP|VARCHAR\[\]"
    relation = lake.sql(sql(layer))
    types = dict(zip(relation.columns, map(str, relation.types), strict=True))
    assert {name: kind for name, kind in types.items() if not re.fullmatch(allowed, kind)} == {}


@pytest.mark.parametrize("layer", ["silver", "gold", "features", "alerts"])
def test_sql_can_be_written_for_spark(layer: str, sql: Sql) -> None:
    (spark,) = sqlglot.transpile(sql(layer), read="duckdb", write="spark", unsupported_level=sqlglot.ErrorLevel.RAISE)
    assert sqlglot.parse_one(spark, read="spark") is not None


@pytest.mark.parametrize("layer", ["silver", "gold", "features", "alerts"])
def test_no_events_give_no_rows(layer: str, lake: duckdb.DuckDBPyConnection, land: Land, sql: Sql) -> None:
    land(lake.sql("from valid limit 0").to_arrow_table())
    assert lake.sql(sql(layer)).fetchall() == []


@pytest.mark.parametrize("folder", ["retail"], indirect=True)
def test_gold_of_retail_matches_plain_arithmetic(lake: duckdb.DuckDBPyConnection, sql: Sql) -> None:
    groups: dict[tuple[date, str], list[dict[str, Any]]] = defaultdict(list)
    for line in rows(lake, "from valid"):
        groups[line["dt"], line["country"]].append(line)
    expected = {
        key: {
            "invoices": len({line["invoice_no"] for line in lines}),
            "lines": len(lines),
            "units": sum(line["quantity"] for line in lines),
            "net_revenue": sum((line["quantity"] * line["unit_price"] for line in lines), Decimal(0)),
            "customers": len({line["customer_id"] for line in lines} - {None}),
            "cancellations": len({line["invoice_no"] for line in lines if line["invoice_no"][0] == "C"}),
        }
        for key, lines in groups.items()
    }
    assert {(row.pop("dt"), row.pop("country")): row for row in rows(lake, sql("gold"))} == expected


@pytest.mark.parametrize("folder", ["financial"], indirect=True)
def test_gold_of_financial_matches_plain_arithmetic(lake: duckdb.DuckDBPyConnection, sql: Sql) -> None:
    groups: dict[tuple[date, str, str], list[dict[str, Any]]] = defaultdict(list)
    for event in rows(lake, "from valid"):
        groups[event["dt"], event["currency"], event["type"]].append(event)
    expected = {
        key: {
            "transactions": len(events),
            "declined": sum(event["status"] == "declined" for event in events),
            "amount": sum((event["amount"] for event in events), Decimal(0)),
            "max_amount": max(event["amount"] for event in events),
        }
        for key, events in groups.items()
    }
    gold = {(row.pop("dt"), row.pop("currency"), row.pop("type")): row for row in rows(lake, sql("gold"))}
    assert gold == expected


@pytest.mark.parametrize("folder", ["orders"], indirect=True)
def test_gold_of_orders_matches_plain_arithmetic(lake: duckdb.DuckDBPyConnection, sql: Sql) -> None:
    groups: dict[tuple[date, str | None], list[dict[str, Any]]] = defaultdict(list)
    for change in rows(lake, "from valid"):
        groups[change["dt"], change["channel"]].append(change)
    expected = {
        key: {
            "created": sum(change["status"] == "created" for change in changes),
            "paid": sum(change["status"] == "paid" for change in changes),
            "cancelled": sum(change["status"] == "cancelled" for change in changes),
            "amount_created": sum((c["amount"] for c in changes if c["status"] == "created"), Decimal(0)),
        }
        for key, changes in groups.items()
    }
    assert {(row.pop("dt"), row.pop("channel")): row for row in rows(lake, sql("gold"))} == expected
