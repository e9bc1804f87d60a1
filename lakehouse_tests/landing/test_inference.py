"""The contract that is inferred from a sample accepts the sample's own rows."""

import csv
import io
import json
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import Phase, given, note, settings
from hypothesis import strategies as st

from lakehouse.contracts.model import Contract
from lakehouse.contracts.odcs import CONTRACT_FILE, load_contract
from lakehouse.contracts.writing import contract_yaml
from lakehouse.errors import UnreadableSourceError
from lakehouse.landing.inference import Inference, infer
from lakehouse.landing.inspection import validate_file
from lakehouse.landing.samples import read_sample
from lakehouse_tests.landing.readers.samples import object_of
from lakehouse_tests.nightly import more_at_night

Row = Mapping[str, Any]
TIMES = st.datetimes(datetime(2012, 1, 1), datetime(2025, 1, 1))
TEXTS = st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"]), max_size=12)
NAMES = st.sampled_from(
    [
        "order",
        "select",
        "dt",
        "Valid",
        "it's",
        'say "hi"',
        "🚀",
        "00",
        "Unit Price",
        "unit_price",
        "a.b",
        "$x",
        "ÜBER",
        "id",
    ]
)
VALUES: Sequence[st.SearchStrategy[Any]] = (
    st.integers(-(2**63), 2**63 - 1),
    st.integers(0, 9),
    st.floats(allow_nan=False, allow_infinity=False),
    st.decimals(-(10**6), 10**6, places=2).map(float),
    st.booleans(),
    TEXTS,
    st.sampled_from(["NA", "-", "00123", "+49 30", "1e5", "true", "[]", "2025-01-01", "1.000", "1,5", "9" * 30]),
    st.sampled_from(["small", "large"]),
    TIMES.map(lambda time: time.strftime("%d/%m/%Y %H:%M")),
    TIMES.map(lambda time: int(time.timestamp() * 1000)),
    st.lists(TEXTS, max_size=2),
    st.sampled_from([{"a": 1}, [1], {}]),
)


@st.composite
def tables(draw: st.DrawFn) -> list[Row]:
    """Draw rows whose columns have odd names and mostly one kind of value each, some of them missing."""
    columns = draw(st.dictionaries(NAMES, st.sampled_from(VALUES), max_size=8))
    rows = draw(st.integers(1, 40))
    column = {name: draw(st.lists(st.none() | kind, min_size=rows, max_size=rows)) for name, kind in columns.items()}
    times = draw(st.lists(TIMES, min_size=rows, max_size=rows))
    return [{"at": at.isoformat(), **{name: column[name][n] for name in columns}} for n, at in enumerate(times)]


def as_csv(rows: Sequence[Row]) -> bytes:
    file = io.StringIO()
    writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(
        {name: json.dumps(v) if isinstance(v, list | dict) else v for name, v in row.items()} for row in rows
    )
    return file.getvalue().encode()


def as_ndjson(rows: Sequence[Row]) -> bytes:
    return b"".join(json.dumps({n: v for n, v in row.items() if v is not None}).encode() + b"\n" for row in rows)


def inferred(tmp_path: Path, *files: tuple[str, bytes]) -> tuple[Inference, Contract]:
    """Infer a contract, write it, and read it back."""
    inference = infer("drawn", read_sample([object_of(data, name) for name, data in files]))
    folder = tmp_path / "drawn"
    folder.mkdir(exist_ok=True)
    (folder / CONTRACT_FILE).write_text(
        contract_yaml(inference.contract, inference.comments, inference.sensitive, ["A sample."])
    )
    return inference, load_contract(folder)


@settings(max_examples=more_at_night(10, 200), deadline=None, phases=[Phase.explicit, Phase.reuse, Phase.generate])
@given(rows=tables(), written=st.sampled_from([("x.csv", as_csv), ("x.ndjson", as_ndjson)]))
def test_contract_accepts_the_rows_of_its_sample(
    tmp_path_factory: pytest.TempPathFactory, rows: list[Row], written: tuple[str, Callable[[Sequence[Row]], bytes]]
) -> None:
    name, write = written
    data = write(rows)
    note(repr(data))
    inference, contract = inferred(tmp_path_factory.mktemp("contract"), (name, data))
    assert contract == inference.contract
    validation = validate_file(object_of(data, name), contract, 1000)
    assert (validation.rows, validation.valid, validation.reasons) == (len(rows), len(rows), {}), contract.fields


