"""A row that has two values of a field is a defect in every format, because the row does not say which is meant."""

import io
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lakehouse.landing.readers import InputObject
from lakehouse_tests.landing.readers.samples import contract_of, object_of, rows_of

CONTRACT = contract_of(("order_id", "string", "OrderID"), ("note", "string"))
SPELLINGS = ("order_id", "OrderID", "Order_Id", "ORDERID", "orderid")


def _files(names: list[str], values: list[str]) -> dict[str, InputObject]:
    """Write one row in every format."""
    parquet = io.BytesIO()
    pq.write_table(pa.Table.from_arrays([pa.array([value]) for value in values], names), parquet)
    pairs = ",".join(f"{json.dumps(name)}:{json.dumps(value)}" for name, value in zip(names, values, strict=True))
    text = f"{','.join(names)}\n{','.join(values)}\n"
    return {
        "json": object_of(f"{{{pairs}}}\n".encode(), "x.ndjson"),
        "array": object_of(f"[{{{pairs}}}]".encode(), "x.json"),
        "csv": object_of(text.encode(), "x.csv"),
        "parquet": object_of(parquet.getvalue(), "x.parquet"),
    }


@pytest.mark.usefixtures("way")
@given(st.lists(st.sampled_from(SPELLINGS), min_size=2, max_size=3), st.permutations(["note", "x", "X"]), st.booleans())
@settings(max_examples=8, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_field_with_two_values_is_a_defect_in_every_format(given: list[str], others: list[str], same: bool) -> None:
    names = [others[0], *given, *others[1:]]
    values = ["v" if same else f"v{number}" for number in range(len(names))]
    for kind, file in _files(names, values).items():
        ((mark, reason, _),) = rows_of(CONTRACT, file)
        expected = {f"column {name} appears twice" for name in given[1:]} if kind in ("csv", "parquet") else None
        assert (mark, {*reason.split("; ")}) == ("!", expected or {"order_id appears twice"}), kind


@pytest.mark.usefixtures("way")
def test_unknown_names_that_differ_by_case_are_both_kept() -> None:
    for kind, file in _files(["order_id", "x", "X"], ["a", "1", "2"]).items():
        assert rows_of(CONTRACT, file) == [("a", None, '{"x":"1","X":"2"}')], kind


def test_repeated_name_in_a_nested_value_keeps_both_values() -> None:
    repeated = pa.StructArray.from_arrays([pa.array([1, 3]), pa.array(["b", None])], ["a", "a"])
    sink = io.BytesIO()
    pq.write_table(pa.table({"order_id": ["1", "2"], "x": repeated}), sink)
    assert rows_of(CONTRACT, object_of(sink.getvalue(), "x.parquet")) == [
        ("1", None, '{"x":{"a":1,"a":"b"}}'),
        ("2", None, '{"x":{"a":3,"a":null}}'),
    ]
