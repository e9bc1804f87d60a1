"""Positions of rows are the bytes that the reader made the rows of, or are not told."""

import gzip
import json
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import partial
from io import BytesIO

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lakehouse.contracts.streams import discover
from lakehouse.landing import row_positions
from lakehouse.landing.readers import InputObject, bronze_batches
from lakehouse.landing.row_positions import Position, find_landing, find_positions
from lakehouse.storage.objects.store import Objects
from lakehouse_tests.pipeline.landings import examples

CONTRACT = discover()["iot"].contract
EVENTS = st.lists(
    st.fixed_dictionaries({"event_id": st.text(max_size=5), "device_id": st.sampled_from(["é", "a,b", "{}", '"'])}),
    min_size=1,
    max_size=8,
)


def _positions(objects: Objects, name: str, content: bytes) -> Mapping[int, Position]:
    key = f"incoming/iot/positions/{name}"
    objects.put(key, content)
    landed = find_landing(objects, key, "iot")
    assert landed is not None
    return find_positions(objects, CONTRACT, landed, range(1, 1000))


@examples(15, 300)
@given(events=EVENTS, between=st.sampled_from(["\n", "\r\n", "\n\n  ", " \n"]), escaped=st.booleans())
@pytest.mark.parametrize("is_array", [False, True])
def test_bytes_of_each_row_are_its_json(
    objects: Objects, events: list[dict[str, str]], between: str, escaped: bool, is_array: bool
) -> None:
    texts = [json.dumps(event, ensure_ascii=escaped) for event in events]
    content = (f"[{(',' + between).join(texts)}]" if is_array else between.join(texts)).encode()
    positions = _positions(objects, "events.json", content)
    read = [content[at.first_byte : at.first_byte + at.bytes].decode() for _, at in sorted(positions.items())]
    assert [json.loads(text) for text in read] == events
    obj = InputObject("events.json", datetime.now(UTC), len(content), partial(BytesIO, content))
    assert [*positions] == [
        row for batch in bronze_batches(CONTRACT, [obj]) for row in batch.column("_row").to_pylist()
    ]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("events.ndjson.gz", gzip.compress(b'{"event_id": "a"}\n')),
        ("events.csv", b"event_id,value\na,1\n"),
        ("marked.ndjson", b'\xef\xbb\xbf{"event_id": "a"}\n'),
    ],
)
def test_positions_that_bytes_can_not_have_are_not_told(objects: Objects, name: str, content: bytes) -> None:
    assert _positions(objects, name, content) == {}


def test_nothing_is_told_after_a_row_that_can_not_be_read(objects: Objects) -> None:
    content = b'{"event_id": "a"}\n{"event_id": "\xff"}\n{"event_id": "c"}\n'
    assert _positions(objects, "torn.ndjson", content) == {1: Position(0, 17)}


def test_only_whole_rows_of_a_large_object_are_told(objects: Objects, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(row_positions, "MAX_BYTES", 30)
    content = b'{"event_id": "a"}\n' * 4
    assert _positions(objects, "large.ndjson", content) == {1: Position(0, 17)}
