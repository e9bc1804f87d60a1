"""Whatever the form of events, each becomes one line of JSON with exact values."""

import json
import math
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import msgspec
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.feather as feather
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lakehouse.client.events import event_lines
from lakehouse.client.forms import as_events
from lakehouse.client.parcels import Parcel, cut_parcels
from lakehouse.errors import UnreadableSourceError

EVENTS: list[dict[str, Any]] = [{"id": "a", "n": 1, "tags": ["x", "ü"]}, {"id": 'b"\n', "n": None, "tags": []}]
TABLE = pa.Table.from_pylist(EVENTS)
NDJSON = "".join(json.dumps(event) + "\n" for event in EVENTS).encode()
BERLIN = timezone(timedelta(hours=1))


@dataclass
class Reading:
    id: str
    n: int | None
    tags: list[str]


class Struct(msgspec.Struct):
    id: str
    n: int | None
    tags: list[str]


def lines(events: Any) -> list[Any]:
    return [json.loads(line) for line in event_lines(as_events(events))]


FORMS: dict[str, Any] = {
    "dicts": EVENTS,
    "generator": (event for event in EVENTS),
    "dataclasses": [Reading(**event) for event in EVENTS],
    "structs": [Struct(**event) for event in EVENTS],
    "text": [json.dumps(event, indent=1) for event in EVENTS],
    "bytes": [json.dumps(event).encode() + b"\r\n" for event in EVENTS],
    "NDJSON": NDJSON + b"\n",
    "table": TABLE,
    "batch": TABLE.to_batches()[0],
    "reader": TABLE.to_reader(),
    "polars": pl.DataFrame(EVENTS),
    "pandas": pd.DataFrame({"id": ["a", 'b"\n'], "n": [1, math.nan], "tags": [["x", "ü"], []]}),
    "pandas by index": pd.DataFrame(EVENTS).astype({"n": "Int64"}).set_index("id"),
}


@pytest.mark.parametrize("form", FORMS)
def test_each_form_gives_the_same_events(form: str) -> None:
    assert lines(FORMS[form]) == EVENTS


def test_relation_gives_its_rows() -> None:
    assert lines(duckdb.sql("select 1 as n, 1.50 as price")) == [{"n": 1, "price": "1.50"}]


