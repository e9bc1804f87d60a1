import datetime
import gzip
import io
import struct
import uuid
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lakehouse.landing.readers import InputObject, relation
from lakehouse.landing.readers.arrow import Array
from lakehouse_tests.landing.readers.samples import ARRIVED, EVENT, THREE, contract_of, object_of, rows_of


def parquet(table: pa.Table, **options: Any) -> bytes:
    sink = io.BytesIO()
    pq.write_table(table, sink, **options)
    return sink.getvalue()


def texts(values: Array, kind: str = "string") -> list[Any]:
    contract = contract_of(("v", kind))  # type: ignore[arg-type]
    rows = rows_of(contract, object_of(parquet(pa.table({"v": values})), "x.parquet"))
    return [row[0] if row[0] != "!" else row for row in rows]


UTC = pa.timestamp("us", "UTC")
MOMENT = datetime.datetime(2025, 11, 20, 14, 15, 16, 250)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (pa.array(["é", None, ""]), ["é", None, ""]),
        (pa.array(["a", "b", "a"]).dictionary_encode(), ["a", "b", "a"]),
        (pa.array(["a"], pa.large_string()), ["a"]),
        (pa.array([b"\xc3\xa9", None]), ["é", None]),
        (pa.array([-(2**63), 2**63 - 1, None]), ["-9223372036854775808", "9223372036854775807", None]),
        (pa.array([2**64 - 1], pa.uint64()), ["18446744073709551615"]),
        (pa.array([True, False, None]), ["true", "false", None]),
        (pa.array([0.1, 5e-324, None]), ["0.1", "5e-324", None]),
        (pa.array([0.1], pa.float32()), ["0.1"]),
        (pa.array([Decimal("12345678901234567890.120"), Decimal("0.001")]), ["12345678901234567890.120", "0.001"]),
        (pa.array([Decimal("1E-20")], pa.decimal128(38, 30)), ["0.000000000000000000010000000000"]),
        (pa.array([MOMENT]), ["2025-11-20T14:15:16.000250"]),
        (pa.array([MOMENT.replace(microsecond=0)], pa.timestamp("s")), ["2025-11-20T14:15:16.000000"]),
        (pa.array([1763648116000000123], pa.timestamp("ns")), ["2025-11-20T14:15:16.000000123"]),
        (pa.array([MOMENT.replace(tzinfo=datetime.UTC)], UTC), ["2025-11-20T14:15:16.000250Z"]),
        (
            pa.array([MOMENT.replace(tzinfo=datetime.UTC)], pa.timestamp("us", "Europe/Berlin")),
            ["2025-11-20T14:15:16.000250Z"],
        ),
        (pa.array([datetime.date(2025, 11, 20)]), ["2025-11-20"]),
        (pa.array([datetime.time(14, 15, 16)]), ["14:15:16.000000"]),
        (pa.nulls(2), [None, None]),
        (pa.array([uuid.UUID(int=5).bytes], pa.uuid()), ["00000000-0000-0000-0000-000000000005"]),
    ],
    ids=lambda value: str(value.type) if isinstance(value, pa.Array) else "",
)
def test_values_become_text_without_loss(values: Array, expected: list[str | None]) -> None:
    assert texts(values) == expected


def test_point_of_decimal_never_marks_thousands() -> None:
    assert texts(pa.array([Decimal("1.000"), Decimal("-12.000"), Decimal("1.500"), None]), "integer") == [
        "1",
        "-12",
        "1.500",
        None,
    ]


def test_columns_match_by_name_and_unknown_ones_are_kept() -> None:
    table = pa.table(
        {
            "Price": [1.5, None],
            "extra": [Decimal("1.10"), None],
            " id ": ["a", "b"],
            "deep": [{"k": [1, None], "t": MOMENT}, None],
        }
    )
    assert rows_of(THREE, object_of(parquet(table), "x.parquet")) == [
        ("a", None, "1.5", '{"extra":1.10,"deep":{"k":[1,null],"t":"2025-11-20T14:15:16.000250"}}'),
        ("b", None, None),
    ]


def test_lists_of_texts_become_json() -> None:
    assert texts(pa.array([["a", 'b"'], [], None]), "list") == ['["a","b\\""]', "[]", None]


def test_nested_values_bad_bytes_and_nul_are_defects() -> None:
    table = pa.table(
        {
            "id": pa.array(["a", "b", "c", "d\0"]),
            "time": pa.array([None, {"x": 1}, None, None]),
            "tags": pa.array([["x"], None, ["y", None], None]),
            "ok": pa.array([b"t", b"t", None, b"\xff"]),
        }
    )
    assert rows_of(EVENT, object_of(parquet(table), "x.parquet")) == [
        ("a", None, None, None, "t", '["x"]'),
        ("!", "time: expected a single value, got a nested value", '{"id":"b","time":{"x":1},"tags":null,"ok":"t"}'),
        (
            "!",
            "tags: expected an array of texts, got one that holds null",
            '{"id":"c","time":null,"tags":["y",null],"ok":null}',
        ),
        ("!", "ok: invalid UTF-8; contains a NUL byte", '{"id":"d\\u0000","time":null,"tags":null,"ok":"\\\\xff"}'),
    ]
    assert texts(pa.array([[1], None]), "list") == [
        ("!", "v: expected an array of texts, got a nested value", '{"v":[1]}'),
        None,
    ]


