"""Broken JSON lines cost no other row, and whether an object may span lines follows from its name."""

import gzip
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from itertools import product
from typing import TypeVar

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from lakehouse.landing.keys import realtime_key
from lakehouse.landing.readers import InputObject, json_lines
from lakehouse.landing.readers.json_text import MAX_DEPTH
from lakehouse_tests.landing.readers.samples import EVENT, RowTuple, object_of, rows_of
from lakehouse_tests.nightly import NIGHTLY, more_at_night

NONE = None, None, None, None, None
A, B, C = ("a", *NONE), ("b", *NONE), ("c", *NONE)
LANDED_KEY = realtime_key("iot", datetime(2025, 11, 20, 14, 15, tzinfo=UTC), "w", 1)
FOLDER = LANDED_KEY.rpartition("/")[0]
NDJSON_NAMES = [
    LANDED_KEY,
    LANDED_KEY.rpartition("/")[2] + ".zst",
    f"{FOLDER}/x.ndjson",
    f"{FOLDER}/part-1.JSONL",
    f"{FOLDER}/y.json.gz",
]
OTHER_NAMES = ["incoming/iot/x.json", "x.ndjson.gz"]

BROKEN = (
    *(b'{"a": ', b'{"a":{', b'{"a":"', b'{"a":[', b"{", b"[{", b'[{"a": ', b'[{"a":{', b'[{"a":"', b"[", b"["),
    *(b'{"id":', b'{"id":"x",', b'{"x":{"y":', b"}", b"]", b"}]", b"}}", b'"', b'\\"', b",", b'"}', b"}{", b"} {"),
    *(b"[{}", b'{"x":1}}', b'{"x":1}]', b'[{"id":"x"},', b'{"id":"x"},', b"null", b"\xff", b"{\x00", b'{"a":' * 600),
)


def readable(rows: list[RowTuple]) -> list[RowTuple]:
    """Leave out defects and objects without a key."""
    return [row for row in rows if row[0] not in ("!", None)]


def escaped(line: bytes) -> str:
    return line.decode("utf-8", "backslashreplace").replace("\0", "\\x00")


T = TypeVar("T")


def broken_with(others: Sequence[T], turn: int) -> Iterable[tuple[bytes, T]]:
    """Pair each broken line with one of the others, in turn; at night with all of them."""
    if NIGHTLY:
        return product(BROKEN, others)
    return ((line, others[(number + turn) % len(others)]) for number, line in enumerate(BROKEN))


@pytest.mark.parametrize("name", NDJSON_NAMES)
def test_broken_line_of_ndjson_is_one_row(name: str) -> None:
    for broken, place in broken_with([0, 1, 3], NDJSON_NAMES.index(name)):
        text = [b'{"id":"a"}', b'{"id":"b"}', b'{"id":"c"}']
        text.insert(place, broken)
        rows = rows_of(EVENT, object_of(b"\n".join(text), name))
        assert readable(rows) == [A, B, C], broken
        assert [row[2] for row in rows if row[0] == "!"] == [escaped(broken)]
        assert rows[place][0] == "!"


@pytest.mark.parametrize("name", OTHER_NAMES)
@pytest.mark.parametrize("place", [0, 1, 3])
def test_broken_line_of_other_json_costs_no_other_row(name: str, place: int) -> None:
    tails = [b"", b"\n}", b"\n}]", b'\n"}', b"\n]\n}\n"]
    for broken, tail in broken_with(tails, place + 4 * OTHER_NAMES.index(name)):
        text = [b'{"id":"a"}', b'{"id":"b"}', b'{"id":"c"}']
        text.insert(place, broken)
        data = b"\n".join(text) + tail
        rows = readable(rows_of(EVENT, object_of(data, name)))
        if data.startswith(b'[{"id":"x"},'):
            assert rows.pop(0)[0] == "x"  # the first element of an array that breaks off
        assert rows == [A, B, C], data