def test_field_does_not_get_the_name_of_a_column_that_is_no_field(tmp_path: Path) -> None:
    rows = [{"at": f"2025-01-{day:02}T00:00:00", "Unit Price": "small", "unit_price": {"a": 1}} for day in range(1, 9)]
    data = as_ndjson(rows)
    _, contract = inferred(tmp_path, ("x.ndjson", data))
    assert {field.name: field.source for field in contract.fields} == {"at": "at", "unit_price_2": "Unit Price"}
    assert validate_file(object_of(data, "x.ndjson"), contract, 100).valid == len(rows)


def test_json_text_with_a_decimal_mark_stays_text(tmp_path: Path) -> None:
    data = as_ndjson([{"at": "2025-01-01T00:00:00", "size": "1,5"}, {"at": "2025-01-02T00:00:00", "size": "2,5"}])
    _, contract = inferred(tmp_path, ("x.ndjson", data))
    assert {field.name: str(field.type) for field in contract.fields} == {"at": "timestamp", "size": "string"}
    assert validate_file(object_of(data, "x.ndjson"), contract, 100).valid == 2


def test_parquet_is_inferred_by_its_columns(tmp_path: Path) -> None:
    sink = io.BytesIO()
    times = pa.array([datetime(2025, 1, day) for day in range(1, 21)], pa.timestamp("ns"))
    table: dict[str, Any] = {
        "when": times,
        "n": pa.array(range(20)),
        "tags": [["a"]] * 20,
        "nested": [{"a": 1}] * 20,
        "x": [1.5] * 20,
    }
    pq.write_table(pa.table(table), sink)
    inference, contract = inferred(tmp_path, ("x.parquet", sink.getvalue()))
    types = {field.name: str(field.type) for field in contract.fields}
    assert types == {"when": "timestamp", "n": "integer", "tags": "list", "x": "double"}
    assert "nested holds objects" in inference.notes[0]
    assert validate_file(object_of(sink.getvalue(), "x.parquet"), contract, 100).valid == 20


def test_types_key_dialect_enumerations_and_personal_data_are_inferred(tmp_path: Path) -> None:
    rows = "".join(
        f"A{n:04};{n % 28 + 1:02}.11.2024 10:15;{n}.000,50;{'NA' if n % 3 else n};{('open', 'paid')[n % 2]};a{n}@x.de;00{n}\n"
        for n in range(1, 121)
    )
    data = ("No;Ordered at;Amount;Qty;Status;Contact;Zip\n" + rows).encode()
    inference, contract = inferred(tmp_path, ("x.csv", data))
    assert [(f.name, str(f.type), f.required, f.key, f.enum) for f in contract.fields] == [
        ("no", "string", True, True, ()),
        ("ordered_at", "timestamp", True, False, ()),
        ("amount", "decimal(18,2)", True, False, ()),
        ("qty", "integer", False, False, ()),
        ("status", "string", True, False, ("open", "paid")),
        ("contact", "string", True, False, ()),
        ("zip", "string", True, False, ()),
    ]
    assert contract.event_time == "ordered_at"
    assert contract.dialect.options() == {"decimal": ",", "thousands": ".", "nulls": ["NA"]}
    assert inference.sensitive == {"contact": "e-mail address", "zip": "postal address"}
    assert inference.comments["amount"] == ("1000.50 to 120000.50 in the sample",)
    assert validate_file(object_of(data, "x.csv"), contract, 1000).valid == 120


@pytest.mark.parametrize(
    ("data", "dialect"),
    [
        ("id,at,città\n1,2024-01-01,Milano à\n".encode("cp1252"), {"encoding": "cp1252"}),
        (b"Report of 2024\n\nid,at,x\n1,2024-01-01,2\n2,2024-01-02,3\n", {"skip": 1}),
        (b"1,2024-01-01,x\n2,2024-01-02,y\n", {"header": False, "columns": ["column_1", "column_2", "column_3"]}),
        (b"id;at\n1;2024-01-01\n", {}),
    ],
    ids=["encoding", "preamble", "no header", "delimiter"],
)
def test_dialect_is_inferred(tmp_path: Path, data: bytes, dialect: dict[str, Any]) -> None:
    _, contract = inferred(tmp_path, ("x.csv", data))
    assert contract.dialect.options() == dialect
    validation = validate_file(object_of(data, "x.csv"), contract, 10)
    assert validation.valid == validation.rows > 0


