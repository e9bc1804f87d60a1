"""Look-up documents: DuckDB renders every row exactly as `to_json` does."""

import json
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lakehouse.serving.lookups.blocks import Block, compress, schema_of, template_of
from lakehouse.serving.lookups.declaration import SHIPPED, Lookup, read_lookup
from lakehouse.serving.lookups.documents import DocumentRenderer
from lakehouse.serving.query.json_values import to_json

KINDS: dict[str, Any] = {
    "text": pa.string(),
    "whole": pa.int64(),
    "huge": pa.decimal128(38, 0),
    "exact": pa.decimal128(18, 3),
    "fraction": pa.decimal128(2, 2),
    "share": pa.float64(),
    "short": pa.float32(),
    "yes": pa.bool_(),
    "day": pa.date32(),
    "at": pa.timestamp("us"),
    "zoned": pa.timestamp("us", "Asia/Kolkata"),
    "bytes": pa.binary(),
    "tags": pa.list_(pa.string()),
    "names": pa.map_(pa.string(), pa.decimal128(9, 2)),
    'a "struct"': pa.struct([("at", pa.timestamp("us")), ("in it", pa.list_(pa.float64()))]),
    "lines": pa.list_(pa.struct([("amount", pa.decimal128(38, 2)), ("tags", pa.list_(pa.timestamp("us")))])),
}

DAY = datetime(2025, 3, 1, 10, 20, 30)
VALUES: dict[str, list[Any]] = {
    "text": ["", "a", 'q"\\/\b\f\n\r\t\x00\x1f\x7f', "é\u2028\ufeff\U0001f600", "<b>", "null", '{"a":1}'],
    "whole": [0, -1, 2**53 + 1, 2**63 - 1, -(2**63)],
    "huge": [Decimal(0), Decimal(10**37), Decimal(-1)],
    "exact": [Decimal("0.000"), Decimal("-0.010"), Decimal("999999999999999.999")],
    "fraction": [Decimal("0.00"), Decimal("-0.50")],
    "share": [0.0, -0.0, 0.1, 1e15, 1e16, 1e20, 1e21, 1e-5, 1e-7, 5e-324, 1.7e308, float("nan"), float("-inf")],
    "short": [1.5, float("inf")],
    "yes": [True, False],
    "day": [date(1, 1, 1), date(2025, 2, 28), date(9999, 12, 31)],
    "at": [
        *(DAY + timedelta(microseconds=more) for more in (0, 1, 120_000)),
        datetime(1, 1, 1),
        datetime(1969, 12, 31, 23, 59, 59, 999_999),
    ],
    "zoned": [DAY.replace(tzinfo=UTC), DAY.replace(tzinfo=timezone(timedelta(hours=5, minutes=30)))],
    "bytes": [b"", b"\x00\xff"],
    "tags": [[], [None], ["a", None, '"']],
    "names": [[], [("a", Decimal("0.10")), ("b", None)]],
    'a "struct"': [{"at": None, "in it": None}, {"at": DAY, "in it": [1.0, float("nan"), None]}],
    "lines": [[], [None], [{"amount": None, "tags": []}, {"amount": Decimal("-0.50"), "tags": [DAY, None]}]],
}


def _batch(rows: list[dict[str, Any]], kinds: dict[str, Any]) -> pa.RecordBatch:
    schema: Any = pa.schema([("id", pa.string()), ("dt", pa.date32()), *kinds.items()])
    return pa.RecordBatch.from_pylist(
        [{"id": f"{n:03}", "dt": date(2025, 1, 2), **row} for n, row in enumerate(rows)], schema
    )


def _rendered(lookup: Lookup | str, batch: pa.RecordBatch) -> dict[str, Any]:
    renderer = DocumentRenderer(lookup)
    try:
        documents = renderer.render(batch)
    finally:
        renderer.close()
    schema = schema_of(documents.template)
    cut = compress(documents.ids, documents.lines, schema).to_pylist()
    blocks = [Block(row["block"], row["bytes"], template_of(schema)) for row in cut]
    return {id_: json.loads(text) for block in blocks for id_, text in zip(block.ids, block.documents(), strict=True)}


def _python_json(batch: pa.RecordBatch) -> dict[str, Any]:
    """Render the features of each row with `to_json`."""
    maps = [field.name for field in batch.schema if pa.types.is_map(field.type)]
    rows = batch.drop_columns(["dt"]).to_pylist()
    for row in rows:
        row.update({name: dict(row[name]) for name in maps if row[name] is not None})
    return {row.pop("id"): to_json(row) for row in rows}


@pytest.mark.parametrize("name", KINDS)
def test_rendered_value_equals_its_python_json(name: str) -> None:
    batch = _batch([{name: value} for value in [*VALUES[name], None]], {name: KINDS[name]})
    rendered = _rendered("iot", batch)
    expected = {
        key: {"stream": "iot", "id": key, "as_of": "2025-01-02", "features": features}
        for key, features in _python_json(batch).items()
    }
    assert repr(rendered) == repr(expected)  # tells 1 from 1.0, and compares the order of fields


RETAIL: dict[str, Any] = {
    "invoices": 2,
    "revenue": Decimal("1.205"),
    "first_seen": DAY,
    "last_seen": DAY + timedelta(days=2),
    "recent_lines": [{"description": '"<é>"', "line_amount": Decimal("-1.105")}],
}
ORDERS: dict[str, Any] = {
    "orders": 1,
    "amount": Decimal("0.00"),
    "first_seen": DAY - timedelta(microseconds=1),
    "last_seen": DAY + timedelta(days=1),
    "recent_orders": [{"event_time": DAY, "status": None}],
}


@pytest.mark.parametrize("retail", [RETAIL, RETAIL | {"revenue": None, "first_seen": None}, None])
@pytest.mark.parametrize("orders", [ORDERS, ORDERS | {"last_seen": None, "recent_orders": []}, None])
def test_customer_document_combines_both_streams(retail: dict[str, Any] | None, orders: dict[str, Any] | None) -> None:
    both = pa.RecordBatch.from_pylist([{"retail": RETAIL, "orders": ORDERS}])
    schema: Any = pa.schema([("id", pa.string()), *((field.name, field.type) for field in both.schema)])
    batch = pa.RecordBatch.from_pylist([{"id": "17", "retail": retail, "orders": orders}], schema)
    halves = [half for half in (retail, orders) if half is not None]
    expected = {
        "id": "17",
        "invoices": retail["invoices"] if retail else 0,
        "orders": orders["orders"] if orders else 0,
        "revenue": retail["revenue"] or "0" if retail else "0",
        "first_seen": min((half["first_seen"] for half in halves if half["first_seen"]), default=None),
        "last_seen": max((half["last_seen"] for half in halves if half["last_seen"]), default=None),
        "recent_lines": retail["recent_lines"] if retail else [],
        "recent_orders": orders["recent_orders"] if orders else [],
        "retail": retail,
        "order_history": orders,
    }
    assert repr(_rendered(read_lookup(SHIPPED / "customers.sql"), batch)) == repr({"17": to_json(expected)})


@given(st.lists(st.fixed_dictionaries({"text": st.text(), "share": st.floats(width=64), "at": st.datetimes()})))
def test_rendered_rows_equal_their_python_json(rows: list[dict[str, Any]]) -> None:
    batch = _batch(rows, {name: KINDS[name] for name in ("text", "share", "at")})
    rendered = {key: document["features"] for key, document in _rendered("iot", batch).items()}
    assert repr(rendered) == repr(_python_json(batch))
