"""Rendering: every value is exact in every format."""

import csv
import io
import json
from typing import Any

import duckdb
import pyarrow as pa
import pytest

from lakehouse.errors import QueryError
from lakehouse.serving.query.rendering import FORMULA_STARTS, Column, Format, Statistics, render, sql_type

STATISTICS = Statistics(1, False, 0.5, 10, {"silver.iot": "1"})

BIG = "170141183460469231731687303715884105"
VALUES: list[tuple[str, str, Any, str]] = [
    ("1.50::decimal(18,2)", "DECIMAL(18,2)", "1.50", "1.50"),
    ("9007199254740993.01::decimal(18,2)", "DECIMAL(18,2)", "9007199254740993.01", "9007199254740993.01"),
    ("9007199254740991::bigint", "BIGINT", 9007199254740991, "9007199254740991"),
    ("9007199254740992::bigint", "BIGINT", "9007199254740992", "9007199254740992"),
    ("-9007199254740993::bigint", "BIGINT", "-9007199254740993", "-9007199254740993"),
    ("sum(5::bigint)", "DECIMAL(38,0)", 5, "5"),
    ("(2::hugeint) ** 100", "DOUBLE", 2.0**100, "1.2676506002282294e+30"),
    (f"{BIG}::hugeint", "DECIMAL(38,0)", BIG, BIG),
    ("'nan'::double", "DOUBLE", None, ""),
    ("'-inf'::double", "DOUBLE", None, ""),
    ("0.1::double", "DOUBLE", 0.1, "0.1"),
    ("true", "BOOLEAN", True, "true"),
    ("null::bigint", "BIGINT", None, ""),
    ("date '2025-01-02'", "DATE", "2025-01-02", "2025-01-02"),
    ("timestamp '2025-01-02 03:04:05.000006'", "TIMESTAMP", "2025-01-02T03:04:05.000006Z", "2025-01-02T03:04:05.000006Z"),
    ("timestamptz '2025-01-02 03:04:05+02'", "TIMESTAMP WITH TIME ZONE", "2025-01-02T01:04:05Z", "2025-01-02T01:04:05Z"),
    ("time '01:02:03'", "TIME", "01:02:03", "01:02:03"),
    ("'\\x00\\xFF'::blob", "BLOB", "00ff", "00ff"),
    ("'a,\"b\n<script>'", "VARCHAR", 'a,"b\n<script>', 'a,"b\n<script>'),
    ("[1.5::decimal(3,1), null]", "DECIMAL(3,1)[]", ["1.5", None], '["1.5",null]'),
    ("map {'a': 9007199254740993}", "MAP(VARCHAR, BIGINT)", {"a": "9007199254740993"}, '{"a":"9007199254740993"}'),
    ("{'a': 1.0::decimal(2,1), 'b': [date '2025-01-01']}", "STRUCT(a DECIMAL(2,1), b DATE[])",
     {"a": "1.0", "b": ["2025-01-01"]}, '{"a":"1.0","b":["2025-01-01"]}'),
    ("interval '-14 months 2 days -90.5 seconds'", "INTERVAL", "-1 year -2 months 2 days -00:01:30.5",
     "-1 year -2 months 2 days -00:01:30.5"),
    ("interval '0 days'", "INTERVAL", "00:00:00", "00:00:00"),
    ("'x'::enum('x', 'y')", "VARCHAR", "x", "x"),
]  # fmt: skip


def _rendered(sql: str, form: Format) -> bytes:
    with duckdb.connect() as database:
        database.execute("set timezone = 'UTC'")
        table = database.execute(sql).to_arrow_table()
    columns = [Column(field.name, sql_type(field.type)) for field in table.schema]
    return b"".join(render(table, columns, form, STATISTICS))


@pytest.mark.parametrize(("value", "kind", "plain", "cell"), VALUES)
def test_value_is_exact_in_json_and_csv(value: str, kind: str, plain: Any, cell: str) -> None:
    whole = json.loads(_rendered(f"select {value} as x", "json"))
    assert whole["columns"] == [{"name": "x", "type": kind}]
    assert whole["rows"] == [{"x": plain}]
    assert json.loads(_rendered(f"select {value} as x", "ndjson")) == {"x": plain}
    assert list(csv.reader(io.StringIO(_rendered(f"select 1 as a, {value} as x", "csv").decode(), newline=""))) == [
        ["a", "x"],
        ["1", cell],
    ]


@pytest.mark.parametrize("start", FORMULA_STARTS)
def test_escaped_csv_has_no_formulas(start: str) -> None:
    text = f"{start}SUM(1)"
    sql = f"select '{text}' as x, -1 as \"=a\", -1.5::decimal(3,1) as b, 'a{text}' as c, '{text}'::enum('{text}') as d"
    plain = list(csv.reader(io.StringIO(_rendered(sql, "csv").decode(), newline="")))
    assert plain == [["x", "=a", "b", "c", "d"], [text, "-1", "-1.5", f"a{text}", text]]
    escaped = list(csv.reader(io.StringIO(_rendered(sql, "csv-escaped").decode(), newline="")))
    assert escaped == [["x", "'=a", "b", "c", "d"], [f"'{text}", "-1", "-1.5", f"a{text}", f"'{text}"]]


def test_json_without_rows_has_columns_and_statistics() -> None:
    assert json.loads(_rendered("select 1 as x where false", "json")) == {
        "columns": [{"name": "x", "type": "INTEGER"}],
        "rows": [],
        "statistics": {"rows": 1, "truncated": False, "seconds": 0.5, "bytes": 10, "snapshots": {"silver.iot": "1"}},
    }


def test_repeated_column_names_are_numbered_in_all_batches() -> None:
    rows = [
        json.loads(line) for line in _rendered("select range as a, 1 as a from range(12000)", "ndjson").splitlines()
    ]
    assert rows == [{"a": n, "a_1": 1} for n in range(12_000)]
    assert len(json.loads(_rendered("select * from range(12000)", "json"))["rows"]) == 12_000


def test_arrow_keeps_column_types() -> None:
    table = pa.ipc.open_stream(_rendered("select 1.5::decimal(18,2) as d, 1 as d", "arrow")).read_all()
    assert [(field.name, field.type) for field in table.schema] == [("d", pa.decimal128(18, 2)), ("d_1", pa.int32())]


def test_date_beyond_python_is_an_error() -> None:
    with pytest.raises(QueryError, match=r"x: .*\. Cast it to varchar"):
        _rendered("select date '290000-01-01' as x", "json")
