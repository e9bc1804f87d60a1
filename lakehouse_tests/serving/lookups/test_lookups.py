"""Look-ups: each holds the newest data of every entity, however often and in whatever order it is refreshed."""

import json
from collections.abc import Callable
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from threading import Event
from typing import Any

import boto3
import pyarrow as pa
import pyarrow.ipc as ipc
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lakehouse.engine.connection import columns_of
from lakehouse.errors import LakehouseError
from lakehouse.pipeline.commits import replace_days
from lakehouse.pipeline.table_specs import empty_sql
from lakehouse.serving.lookups import cache as cache_module
from lakehouse.serving.lookups import index as indexes
from lakehouse.serving.lookups import publish as lookups
from lakehouse.serving.lookups import versions
from lakehouse.serving.lookups.blocks import compress, schema_of
from lakehouse.serving.lookups.cache import LookupCache
from lakehouse.serving.lookups.declaration import SHIPPED, read_lookup
from lakehouse.serving.lookups.dynamodb import DynamoDBTable, open_table
from lakehouse.serving.lookups.index import LookupIndex, LookupIndexes
from lakehouse.serving.lookups.paths import cached_copies, cached_copy
from lakehouse_tests.pipeline.own import Own, noon, span

MakeStream = Callable[..., Own]
FIRST, SECOND, THIRD = span(date(2022, 3, 1), 3)


def _features(own: Own, day: date, **transactions: int) -> None:
    """Replace the features of a day with these accounts and their numbers of transactions."""
    columns = columns_of(own.lake.tables.load(f"serving.{own.name}_features"))
    rows = [
        {"dt": f"date '{day}'", "account_id": f"'{account}'", "transactions_1d": str(count)}
        for account, count in transactions.items()
    ]
    select = " union all ".join(
        "select " + ", ".join(f"cast({row.get(name, 'null')} as {kind}) as {name}" for name, kind in columns)
        for row in rows
    )
    replace_days(own.lake, f"serving.{own.name}_features", select or empty_sql(tuple(columns)), [day])


def _held(own: Own, folder: Path) -> dict[str, tuple[date, int]]:
    LookupCache(own.lake, folder).refresh()
    index = LookupIndexes(folder).get(own.name)
    assert index is not None
    documents = {key: json.loads(index.get(key) or b"") for key in index.ids()}
    return {
        key: (date.fromisoformat(document["as_of"]), document["features"]["transactions_1d"])
        for key, document in documents.items()
    }


def test_lookup_holds_the_newest_features_of_each_entity(make_stream: MakeStream, tmp_path: Path) -> None:
    own = make_stream()
    _features(own, FIRST, a=1, b=2)
    _features(own, SECOND, b=3, c=4)
    done = lookups.refresh_entities(own.lake, own.stream)
    assert (done.entities, done.changed) == (3, 3)
    assert _held(own, tmp_path) == {"a": (FIRST, 1), "b": (SECOND, 3), "c": (SECOND, 4)}
    again = lookups.refresh_entities(own.lake, own.stream)
    assert (again.version, again.entities, again.changed) == (done.version, 3, 0)


def test_incremental_refresh_equals_a_full_one(make_stream: MakeStream, tmp_path: Path) -> None:
    own = make_stream()
    _features(own, FIRST, a=1, b=2, d=9)
    _features(own, SECOND, b=3, c=4, d=8)
    lookups.refresh_entities(own.lake, own.stream)
    # c is gone, d is only in the first day, b is newer, and an older day of a has changed
    _features(own, SECOND, b=3)
    _features(own, THIRD, b=5)
    _features(own, FIRST, a=7, b=2, d=9)
    done = lookups.refresh_entities(own.lake, own.stream)
    assert _held(own, tmp_path / "one") == {"a": (FIRST, 7), "b": (THIRD, 5), "d": (FIRST, 9)}
    assert (done.entities, done.changed) == (3, 4)
    own.lake.objects.delete(version.key for version in versions.list_versions(own.lake.objects, own.name))
    lookups.refresh_entities(own.lake, own.stream)
    assert _held(own, tmp_path / "two") == {"a": (FIRST, 7), "b": (THIRD, 5), "d": (FIRST, 9)}


