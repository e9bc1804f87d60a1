import gzip
import io
import json
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lakehouse.contracts.streams import discover
from lakehouse.landing.inspection import inspect_file
from lakehouse_tests.landing.readers.samples import object_of

RETAIL = discover()["retail"].contract
H = "InvoiceNo;StockCode;Description;Quantity;InvoiceDate;UnitPrice;CustomerID;Country\n"
ROWS = "".join(f"74100{i};A1;Mug;{i};2011-07-02 08:26:0{i};2,5;17850;Österreich\n" for i in range(9))


@pytest.mark.parametrize(
    ("data", "encoding", "advice"),
    [
        ((H + ROWS.replace("2,5", "2.5")).encode(), "utf-8", None),
        ((H + ROWS).encode(), "utf-8", {"decimal": ","}),
        (
            gzip.compress((H + ROWS).encode("cp1252")),
            "not utf-8, perhaps cp1252",
            {"encoding": "cp1252", "decimal": ","},
        ),
        (("Sales\n\n" + H + ROWS.replace("2,5", "2.5")).encode(), "utf-8", {"skip": 1}),
        (ROWS.replace("2,5", "2.5").encode(), "utf-8", {"header": False}),
        ((H + ROWS.replace("2,5", "2.5").replace("17850", "NA")).encode(), "utf-8", {"nulls": ["NA"]}),
        (
            (H + ROWS.replace("2,5", "2.5").replace("17850", "NA", 4).replace("17850", "-")).encode(),
            "utf-8",
            {"nulls": ["-", "NA"]},
        ),
        ((H + ROWS.replace("2,5", "2.5")).replace(";", ", ").encode(), "utf-8", {"delimiter": ", "}),
        (
            (H + ROWS.replace("2,5", "2.5").replace("2011-07-02", "02.07.2011")).encode(),
            "utf-8",
            {"timeFormat": ["dd.MM.yyyy HH:mm:ss"]},
        ),
    ],
    ids=[
        "sound",
        "decimal comma",
        "encoding",
        "preamble",
        "no header",
        "nulls",
        "several nulls",
        "blank after the delimiter",
        "dates",
    ],
)
def test_inspection_finds_the_options_that_make_rows_valid(data: bytes, encoding: str, advice: dict[str, Any]) -> None:
    inspection = inspect_file(object_of(data, "x.csv"), RETAIL)
    assert (inspection.format, inspection.encoding) == ("csv", encoding)
    assert (inspection.advice and inspection.advice.options) == advice
    last = inspection.advice.validation if inspection.advice else inspection.validation
    assert last is not None
    assert (last.rows, last.valid, last.reasons) == (9, 9, {})


@pytest.mark.parametrize(
    ("text", "path"), [('{"n": 2, "data": [%s, %s]}', "$.data[*]"), ('{"before": null, "after": %s}', "$.after")]
)
def test_inspection_finds_the_envelope_of_events(text: str, path: str) -> None:
    fields, row = H.strip().split(";"), ROWS.splitlines()[0].replace("2,5", "2.5").split(";")
    event = json.dumps(dict(zip(fields, row, strict=True)))
    inspection = inspect_file(object_of(text.replace("%s", event).encode(), "x.json"), RETAIL)
    assert inspection.advice is not None
    assert inspection.advice.options == {"envelope": path}
    assert inspection.advice.validation.valid == inspection.advice.validation.rows == text.count("%s")


def test_options_that_do_as_much_are_named() -> None:
    data = H + ROWS.replace("2,5", "1.000").replace("2011-07-02", "02/07/2011")
    inspection = inspect_file(object_of(data.encode(), "x.csv"), RETAIL)
    assert inspection.advice is not None
    assert inspection.advice.options == {"timeFormat": ["dd/MM/yyyy HH:mm:ss"]}
    assert {"timeFormat": ["MM/dd/yyyy HH:mm:ss"]} in inspection.advice.others


def test_types_are_told_without_a_contract() -> None:
    sink = io.BytesIO()
    pq.write_table(pa.table({"a": [1], "b": ["x"]}), sink)
    assert inspect_file(object_of(sink.getvalue(), "x.parquet"), None).types == {"a": "int64", "b": "string"}
    found = inspect_file(object_of(b"a|b\n1|x\n2|y\n", "x.csv"), None)
    assert (found.delimiter, found.types) == ("|", {"a": "bigint", "b": "varchar"})
    assert inspect_file(object_of(b'{"a":1}\n', "x.json"), None).types == {"a": "bigint"}