@pytest.mark.parametrize(
    "name", ["a.ndjson", "a.jsonl.gz", "a.json", "array.json", "array.json.zst", "a.parquet", "a.arrow", "s.arrows"]
)
def test_file_gives_its_events(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    if name == "a.parquet":
        pq.write_table(TABLE, path)
    elif name == "a.arrow":
        feather.write_feather(TABLE, str(path))
    elif name == "s.arrows":
        with pa.ipc.new_stream(str(path), TABLE.schema) as writer:
            writer.write_table(TABLE)
    else:
        content = json.dumps(EVENTS, indent=1).encode() if name.startswith("array") else NDJSON
        with pa.output_stream(path, compression="detect") as stream:
            stream.write(content)
    assert lines(path) == EVENTS


@pytest.mark.parametrize("name", ["a.csv", "a", "missing.ndjson", "broken.parquet", "broken.json", "broken.jsonl.gz"])
def test_file_that_cannot_be_read_is_named(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    if not name.startswith("missing"):
        path.write_bytes(b"[1,")
    with pytest.raises(UnreadableSourceError, match=name):
        lines(path)


VALUES: list[tuple[Any, Any]] = [
    (Decimal("1.10"), "1.10"),
    (datetime(2025, 1, 2, 3, 4, 5, tzinfo=UTC), "2025-01-02T03:04:05Z"),
    (datetime(2025, 1, 2, 3, 4, 5, 6), "2025-01-02T03:04:05.000006"),
    (date(2025, 1, 2), "2025-01-02"),
    (math.nan, "nan"),
    ([1.5, -math.inf], [1.5, "-inf"]),
    (2**70, 2**70),
    (np.int64(7), 7),
    (np.float64("nan"), "nan"),
    (np.array([1, 2]), [1, 2]),
    (pd.Timestamp("2025-01-02 03:04:05.123456789"), "2025-01-02T03:04:05.123456789"),
    (pd.NaT, None),
    (pd.NA, None),
    ("half a pair \ud800", "half a pair \ud800"),
    ({1: {"a": (None, True)}}, {"1": {"a": [None, True]}}),
]


@pytest.mark.parametrize(("value", "expected"), VALUES, ids=repr)
def test_value_is_written_exactly(value: Any, expected: Any) -> None:
    assert lines([{"value": value, "other": None}]) == [{"value": expected, "other": None}]


COLUMNS: list[tuple[Any, list[Any]]] = [
    (pa.array([1735787045123456789], pa.timestamp("ns", "Europe/Berlin")), ["2025-01-02 03:04:05.123456789Z"]),
    (pa.array([datetime(2025, 1, 2, 3)], pa.timestamp("us")), ["2025-01-02 03:00:00.000000"]),
    (pa.array([0.1, math.nan], pa.float32()), ["0.1", "nan"]),
    (pa.array([0.1, math.nan], pa.float64()), [0.1, "nan"]),
    (pa.array(["a", None, "a"]).dictionary_encode(), ["a", None, "a"]),
    (pa.array([Decimal("1.10")], pa.decimal128(38, 2)), ["1.10"]),
    (pa.array([[Decimal("1.10")]], pa.list_(pa.decimal128(9, 2), 1)), [["1.10"]]),
    (pa.array([[("k", date(2025, 1, 2))]], pa.map_(pa.string(), pa.date32())), [{"k": "2025-01-02"}]),
    (pa.array([{"at": datetime(2025, 1, 2)}], pa.struct([("at", pa.timestamp("s", "UTC"))])), [{"at": "2025-01-02 00:00:00Z"}]),
    (pa.array([b"text"], pa.binary()), ["text"]),
    (pa.array([None], pa.null()), [None]),
]  # fmt: skip


@pytest.mark.parametrize(("column", "expected"), COLUMNS, ids=lambda value: str(getattr(value, "type", "")))
def test_column_is_written_exactly(column: Any, expected: list[Any]) -> None:
    assert lines(pa.table({"value": column})) == [{"value": value} for value in expected]


@pytest.mark.parametrize(
    ("events", "message"),
    [
        ([{}, {"a": object()}], "Event 2 can't be written as JSON"),
        ([{(1, 2): 1}], "Event 1 "),
        (pa.table({"raw": [b"\xff"]}), "Column 'raw' can't be sent"),
        (pd.DataFrame({"mixed": [1, "x"]}), "mixed"),
        (pd.DataFrame([[1, 2]], columns=["a", "a"]), "a"),
    ],
)
def test_event_without_a_form_in_json_is_named(events: Any, message: str) -> None:
    with pytest.raises(UnreadableSourceError, match=message):
        lines(events)


def test_name_of_a_file_is_no_event() -> None:
    with pytest.raises(TypeError, match=r"pathlib\.Path"):
        as_events("events.ndjson")


TEXT = st.text(st.characters(codec="utf-8"))
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | TEXT
JSON = st.recursive(SCALARS, lambda inner: st.lists(inner) | st.dictionaries(TEXT, inner), max_leaves=8)


def _finite(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, list):
        return [_finite(item) for item in value]
    return {key: _finite(item) for key, item in value.items()} if isinstance(value, dict) else value


@settings(max_examples=25)
@given(st.lists(JSON, max_size=20), st.integers(1, 7))
def test_every_event_is_a_line_of_some_parcel_in_order(events: list[Any], max_events: int) -> None:
    expected = [_finite(event) for event in events if not isinstance(event, str)]
    parcels = list(
        cut_parcels("iot", event_lines(event for event in events if not isinstance(event, str)), "k", max_events)
    )
    assert _read(parcels) == expected
    assert [parcel.name for parcel in parcels] == [f"k-{number}" for number in range(len(parcels))]
    assert all(parcel.count <= max_events for parcel in parcels)
    halves = [half for parcel in parcels if parcel.count > 1 for half in parcel.halves()]
    assert _read(halves) == _read(parcel for parcel in parcels if parcel.count > 1)


def _read(parcels: Iterable[Parcel]) -> list[Any]:
    return [json.loads(line) for parcel in parcels for line in parcel.lines.split(b"\n")[: parcel.count]]
