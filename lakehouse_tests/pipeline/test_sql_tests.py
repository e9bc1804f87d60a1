"""A test of SQL compares the rows that a table's SQL gives with those that its file expects."""

from collections.abc import Callable
from datetime import date
from pathlib import Path

import pytest
import yaml

from lakehouse.engine.connection import columns_of
from lakehouse.errors import SqlTestError
from lakehouse.pipeline.lake import Lake
from lakehouse.pipeline.recorded_tests import record_test
from lakehouse.pipeline.sql_tests import find_tests
from lakehouse.settings import Settings
from lakehouse_tests.pipeline.modelled import write_models
from lakehouse_tests.pipeline.own import Own, noon, payment

MODEL = """/*
description: Revenue of two days.
look_back: 1
*/
select days.dt, sum(line_amount)::double as revenue
from (select distinct dt from silver.retail) as days join silver.retail as sales on sales.dt between days.dt - 1 and days.dt
group by days.dt
"""
EVENT = "{invoice_no: 1, stock_code: a, quantity: 2, invoice_date: 2025-03-01T10:00:00Z, unit_price: 3.50, country: Germany}"


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    folder = write_models(tmp_path, {"gold/two_days.sql": MODEL})
    return Lake(Settings(home=tmp_path, models=(folder,)))


def _differences(lake: Lake, folder: Path, text: str) -> list[str]:
    (folder / "test.yaml").write_text(text)
    return [test.difference() for test in find_tests(lake, [folder / "test.yaml"])]


@pytest.mark.parametrize(
    "text",
    [
        "table: gold.two_days\ngiven: {silver.retail: [{dt: 2025-03-01, line_amount: 1}, {dt: 2025-03-02, line_amount: 2}]}\n"
        "expect: [{dt: 2025-03-02, revenue: 3}, {dt: 2025-03-01, revenue: 1.0}]",
        'table: gold.two_days\ndays: 2025-03-02\ngiven: {silver.retail: "dt,line_amount\\n2025-03-01,1\\n2025-03-02,2\\n"}\n'
        "expect: [{revenue: 3}]",
        "table: gold.two_days\ngiven: {}\nexpect: []",
        f"table: silver.retail\ngiven: {{bronze.retail: [{EVENT}]}}\nexpect: [{{dt: 2025-03-01, line_amount: 7}}]",
        f"table: quarantine.retail\ngiven: {{bronze.retail: [{EVENT.replace('quantity: 2', 'quantity: x')}]}}\n"
        "expect: [{dt: 2025-03-01, reasons: [quantity is not an integer of 64 bits]}]",
        "table: gold.orders_daily\ngiven: {silver.orders: []}\nexpect: []",
    ],
)
def test_right_sql_passes(lake: Lake, tmp_path: Path, text: str) -> None:
    assert _differences(lake, tmp_path, f"{text}\n---\n{text}") == ["", ""]


def test_failure_shows_what_is_missing_and_unexpected(lake: Lake, tmp_path: Path) -> None:
    text = (
        "table: gold.two_days\ngiven: {silver.retail: [{dt: 2025-03-01, line_amount: 1}]}\n"
        "expect: [{dt: 2025-03-01, revenue: 2}]"
    )
    lines = ["  missing: dt=2025-03-01, revenue=2", "  unexpected: dt=2025-03-01, revenue=1"]
    assert _differences(lake, tmp_path, text) == ["\n".join(lines)]
    with pytest.raises(AssertionError, match="missing: dt=2025-03-01"):
        find_tests(lake, [tmp_path / "test.yaml"])[0].check()


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("table: gold.nope\ngiven: {}\nexpect: []", "there is no SQL of a table gold.nope"),
        ("table: gold.two_days\nexpect: []", "given: Field required"),
        ("table: gold.two_days\ngiven: {silver.iot: []}\nexpect: []", "reads silver.retail, not silver.iot"),
        ("table: gold.two_days\ngiven: {silver.retail: [{a: 1}]}\nexpect: []", "there is no column a; there are inv"),
        ("table: gold.two_days\ngiven: {}\nexpect: [{a: 1}]", "gold.two_days has no column a; it has dt, revenue"),
        ("table: gold.two_days\ngiven: {silver.retail: [{dt: x}]}\nexpect: []", "invalid date field format"),
        ("table: gold.two_days\ngiven: {silver.retail: no.csv}\nexpect: []", "no.csv can't be read"),
        ("table: serving.retail_features\ngiven: {}\nexpect: []", "name the days as of which"),
        ("table: [", "can't be read"),
    ],
)
def test_wrong_file_is_named_with_the_reason(lake: Lake, tmp_path: Path, text: str, problem: str) -> None:
    with pytest.raises(SqlTestError, match=problem) as raised:
        _differences(lake, tmp_path, text)
    assert str(tmp_path / "test.yaml") in str(raised.value)


def test_recorded_test_has_the_columns_that_the_sql_names_and_passes(
    make_stream: Callable[..., Own], tmp_path: Path
) -> None:
    own, day = make_stream(), date(2025, 11, 20)
    own.land([payment(f"{n}", noon(day)) for n in range(3)], noon(day))
    own.bronze(day)
    own.clean(day)
    own.below(day)
    table = f"gold.{own.name}_daily"
    recorded = record_test(own.lake, table, "currency = 'EUR'")
    assert (recorded.given, recorded.expected > 0) == ({f"silver.{own.name}": 3}, True)
    (rows,) = yaml.safe_load(recorded.text)["given"].values()
    assert {*rows[0]} < {column for column, _ in columns_of(own.lake.tables.load(f"silver.{own.name}"))}
    assert "_arrived_at" not in rows[0]
    assert _differences(own.lake, tmp_path, recorded.text) == [""]
    silver = record_test(own.lake, f"silver.{own.name}", "true")
    (landed,) = yaml.safe_load(silver.text)["given"].values()
    assert ({"event_id", "_arrived_at"} <= {*landed[0]}, _differences(own.lake, tmp_path, silver.text)) == (True, [""])
