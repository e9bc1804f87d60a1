"""Kinesis records become lines, whatever was packed into them and however they are broken."""

import hashlib
import json
from collections.abc import Callable
from typing import Any

import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory  # type: ignore[import-untyped]
from hypothesis import given, settings
from hypothesis import strategies as st

from lakehouse.sources.kinesis.records import AGGREGATION_MAGIC, as_lines, user_records


def _message_class() -> Any:
    """Make the message class AggregatedRecord with protobuf's own library."""
    file = descriptor_pb2.FileDescriptorProto(name="kpl.proto", syntax="proto2", package="kpl")
    kinds = descriptor_pb2.FieldDescriptorProto
    layout: dict[str, list[tuple[str, int, int, int, str]]] = {
        "Tag": [
            ("key", 1, kinds.LABEL_REQUIRED, kinds.TYPE_STRING, ""),
            ("value", 2, kinds.LABEL_OPTIONAL, kinds.TYPE_STRING, ""),
        ],
        "Record": [
            ("partition_key_index", 1, kinds.LABEL_REQUIRED, kinds.TYPE_UINT64, ""),
            ("explicit_hash_key_index", 2, kinds.LABEL_OPTIONAL, kinds.TYPE_UINT64, ""),
            ("data", 3, kinds.LABEL_REQUIRED, kinds.TYPE_BYTES, ""),
            ("tags", 4, kinds.LABEL_REPEATED, kinds.TYPE_MESSAGE, ".kpl.Tag"),
        ],
        "AggregatedRecord": [
            ("partition_key_table", 1, kinds.LABEL_REPEATED, kinds.TYPE_STRING, ""),
            ("explicit_hash_key_table", 2, kinds.LABEL_REPEATED, kinds.TYPE_STRING, ""),
            ("records", 3, kinds.LABEL_REPEATED, kinds.TYPE_MESSAGE, ".kpl.Record"),
        ],
    }
    for name, fields in layout.items():
        message = file.message_type.add(name=name)
        for field, number, label, kind, inner in fields:
            message.field.add(
                name=field, number=number, label=label, type=kind, **({"type_name": inner} if inner else {})
            )
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("kpl.AggregatedRecord"))


AGGREGATED = _message_class()


def aggregated(*records: bytes) -> bytes:
    """Pack records as the Kinesis Producer Library does."""
    message = AGGREGATED(
        partition_key_table=["a", "b" * 200],
        explicit_hash_key_table=["12345"],
        records=[
            {"partition_key_index": i % 2, "explicit_hash_key_index": 0, "data": data, "tags": [{"key": "k"}]}
            for i, data in enumerate(records)
        ],
    )
    body: bytes = message.SerializeToString()
    return AGGREGATION_MAGIC + body + hashlib.md5(body).digest()  # noqa: S324 (the format uses it)


@given(st.lists(st.binary(max_size=300), max_size=20))
def test_aggregated_records_are_unpacked(records: list[bytes]) -> None:
    assert user_records(aggregated(*records)) == records


@given(st.one_of(st.binary(max_size=100), st.binary(max_size=60).map(lambda rest: AGGREGATION_MAGIC + rest)))
def test_plain_record_is_returned_as_it_is(data: bytes) -> None:
    assert user_records(data) == [data]


@given(st.binary(max_size=60))
def test_body_that_is_no_message_is_returned_as_it_is(body: bytes) -> None:
    data = AGGREGATION_MAGIC + body + hashlib.md5(body).digest()  # noqa: S324
    try:
        packed = AGGREGATED.FromString(body)
    except Exception:
        records = user_records(data)
        assert records == [data] or b"".join(records) in body
    else:
        assert user_records(data) == [record.data for record in packed.records]


@pytest.mark.parametrize("broken", [lambda d: d[:-1] + b"?", lambda d: d[:8] + b"?" + d[9:], lambda d: d[:12]])
def test_damaged_aggregate_is_returned_as_it_is(broken: Callable[[bytes], bytes]) -> None:
    data = broken(aggregated(b"one", b"two"))
    assert user_records(data) == [data]


@pytest.mark.parametrize(
    ("data", "lines"),
    [
        (b'{"a": 1}', b'{"a": 1}\n'),
        (b'{"a": 1}\n', b'{"a": 1}\n'),
        (b'{"a": 1}\r\n{"a": 2}\r\n', b'{"a": 1}\r\n{"a": 2}\n'),
        (b'{"a": 1}{"a": 2}', b'{"a": 1}{"a": 2}\n'),
        (b"\xef\xbb\xbf{}", b"{}\n"),
        (b"", b""),
        (b" \n\n", b""),
        (b"no JSON", b"no JSON\n"),
        (b"\xff\x00", b"\xff\x00\n"),
        (b'{\r\n  "a": "\xc3\xa4",\n  "b": [1,\n 2]\n}\n', b'{    "a": "\xc3\xa4",   "b": [1,  2] }\n'),
        (b'{\n"a": 1\n}\n{\n"a": 2\n}', b'{\n"a": 1\n}\n{\n"a": 2\n}\n'),
        (b'{"a": "line\nbreak"}', b'{"a": "line\nbreak"}\n'),
    ],
)
def test_record_data_becomes_lines(data: bytes, lines: bytes) -> None:
    assert as_lines([{"Data": data}]) == lines


VALUES = st.recursive(
    st.none() | st.text(max_size=20) | st.integers(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


@settings(max_examples=50)
@given(VALUES)
def test_event_spanning_lines_keeps_its_values(value: object) -> None:
    event = {"value": value}
    lines = as_lines([{"Data": json.dumps(event, indent=1, ensure_ascii=False).encode("utf-8", "surrogatepass")}])
    assert lines.count(b"\n") == 1
    assert json.loads(lines.decode("utf-8", "surrogatepass")) == event


def test_aggregated_and_plain_records_keep_their_order() -> None:
    records = [{"Data": b"{}"}, {"Data": aggregated(b'{"a": 1}', b'{"a": 2}\n{"a": 3}\n', b"")}, {"Data": b"x"}]
    assert as_lines(records) == b'{}\n{"a": 1}\n{"a": 2}\n{"a": 3}\nx\n'