SPANNING_LINES: dict[str, tuple[bytes, list[RowTuple]]] = {
    "the first of an array": (
        b'[\n  {\n    "id": oops\n  },\n  {\n    "id": "a"\n  }\n]\n',
        [*(("!", "not JSON: this is no object", raw) for raw in ("{", '"id": oops', "},")), A],
    ),
    "an element on its line of an array": (
        b'[{"id":"a"}, {"id":}, {"id":"b"},\n{"id":"c"}]',
        [A, ("!", "not JSON: Expecting value, at character 7", '{"id":}'), B, C],
    ),
    "the first of objects back to back": (
        b'{\n  "id": oops\n}\n{\n  "id": "a"\n}{\n  "id": "b"\n}\n',
        [
            ("!", "not JSON: Expecting property name enclosed in double quotes, at character 2", "{"),
            ("!", "not JSON: something follows the value, at character 7", '  "id": oops'),
            ("!", "not JSON: Expecting value, at character 1", "}"),
            A,
            B,
        ],
    ),
    "what is not UTF-8 or NUL in a text is not a matter of lines": (
        b'{\n  "id": "\xff"\n}\n{\n  "id": "\0"\n}\n{\n  "id":\n    "a"\n}',
        [
            ("!", "invalid UTF-8 at byte 12 of the row", '{\n  "id": "\\xff"\n}'),
            ("!", "contains a NUL byte", '{\n  "id": "\\x00"\n}'),
            A,
        ],
    ),
    "lines before and after": (b'{"id":"a"}\r\n{\r\n"id":"b"\r\n}\r\n{"id":"c"}\r\n', [A, B, C]),
    "side by side and over lines": (b'{"id":"a"} {"id":"b"}{\n"id":"c"} {"id":"a"}\n{"id":"b"}', [A, B, C, A, B]),
}


@pytest.mark.parametrize("case", SPANNING_LINES)
@pytest.mark.usefixtures("way")
def test_objects_of_other_json_may_span_lines(case: str) -> None:
    data, expected = SPANNING_LINES[case]
    assert rows_of(EVENT, object_of(data, "incoming/iot/x.json")) == expected


ADJACENT: dict[str, tuple[bytes, list[RowTuple]]] = {
    "good ones": (b'{"id":"a"}{"id":"b"} \t{"id":"c"}', [A, B, C]),
    "a bad one among them": (
        b'{"id":"a"}{"id":}{"id":"b"}\n{"id":"c"}',
        [A, ("!", "not JSON: Expecting value, at character 7", '{"id":}'), B, C],
    ),
    "one that is not UTF-8 and one with NUL": (
        b'{"id":"a"}{"id":"\xff"}{"id":"b"}{"id":"\0"}{"id":"c"}',
        [
            A,
            ("!", "invalid UTF-8 at byte 8 of the row", '{"id":"\\xff"}'),
            B,
            ("!", "contains a NUL byte", '{"id":"\\x00"}'),
            C,
        ],
    ),
    "one that is too deep": (
        b'{"id":"a"}{"x":' + b"[" * 600 + b"]" * 600 + b'}{"id":"b"}',
        [A, ("!", "nested too deeply", '{"x":' + "[" * 600 + "]" * 600 + "}"), B],
    ),
    "one that breaks off": (
        b'{"id":"a"}{"id":"b"}{"id":\n{"id":"c"}',
        [A, B, ("!", "not JSON: Expecting value, at character 7", '{"id":'), C],
    ),
    "something behind them": (
        b'{"id":"a"}{"id":"b"}x\n{"id":"c"}',
        [A, ("!", "not JSON: something follows the value, at character 11", '{"id":"b"}x'), C],
    ),
}


@pytest.mark.parametrize("name", [LANDED_KEY, "incoming/iot/x.json", f"{FOLDER}/firehose-1"])
@pytest.mark.parametrize("case", ADJACENT)
@pytest.mark.usefixtures("way")
def test_adjacent_objects_are_rows_each(case: str, name: str) -> None:
    data, expected = ADJACENT[case]
    assert rows_of(EVENT, object_of(data, name)) == expected


@pytest.mark.parametrize("name", [LANDED_KEY, "incoming/iot/x.json"])
def test_adjacent_objects_may_exceed_row_limit_together(name: str) -> None:
    event = b'{"id":"' + b"x" * 4000 + b'"}'
    rows = rows_of(EVENT, object_of(event * 10_000 + b'\n{"id":"a"}', name))
    assert rows == [*[("x" * 4000, *NONE)] * 10_000, A]


