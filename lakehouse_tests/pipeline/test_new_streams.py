"""You add a stream by adding its folder, and its tables follow when its contract grows."""

import re
from collections.abc import Callable
from datetime import date, timedelta
from decimal import Decimal
from pathlib import Path

import pytest

from lakehouse.errors import ContractError, LakehouseError, SchemaChangeError, UnknownStreamError
from lakehouse.pipeline.lake import Lake
from lakehouse.pipeline.table_specs import table_specs
from lakehouse_tests.pipeline.own import Own, noon, open_stream, payment

DAY = date(2019, 4, 1)

ADDED = """      - name: note
        description: What the payer wrote.
        logicalType: string
        physicalType: string
      - name: fee
        logicalType: number
        physicalType: decimal(9,2)
"""


def _edited(own: Own, *changes: tuple[str, str]) -> None:
    file = own.stream.folder / "contract.odcs.yaml"
    text = file.read_text()
    for pattern, replacement in changes:
        text, number = re.subn(pattern, replacement, text, count=1, flags=re.MULTILINE)
        assert number == 1, pattern
    file.write_text(text)


def _add_fields(own: Own) -> None:
    _edited(own, (r"^slaProperties:", ADDED + "\nslaProperties:"))


def test_stream_in_a_folder_goes_from_landing_to_serving(make_stream: Callable[..., Own]) -> None:
    own = make_stream("orders")
    assert list(Lake(own.lake.settings).streams)[-1] == own.name
    order = {"order_id": "o1", "event_time": f"{DAY}T10:00:00Z", "customer_id": "c", "amount": "5.00", "channel": "web"}
    own.land(
        [
            order | {"version": 1, "op": "insert", "status": "created"},
            order | {"version": 2, "op": "update", "status": "paid"},
            order | {"order_id": "o2", "version": 1, "op": "insert", "status": "created"},
            order | {"order_id": "o2", "version": 2, "op": "delete", "status": "cancelled"},
        ],
        noon(DAY),
    )
    own.bronze()
    own.clean(DAY)
    own.below(DAY)
    daily = own.ask(
        "select dt, channel, created, paid, cancelled, amount_created from {gold}", gold=f"gold.{own.name}_daily"
    )
    assert daily == [(DAY, "web", 2, 1, daily[0][4], Decimal("10.00"))]
    metrics = dict(
        own.ask(
            f"select metric_name, metric_value from {{metrics}} where stream = '{own.name}' and dimensions['channel'] = 'web'",
            metrics="gold.daily_metrics",
        )
    )
    assert (metrics["created"], metrics["amount_created"]) == (2.0, 10.0)
    assert own.stale() == []


def test_unknown_stream_error_lists_the_streams(make_stream: Callable[..., Own]) -> None:
    own = make_stream(tables=False)
    with pytest.raises(
        UnknownStreamError, match=rf"There is no stream 'finance'; there are clickstream, financial, {own.name}"
    ):
        Lake(own.lake.settings).stream("finance")


def test_new_optional_fields_read_as_null_in_old_rows(make_stream: Callable[..., Own], shared_lake: Lake) -> None:
    own = make_stream()
    own.land([payment("old", noon(DAY), note="was extra")], noon(DAY))
    own.bronze()
    own.clean(DAY)
    own.refresh_realtime(f"{DAY}-12:00")
    own.below(DAY)

    _add_fields(own)
    grown = open_stream(shared_lake, own.stream.folder.parent, own.name, tables=False)
    done = grown.lake.tables.ensure(table_specs([grown.stream]))
    assert done == [f"{layer}.{own.name}: added note, added fee" for layer in ("bronze", "realtime", "silver")]
    assert grown.lake.tables.ensure(table_specs([grown.stream])) == []
    assert grown.ask("select event_id, note, fee from {silver}") == [("old", None, None)]
    assert grown.ask("select event_id, note, fee from {unified}") == [("old", None, None)]

    grown.land([payment("new", noon(DAY), note="thanks", fee="0.25")], noon(DAY) + timedelta(minutes=1))
    grown.bronze()
    grown.refresh_realtime(f"{DAY}-12:00")
    assert sorted(grown.ask("select event_id, note, fee from {unified}")) == [
        ("new", "thanks", Decimal("0.25")),
        ("old", None, None),
    ]
    assert grown.stale() == [DAY]
    grown.clean(DAY)
    grown.below(DAY)
    assert sorted(grown.ask("select event_id, note, fee from {silver}")) == [
        ("new", "thanks", Decimal("0.25")),
        ("old", None, None),
    ]