def test_schema_without_contract_fields_makes_all_rows_defects() -> None:
    assert rows_of(THREE, object_of(parquet(pa.table({"a": [1, 2]})), "x.parquet")) == [
        ("!", "no column of the contract in the header: a", '{"a":1}'),
        ("!", "no column of the contract in the header: a", '{"a":2}'),
    ]
    assert rows_of(THREE, object_of(parquet(pa.table({"id": ["a"], "ID": ["b"]})), "x.parquet")) == [
        ("!", "column ID appears twice", '{"id":"a","ID":"b"}')
    ]


@pytest.mark.parametrize("end", [b"PAR1", b"\x10\0\0\0PAR1", b""])
@pytest.mark.parametrize("start", [b"", b"PAR1", b"not at all", b"PAR1" + b"x" * 100])
def test_file_that_is_no_parquet_is_one_defect(start: bytes, end: bytes) -> None:
    ((mark, reason, raw),) = rows_of(THREE, object_of(start + end, "x.parquet"))
    assert (mark, raw) == ("!", None)
    assert reason.startswith("not a Parquet file: ")


@pytest.mark.parametrize(("first_rows", "last_rows"), [(3, 3), (300, 3), (3, 300), (0, 3), (3, 0), (0, 0)])
@pytest.mark.parametrize("has_index", [False, True])
def test_parquet_files_one_behind_the_other_give_no_valid_row(first_rows: int, last_rows: int, has_index: bool) -> None:
    first, last = (
        parquet(pa.table({"id": [f"{rows * number}" for number in range(rows)]}), write_page_index=has_index)
        for rows in (first_rows, last_rows)
    )
    ((mark, reason, raw),) = rows_of(THREE, object_of(first + last, "x.parquet"))
    assert (mark, raw) == ("!", None)
    # Where the first file is the smaller one, columns are looked for where they are not.
    assert reason.startswith(
        ("not a Parquet file: it is several Parquet files one behind the other", "row group 1 of 1")
    )
    assert len(rows_of(THREE, object_of(last, "x.parquet"))) == last_rows


def test_rows_around_damaged_row_group_are_kept() -> None:
    ids = [str(i * 7919 % 100003) for i in range(60_000)]
    data = bytearray(parquet(pa.table({"id": ids}), row_group_size=20_000, use_dictionary=False, compression="zstd"))
    start = pq.read_metadata(io.BytesIO(bytes(data))).row_group(1).column(0).data_page_offset
    data[start : start + 5000] = b"\xff" * 5000
    rows = rows_of(THREE, object_of(bytes(data), "x.parquet"))
    assert [row for row in rows if row[0] != "!"] == [(value, None, None) for value in ids[:20_000] + ids[40_000:]]
    mark, reason, raw = rows[20_000]
    assert (mark, raw) == ("!", None)
    assert reason.startswith("row group 2 of 3 is damaged, 20000 of its 20000 rows are lost: ")


def test_compressed_and_unseekable_files_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(relation, "SMALL_OBJECT_BYTES", 0)
    data = parquet(pa.table({"id": ["a"]}))
    assert rows_of(THREE, object_of(gzip.compress(data), "x.parquet.gz")) == [("a", None, None)]

    class Unseekable:
        def __init__(self) -> None:
            self._file = io.BytesIO(data)

        def read(self, size: int, /) -> bytes:
            return self._file.read(size)

        def close(self) -> None:
            self._file.close()

    assert rows_of(THREE, InputObject("x.parquet", ARRIVED, len(data), Unseekable)) == [("a", None, None)]


@pytest.mark.parametrize("year", [1, 1500, 1969, 2025, 9999])
def test_time_in_int96_keeps_its_nanoseconds_as_a_neighbor_keeps_its_microseconds(year: int) -> None:
    exact = datetime.datetime(year, 3, 4, 5, 6, 7, 250_000)
    days = exact.toordinal() + 1_721_425  # the number of the Julian day, as INT96 counts
    nanos = ((5 * 60 + 6) * 60 + 7) * 10**9 + 250_000_000
    stand_ins = [datetime.datetime(2001, 1, 1, 0, 0, number) for number in (1, 2)]
    content = parquet(
        pa.table({"v": stand_ins, "w": ["a", "b"]}),
        use_deprecated_int96_timestamps=True,
        use_dictionary=False,
        compression="none",
    )
    julian = datetime.datetime(2001, 1, 1).toordinal() + 1_721_425
    for number, below in ((1, 7), (2, 0)):
        written = struct.pack("<qi", number * 10**9, julian)
        assert content.count(written) >= 1
        content = content.replace(written, struct.pack("<qi", nanos + below, days))
    rows = rows_of(contract_of(("v", "string"), ("w", "string")), object_of(content, "x.parquet"))
    assert [row[:2] for row in rows] == [
        (f"{year:04}-03-04T05:06:07.250000007", "a"),
        (f"{year:04}-03-04T05:06:07.250000", "b"),
    ]