@pytest.mark.parametrize("name", [LANDED_KEY, "incoming/iot/x.json"])
def test_adjacent_objects_before_truncation_are_kept(name: str) -> None:
    packed = gzip.compress(b"".join(b'{"id":"%d"}' % i for i in range(3000)))
    rows = rows_of(EVENT, object_of(packed[: len(packed) // 2], name))
    assert 500 < len(rows) < 3000
    assert rows[:-1] == [(str(i), *NONE) for i in range(len(rows) - 1)]
    assert rows[-1][:2] == ("!", f"gzip stream ends early after {len(packed) // 2} bytes")


@pytest.mark.parametrize("name", [LANDED_KEY, "incoming/iot/x.json"])
@pytest.mark.parametrize("broken", [b'{"a": \n', b'[{"a":\n', b'{"a":{"b":[\n', b'{\n"a":1\n'])
def test_many_broken_lines_are_read_in_linear_time(name: str, broken: bytes) -> None:
    broken_lines = more_at_night(300, 1000)
    data = (broken + b'{"id":"a"}\n' * 9) * broken_lines
    started = time.process_time()
    rows = rows_of(EVENT, object_of(data, name))
    assert readable(rows) == [A] * 9 * broken_lines
    assert len(rows) >= 10 * broken_lines
    rows_of(EVENT, object_of(broken * 10 * broken_lines, name))
    assert time.process_time() - started < broken_lines / 50


@contextmanager
def recursion_limit(frames: int) -> Iterator[None]:
    before = sys.getrecursionlimit()
    sys.setrecursionlimit(frames)
    try:
        yield
    finally:
        sys.setrecursionlimit(before)


@pytest.mark.parametrize("form", ['{{"id":"a","x":{}1{}}}', '{{"id":"a","x":"[{{\\"[","y":{}1{}}}'])
def test_depth_limit_does_not_depend_on_recursion_limit(form: str) -> None:
    deep = form.format("[" * (MAX_DEPTH - 1), "]" * (MAX_DEPTH - 1))
    deeper = form.format("[" * MAX_DEPTH, "]" * MAX_DEPTH)
    data = f"{deep}\n{deeper}\n{deeper[:-9]}".encode()
    results = []
    for frames in (800, 1000, 5000):
        with recursion_limit(frames):
            results.append(rows_of(EVENT, object_of(data, LANDED_KEY)))
    assert results[0] == results[1] == results[2]
    first, *defects = results[0]
    assert first == (*A, "{" + deep.removeprefix('{"id":"a",'))
    assert defects == [("!", "nested too deeply", deeper), ("!", "nested too deeply", deeper[:-9])]


PIECES = st.sampled_from(
    [b'{"id":"a"}', b"{", b"}", b"[", b"]", b'"x":', b'"', b",", b"1", b" ", b"\n", b"\r\n", b"\0"]
)


@settings(max_examples=more_at_night(30, 1000))
@given(text=st.lists(PIECES, max_size=30).map(b"".join))
@example(text=b'{"id":"a"}\n{\n"x":{"id":"a"}\n}{"id":"a"}\n\n{\n')
@example(text=b'{"x":\n{"id":"a"}\n}\n')
def test_rows_do_not_depend_on_block_ends(text: bytes) -> None:
    # Few examples, because each read takes some 25 ms for its database.
    for name in (LANDED_KEY, "incoming/iot/x.json"):
        with pytest.MonkeyPatch.context() as patch:
            rows = rows_of(EVENT, object_of(text, name))
            for size in (1, 7):
                patch.setattr(json_lines, "BLOCK_BYTES", size)
                patch.setattr(json_lines, "CHUNK_BYTES", size)
                assert rows_of(EVENT, in_steps(text, name, size)) == rows
            patch.setattr(json_lines, "_spans_no_lines", lambda *_: False)
            assert rows_of(EVENT, object_of(text, name)) == rows


def in_steps(data: bytes, name: str, size: int) -> InputObject:
    """Make an object that is read a few bytes at a time."""
    whole = object_of(data, name)

    class Slow:
        def __init__(self) -> None:
            self._opened = whole.open()

        def read(self, _: int, /) -> object:
            return self._opened.read(size)

        def close(self) -> None:
            self._opened.close()

    return InputObject(whole.name, whole.arrived_at, whole.size, Slow)