def test_five_hundred_columns_are_inferred(tmp_path: Path) -> None:
    data = ",".join(["at", *(f"Col {n}" for n in range(499))]) + "\n" + ",".join(["2024-01-01", *["1"] * 499]) + "\n"
    _, contract = inferred(tmp_path, ("x.csv", data.encode()))
    assert len(contract.fields) == 500
    assert validate_file(object_of(data.encode(), "x.csv"), contract, 10).valid == 1


def test_files_that_differ_give_a_contract_of_both(tmp_path: Path) -> None:
    files = [("a.csv", b"id,at,n\n1,2024-01-01,5\n"), ("b.csv", b"at;id;note\n2024-01-02;x7;hello\n")]
    inference, contract = inferred(tmp_path, *files)
    assert {f.name: str(f.type) for f in contract.fields} == {
        "id": "string",
        "at": "timestamp",
        "n": "integer",
        "note": "string",
    }
    assert inference.comments["note"] == ("not in a.csv",)
    for name, data in files:
        assert validate_file(object_of(data, name), contract, 10).valid == 1


def test_rows_with_defects_of_their_own_are_counted(tmp_path: Path) -> None:
    rows = "".join(f"{n},{n % 28 + 1}.11.2024,x\n" for n in range(40))
    data = ("id,day,note\n" + rows + "40,unknown,y\n41,3.11.2024,z,too,many\n").encode()
    _, contract = inferred(tmp_path, ("x.csv", data))
    assert contract.event_time == "day"
    validation = validate_file(object_of(data, "x.csv"), contract, 100)
    assert (validation.rows, validation.valid) == (42, 40)
    assert any(reason.startswith("day is not a time") for reason in validation.reasons)


def test_ambiguous_dates_are_asked_for() -> None:
    asked = []

    def choose(question: str, choices: Sequence[str]) -> str:
        asked.append((question, list(choices)))
        return choices[-1]

    sample = read_sample([object_of(b"id,day\n1,03/04/2024\n2,05/06/2024\n", "x.csv")])
    contract = infer("drawn", sample, choose).contract
    assert asked[0] == ("The sample can't tell how day is written.", ["dd/MM/yyyy", "MM/dd/yyyy"])
    assert contract.field("day").format[0].text == "MM/dd/yyyy"


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ([("x.csv", b"")], "x.csv: it holds no rows; give a sample with at least one"),
        ([("x.csv", b"id,at\n")], "x.csv: it holds no rows"),
        ([("x.ndjson", b"[]")], "x.ndjson: it holds no rows"),
        ([("x.csv", bytes(range(256)) * 40)], "x.csv: it is neither text nor Parquet"),
        ([("x.csv", b"PK\x03\x04" + b"\0" * 60)], "it is a zip archive; unpack it"),
        ([("x.parquet", b"id,at\n1,2024-01-01\n")], "x.parquet: not a Parquet file"),
        ([("x.ndjson", b"{'a': 1}\n")], "x.ndjson: not JSON"),
        ([("x.csv", b"id,n\n1,2\n")], "No column holds times"),
        ([("x.csv", b"id,ID\n1,2\n")], "x.csv: column ID appears twice"),
        ([("a.csv", b"id,at\n1,2024-01-01\n"), ("b.csv", b"x,y\n1,2\n")], "no column in common: a.csv has id, at; b.csv has x, y"),
        ([("a.csv", b"at,n\n2024-01-01,5\n"), ("b.csv", "at,n\n2024-01-01,à\n".encode("cp1252"))], "are written differently"),
    ],
)  # fmt: skip
def test_sample_without_a_contract_is_refused_in_a_sentence(files: list[tuple[str, bytes]], message: str) -> None:
    with pytest.raises(UnreadableSourceError) as raised:
        infer("drawn", read_sample([object_of(data, name) for name, data in files]))
    assert message in str(raised.value)
    assert "\n" not in str(raised.value)
