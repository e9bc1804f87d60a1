import json

import pyarrow as pa
import pytest

from lakehouse.landing.readers.columns import read_columns
from lakehouse_tests.landing.readers.samples import contract_of, object_of
from lakehouse_tests.landing.readers.test_parquet import parquet

SALES = contract_of(("id", "string", "InvoiceNo"), ("customer_id", "integer", "CustomerID"), ("amount", "double"))


@pytest.mark.parametrize(
    ("data", "name", "warnings"),
    [
        (b"InvoiceNo,CustomerID,amount\n", "x.csv", []),
        (b"", "x.csv", []),
        (b"a,b\n1,2\n", "x.csv", []),  # each row says so
        (
            b"InvoiceNo,Customer ID,amount\n1,2,3\n",
            "x.csv",
            ["column Customer ID is none of the contract, perhaps CustomerID", "CustomerID is in no column"],
        ),
        (
            b"id,ammount,colour\n1,2,3\n",
            "x.csv",
            [
                "column ammount is none of the contract, perhaps amount",
                "column colour is none of the contract",
                "CustomerID is in no column",
                "amount is in no column",
            ],
        ),
        (
            parquet(pa.table({"id": ["a"], "Amount": [1.5], "customer": [1]})),
            "x.parquet",
            ["column customer is none of the contract, perhaps CustomerID", "CustomerID is in no column"],
        ),
        (b"not Parquet", "x.parquet", []),
        (b'{"id":"a"}\n{"id":"b","amount":1}\n', "x.ndjson", []),
        (
            json.dumps([{"id": "a", "ammount": 1, "colour": "red", "customer_id": 1}]).encode(),
            "x.json",
            [
                "column ammount is none of the contract, perhaps amount",
                "column colour is none of the contract",
                "amount is in no column",
            ],
        ),
    ],
)
def test_unknown_and_absent_columns_are_named(data: bytes, name: str, warnings: list[str]) -> None:
    assert read_columns(SALES, object_of(data, name)).warnings == warnings
