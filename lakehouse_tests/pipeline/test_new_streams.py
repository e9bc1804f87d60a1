"""You add a stream by adding its folder, and its tables follow when its contract grows."""

import json
import re
from collections.abc import Callable, Iterator
from datetime import date, timedelta
from decimal import Decimal
from pathlib import Path

import pytest

from lakehouse.auditing.audit import audit
from lakehouse.contracts.streams import discover
from lakehouse.errors import ContractError, LakehouseError, SchemaChangeError, UnknownStreamError
from lakehouse.pipeline import gold
from lakehouse.pipeline.alerts import alerts_key
from lakehouse.pipeline.lake import Lake
from lakehouse.pipeline.table_specs import table_specs
from lakehouse.sources.simulation import Simulator
from lakehouse_tests.pipeline.own import Own, copy_stream, noon, open_stream, payment

DAY = date(2019, 4, 1)

ALERT = """select dt, 'big' as alert, 'info' as severity, account_id as entity, event_time, amount as value,
  100.0 as threshold, 7 as message, dt as event_key from events"""

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
    unchanged: Own, shared_lake: Lake, changes: list[tuple[str, str]], reason: str
) -> None:
    own = unchanged
    before = {layer: own.lake.tables.load(f"{layer}.{own.name}").schema() for layer in ("silver", "realtime", "bronze")}
    _edited(own, *changes)
    with pytest.raises(SchemaChangeError, match=reason):
        open_stream(shared_lake, own.stream.folder.parent, own.name)
    assert before["silver"] == own.lake.tables.load(f"silver.{own.name}").schema()


@pytest.fixture(scope="module")
def made(make_shared_stream: Callable[..., Own]) -> Own:
    return make_shared_stream()


@pytest.fixture
def unchanged(made: Own) -> Iterator[Own]:
    """A stream whose contract is as it was made, whatever the test before has changed."""
    contract = made.stream.folder / "contract.odcs.yaml"
    text = contract.read_text()
    yield made
    contract.write_text(text)


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
        pytest.param("gold", "select dt, interval 1 day as span from silver", "gold.sql: span: type interval can't", id="type"),
        pytest.param("gold", "select event_time as dt from silver", "gold.sql: dt is TIMESTAMP, must be DATE", id="dt"),
        pytest.param("alerts", ALERT.replace("100.0", "'100'"), "alerts.sql: threshold is VARCHAR, must be DOUBLE", id="text"),
        pytest.param("alerts", ALERT.replace("event_time,", "dt::varchar as event_time,"), "event_time is VARCHAR", id="time"),
    ],
)  # fmt: skip
def test_wrong_sql_error_names_its_file(make_stream: Callable[..., Own], query: str, sql: str, message: str) -> None:
    own = make_stream(tables=False)
    (own.stream.folder / f"{query}.sql").write_text(sql)
    with pytest.raises(LakehouseError, match=f"(?s){message}"):
        own.lake.tables.ensure(table_specs([own.stream]))


def test_alerts_are_cast_to_the_types_of_their_table(make_stream: Callable[..., Own]) -> None:
    own = make_stream()
    own.land([payment("a", noon(DAY), amount="500")], noon(DAY))
    own.bronze()
    own.clean(DAY)
    for number, value in (("100", 100.0), ("100.0", 100.0), ("100::hugeint", 100.0), ("null", None)):
        (own.stream.folder / "alerts.sql").write_text(ALERT.replace("100.0", number))
        assert own.lake.tables.ensure(table_specs([own.stream])) == []
        own.below(DAY)
        select = "select value, threshold, message, event_key from {alerts}"
        assert own.ask(select, alerts=f"serving.{own.name}_alerts") == [(500.0, value, "7", str(DAY))], number
        assert audit(own.lake, [own.stream], DAY, DAY).findings == [], number


def test_results_of_other_types_are_stored_in_types_of_tables(make_stream: Callable[..., Own]) -> None:
    own = make_stream(tables=False)
    columns = """1::tinyint as a, 2::ubigint as b, sum(3) over (partition by dt) as c, 4::float as d, to_json(event_id) as e,
      uuid() as f, 'x'::enum('x', 'y') as g, event_time::timestamp_s as h"""
    file = own.stream.folder / "silver.sql"
    file.write_text(f"select s.*, {columns} from (\n{file.read_text()}\n) as s")
    (own.stream.folder / "gold.sql").write_text(
        "select dt, 'x' as name, sum(a + b + c) as total, sum(d) as d from silver group by dt"
    )
    own.lake.tables.ensure(table_specs([own.stream]))
    own.land([payment("a", noon(DAY)), payment("b", noon(DAY))], noon(DAY))
    own.bronze()
    own.refresh_realtime(f"{DAY}-12:00")
    assert len(own.ask("from {unified}")) == 2
    own.clean(DAY)
    own.below(DAY)
    rows = own.ask("select a, b, c, d, e, g, h from {unified} order by event_id")
    assert rows == [(1, 2, 6, 4.0, f'"{key}"', "x", noon(DAY).replace(tzinfo=None)) for key in "ab"]
    assert own.ask("select total, d from {gold}", gold=f"gold.{own.name}_daily") == [(18, 8.0)]


def test_streams_that_would_share_a_table_are_refused(make_stream: Callable[..., Own], tmp_path: Path) -> None:
    make_stream(tables=False)
    for name in ("unified_a", "a_alerts"):
        copy_stream(tmp_path / "both", name)
    streams = discover([tmp_path / "both"]).values()
    with pytest.raises(ContractError, match=r"serving\.unified_a_alerts would also be a name of the stream"):
        table_specs(streams)


def test_streams_with_alerts_of_one_kind_write_an_object_each(make_stream: Callable[..., Own]) -> None:
    owns = [make_stream(), make_stream()]
    for own in owns:
        own.land([payment(own.name, noon(DAY), amount="20000")], noon(DAY))
        own.bronze()
        own.clean(DAY)
        own.below(DAY)
    kind = "high_value_transactions"
    objects = owns[0].lake.objects
    for own in owns:
        (alert,) = json.loads(objects.get(alerts_key(own.stream, kind, DAY)))
        assert alert["event_key"] == own.name
    shipped = discover()["financial"]
    assert alerts_key(shipped, kind, DAY) == "serving/alerts/high_value_transactions_20190401.json"


def test_contract_alone_goes_from_landing_to_serving(make_stream: Callable[..., Own]) -> None:
    own = make_stream("orders", tables=False)
    for file in own.stream.folder.iterdir():
        if file.name != "contract.odcs.yaml":
            file.unlink()
    own.lake.tables.ensure(table_specs([own.stream]))
    simulator = Simulator(own.stream.contract, own.stream.simulate, 1)
    own.land(simulator.batch(500, noon(DAY), noon(DAY) + timedelta(hours=1)).lines.splitlines(), noon(DAY))
    own.bronze()
    assert own.clean(DAY).ledgers[DAY].silver == 500
    own.gold(DAY)
    gold.write_metrics(own.lake, [DAY])
    daily = own.ask("select sum(events), count(distinct op) from {gold}", gold=f"gold.{own.name}_daily")
    assert daily == [(500, 3)]
    assert own.stale() == []
    assert audit(own.lake, [own.stream]).findings == []
    (own.stream.folder / "alerts.sql").write_text(ALERT.replace("account_id", "customer_id").replace("amount", "1"))
    assert own.stale() == [DAY]