def test_decimal_with_more_digits_is_widened_in_place(make_stream: Callable[..., Own], shared_lake: Lake) -> None:
    own = make_stream()
    own.land([payment("old", noon(DAY), amount="12.50")], noon(DAY))
    own.bronze()
    own.clean(DAY)
    own.below(DAY)
    _edited(own, (r"decimal\(18,2\)", "decimal(24,2)"))
    wide = open_stream(shared_lake, own.stream.folder.parent, own.name)
    large = "9876543210987654321098.76"
    wide.land([payment("new", noon(DAY), amount=large)], noon(DAY) + timedelta(minutes=1))
    wide.bronze()
    assert wide.ask("select event_id, amount from {silver}") == [("old", Decimal("12.50"))]
    wide.clean(DAY)
    wide.below(DAY)
    assert sorted(wide.ask("select event_id, amount from {silver}")) == [
        ("new", Decimal(large)),
        ("old", Decimal("12.50")),
    ]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        pytest.param(
            [(r"^      - name: merchant\n(        .*\n){3}", "")],
            "column merchant is gone from its contract or SQL",
            id="a field is removed",
        ),
        pytest.param([(r"decimal\(18,2\)", "decimal(10,2)")], r"decimal\(18, 2\) can't become decimal\(10, 2\)", id="narrowed"),
        pytest.param([(r"decimal\(18,2\)", "decimal(18,3)")], r"decimal\(18, 2\) can't become decimal\(18, 3\)", id="rescaled"),
        pytest.param([(r"decimal\(18,2\)", "double")], r"amount: decimal\(18, 2\) can't become double in place", id="retyped"),
    ],
)  # fmt: skip
def test_any_other_schema_change_is_refused(
    make_stream: Callable[..., Own], shared_lake: Lake, changes: list[tuple[str, str]], reason: str
) -> None:
    own = make_stream()
    before = {layer: own.lake.tables.load(f"{layer}.{own.name}").schema() for layer in ("silver", "realtime", "bronze")}
    _edited(own, *changes)
    with pytest.raises(SchemaChangeError, match=reason):
        open_stream(shared_lake, own.stream.folder.parent, own.name)
    assert before["silver"] == own.lake.tables.load(f"silver.{own.name}").schema()


@pytest.mark.parametrize("retyped", ["double", "interval"])
def test_stream_that_is_refused_holds_up_no_other(
    make_stream: Callable[..., Own], shared_lake: Lake, retyped: str
) -> None:
    refused, grown = make_stream(), make_stream()
    if retyped == "double":
        _edited(refused, (r"decimal\(18,2\)", retyped))
    else:
        (refused.stream.folder / "gold.sql").write_text("select dt, interval 1 day as span from silver")
    _add_fields(grown)
    grown, refused = (
        open_stream(shared_lake, own.stream.folder.parent, own.name, tables=False) for own in (grown, refused)
    )
    lake = refused.lake
    lake.streams = {own.name: own.stream for own in (refused, grown)}
    with pytest.raises((SchemaChangeError, ContractError), match=refused.name) as raised:
        lake.bootstrap()
    assert grown.name not in str(raised.value)
    assert {"note", "fee"} <= {field.name for field in lake.tables.load(f"silver.{grown.name}").schema().fields}
    assert lake.bootstrap([grown.stream]) == []


@pytest.mark.parametrize(
    ("query", "sql", "message"),
    [
        pytest.param("silver", "select nonsense from valid", 'silver.sql: .*"nonsense" not found', id="a column"),
        pytest.param("silver", "selec", "silver.sql: .*syntax error", id="syntax"),
        pytest.param("silver", "select event_id from valid", "silver.sql: must give a column dt", id="no dt"),
        pytest.param("gold", "select 1 as x from silver", "gold.sql: must give a column dt", id="gold without dt"),
        pytest.param("features", "select 1 as x", "features.sql: must give a column dt", id="features without dt"),
        pytest.param("alerts", "select dt from events", "alerts.sql: must give the columns dt, alert", id="alerts"),
        pytest.param("gold", "select dt, interval 1 day as span from silver", "span: type interval can't be stored", id="type"),
    ],
)  # fmt: skip
def test_wrong_sql_error_names_its_file(make_stream: Callable[..., Own], query: str, sql: str, message: str) -> None:
    own = make_stream(tables=False)
    (own.stream.folder / f"{query}.sql").write_text(sql)
    with pytest.raises(LakehouseError, match=f"(?s){message}"):
        own.lake.tables.ensure(table_specs([own.stream]))


def test_missing_sql_error_names_the_file(make_stream: Callable[..., Own]) -> None:
    own = make_stream(tables=False)
    Path(own.stream.folder / "gold.sql").unlink()
    with pytest.raises(
        ContractError, match=r"gold.sql: can't be read .* A stream needs silver.sql, gold.sql, features.sql, alerts.sql"
    ):
        table_specs([own.stream])