def test_old_versions_are_deleted_and_the_newest_is_read(
    make_stream: MakeStream, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = make_stream()
    monkeypatch.setattr(indexes, "POLL_INTERVAL_SECONDS", 0.0)
    cache = LookupCache(own.lake, tmp_path)
    read = LookupIndexes(tmp_path)
    cache.refresh()
    assert read.get(own.name) is None
    for number in range(4):
        _features(own, FIRST, a=number)
        lookups.refresh_entities(own.lake, own.stream)
        before = read.get(own.name)
        cache.refresh()
        assert _transactions(read.get(own.name)) == number
        assert before is None or _transactions(before) == number - 1
    assert len(versions.list_versions(own.lake.objects, own.name)) == versions.MAX_VERSIONS
    assert len([*tmp_path.glob(f"{own.name}-*")]) == 1


def test_damaged_copy_is_not_read_and_is_replaced(
    make_stream: MakeStream, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = make_stream()
    monkeypatch.setattr(indexes, "POLL_INTERVAL_SECONDS", 0.0)
    read = LookupIndexes(tmp_path)
    _features(own, FIRST, a=1)
    lookups.refresh_entities(own.lake, own.stream)
    LookupCache(own.lake, tmp_path).refresh()
    before = _transactions(read.get(own.name))
    (older,) = cached_copies(tmp_path, own.name)

    _features(own, FIRST, a=2)
    newest = cached_copy(tmp_path, own.name, lookups.refresh_entities(own.lake, own.stream).version.stem)
    newest.write_bytes(older.read_bytes()[:100])
    assert (before, _transactions(read.get(own.name))) == (1, 1)
    LookupCache(own.lake, tmp_path).refresh()
    assert _transactions(read.get(own.name)) == 2
    assert [*cached_copies(tmp_path, own.name)] == [newest]


def _transactions(index: LookupIndex | None) -> Any:
    assert index is not None
    return json.loads(index.get("a") or b"")["features"]["transactions_1d"]


def test_refresh_thread_survives_errors(
    make_stream: MakeStream, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = make_stream()
    failures = iter([RuntimeError("a bug"), LakehouseError("storage is away")])
    done = Event()

    def refresh(_: LookupCache) -> None:
        for failure in failures:
            raise failure
        done.set()

    monkeypatch.setattr(LookupCache, "refresh", refresh)
    monkeypatch.setattr(cache_module, "REFRESH_INTERVAL_SECONDS", 0.0)
    monkeypatch.setattr(cache_module, "MARKS_INTERVAL_SECONDS", 0.01)
    cache = LookupCache(own.lake, tmp_path)
    cache.start()
    try:
        assert done.wait(10)
    finally:
        cache.close()


ITEM = {"id": "a", "day": date(2025, 1, 1), "at": datetime(2025, 1, 1, 2), "exact": Decimal("0.10"), "share": 0.1}


@given(st.sets(st.text(max_size=4), max_size=100), st.text(max_size=4))
def test_index_finds_exactly_its_ids(tmp_path_factory: pytest.TempPathFactory, ids: set[str], other: str) -> None:
    # By UTF-8 bytes, as DuckDB and Python sort.
    ordered = sorted(key for key in ids if _encodes(key))
    path = tmp_path_factory.mktemp("index") / "x.arrow"
    schema = schema_of(["", ""])
    with ipc.new_file(str(path), schema) as file:
        for start in range(0, len(ordered), 45):
            some = pa.array(ordered[start : start + 45], pa.large_string())
            lines = pa.array([json.dumps(key) + "\n" for key in some.to_pylist()], pa.large_string())
            file.write_batch(compress(some, [lines, lines], schema))
    index = LookupIndex(path)
    assert (len(index), [*index.ids()]) == (len(ordered), ordered)
    for key in ordered:
        assert index.get(key) == json.dumps(key).encode()
    assert (index.get(other) is None) == (other not in ordered)


def _encodes(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def test_customers_combine_retail_and_orders(make_stream: MakeStream, tmp_path: Path) -> None:
    retail, orders = make_stream("retail"), make_stream("orders")
    lines = [
        {"invoice_no": number, "stock_code": "S", "description": "d", "quantity": quantity, "unit_price": price}
        | {"invoice_date": f"2022-03-0{day}T10:00:00", "customer_id": customer, "country": "France"}
        for number, quantity, price, day, customer in [
            ("1", 2, "1.105", 1, 7),
            ("1", 1, "0.100", 1, 7),
            ("C2", -1, "1.105", 2, 7),
            ("3", 1, "5.000", 2, None),
        ]
    ]
    changes = [
        {"order_id": order, "version": version, "event_time": f"2022-03-0{version}T11:00:00", "op": op}
        | {"customer_id": customer, "amount": amount, "currency": "EUR", "status": status, "channel": "web"}
        for order, version, op, customer, amount, status in [
            ("o1", 1, "insert", "7", "10.00", "created"),
            ("o1", 2, "update", "7", "10.50", "paid"),
            ("o2", 1, "insert", "7", "3.00", "created"),
            ("o2", 2, "delete", "7", "3.00", "created"),
            ("o3", 1, "insert", "customer-9", "1.00", "cancelled"),
        ]
    ]
    retail.land(lines, noon(THIRD))
    orders.land(changes, noon(THIRD))
    for own in (retail, orders):
        own.bronze()
        own.clean(FIRST, SECOND)
    customers = _customers(retail, orders, tmp_path)
    assert customers.keys() == {"7", "customer-9"}
    seven = customers["7"]
    assert {name: value for name, value in seven["retail"].items() if name != "recent_lines"} == {
        "invoices": 2,
        "cancellations": 1,
        "lines": 3,
        "units": 2,
        "revenue": Decimal("1.205"),
        "country": "France",
        "first_seen": datetime(2022, 3, 1, 10),
        "last_seen": datetime(2022, 3, 2, 10),
    }
    assert [(line["invoice_no"], line["line_amount"]) for line in seven["retail"]["recent_lines"]] == [
        ("C2", Decimal("-1.105")),
        ("1", Decimal("2.210")),
        ("1", Decimal("0.100")),
    ]
    assert seven["orders"] == {
        "orders": 1,
        "paid": 1,
        "delivered": 0,
        "cancelled": 0,
        "amount": Decimal("10.50"),
        "first_seen": datetime(2022, 3, 2, 11),
        "last_seen": datetime(2022, 3, 2, 11),
        "recent_orders": [
            {
                "event_time": datetime(2022, 3, 2, 11),
                "order_id": "o1",
                "status": "paid",
                "amount": Decimal("10.50"),
                "currency": "EUR",
                "channel": "web",
            }
        ],
    }
    assert customers["customer-9"]["retail"] is None
    assert customers["customer-9"]["orders"]["amount"] == Decimal("0.00")


def _customers(retail: Own, orders: Own, folder: Path) -> dict[str, dict[str, Any]]:
    """Refresh the package's look-up, over these two streams' silver tables, and return its rows by id."""
    text = (SHIPPED / "customers.sql").read_text()
    for own, name in ((retail, "retail"), (orders, "orders")):
        text = text.replace(f"silver.{name}", f"silver.{own.name}")
    # A name of its own, because versions of one name must be computed from the same tables.
    path = folder / f"customers_{retail.name}.sql"
    path.write_text(text)
    done = lookups.refresh_declared(retail.lake, read_lookup(path))
    rows = pq.read_table(pa.BufferReader(retail.lake.objects.get(done.version.key))).to_pylist()
    return {row["id"]: row for row in rows}


@pytest.fixture
def dynamodb_lake(aws: str, make_stream: MakeStream, monkeypatch: pytest.MonkeyPatch) -> Own:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "a")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "b")
    own = make_stream()
    own.lake.settings = own.lake.settings.model_copy(
        update={"dynamodb_table": "lookups", "dynamodb_endpoint": aws, "s3_region": "us-east-1"}
    )
    return own


def _items(own: Own) -> dict[str, Any]:
    settings = own.lake.settings
    table = boto3.resource("dynamodb", region_name=settings.s3_region, endpoint_url=settings.dynamodb_endpoint).Table(
        settings.dynamodb_table or ""
    )
    items = [item for item in table.scan()["Items"] if not str(item["pk"]).startswith("#")]
    return {str(item["pk"]): item["transactions_1d"] for item in items}


def test_dynamodb_holds_the_newest_features_after_repeated_writes(dynamodb_lake: Own) -> None:
    own = dynamodb_lake
    name = own.name
    _features(own, FIRST, **{f"account_{n}": n for n in range(60)})
    _features(own, SECOND, a=5)
    lookups.refresh_entities(own.lake, own.stream)
    everything = {f"{name}#account_{n}": n for n in range(60)}
    assert _items(own) == everything | {f"{name}#a": 5}
    _features(own, SECOND, b=6)
    lookups.refresh_entities(own.lake, own.stream)
    lookups.refresh_entities(own.lake, own.stream)
    assert _items(own) == everything | {f"{name}#b": 6}


def test_dynamodb_is_repaired_after_an_interrupted_write(dynamodb_lake: Own, monkeypatch: pytest.MonkeyPatch) -> None:
    own = dynamodb_lake
    _features(own, FIRST, a=1, b=2)
    lookups.refresh_entities(own.lake, own.stream)
    _features(own, FIRST, a=3)
    with monkeypatch.context() as patched:
        patched.setattr(DynamoDBTable, "delete", _fail)
        with pytest.raises(OSError, match="gone"):
            lookups.refresh_entities(own.lake, own.stream)
    lookups.refresh_entities(own.lake, own.stream)
    assert _items(own) == {f"{own.name}#a": 3}


def _fail(*_: object) -> None:
    raise OSError("gone")


def test_dynamodb_values_are_exact(dynamodb_lake: Own) -> None:
    table = open_table(dynamodb_lake.lake.settings)
    assert table is not None
    long = Decimal("1234567890123456789012345678901234567890.5")
    rows = pa.table(
        {name: [value] for name, value in ITEM.items()} | {"long": [long], "list": [[{"x": 1.5}]], "no": [None]}
    )
    table.put("t", rows.to_reader())
    client = boto3.resource(
        "dynamodb", region_name="us-east-1", endpoint_url=dynamodb_lake.lake.settings.dynamodb_endpoint
    )
    item = client.Table("lookups").get_item(Key={"pk": "t#a"})["Item"]
    assert item == {
        "pk": "t#a",
        "id": "a",
        "day": "2025-01-01",
        "at": "2025-01-01T02:00:00Z",
        "exact": Decimal("0.1"),
        "share": Decimal("0.1"),
        "long": f"{long:f}",
        "list": [{"x": Decimal("1.5")}],
        "no": None,
    }
