"""Properties of the readers that hold for any rows and any bytes."""

import csv
import io
import json
import re
import unicodedata
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from lakehouse.contracts.model import Contract
from lakehouse.landing.readers import csv_blocks, json_lines
from lakehouse.landing.readers.parquet_values import as_text
from lakehouse_tests.landing.readers.samples import EVENT, THREE, RowTuple, never_sound, object_of, rows_of, table_of
from lakehouse_tests.nightly import more_at_night

TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\0\r"), max_size=12) | st.sampled_from(
    ["", '"', '""', ",", "\n", "\r\n", 'a"b', ' "x" ', "NULL", "{}", "} {", ",]", "\ufeff", "\u2028", "é😀"]
)
FIELD = TEXT.filter(bool) | st.none()
MANY = settings(max_examples=more_at_night(50, 1000))


@contextmanager
def row_by_row() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        never_sound(patch)
        yield


@contextmanager
def small_blocks() -> Iterator[None]:
    """Make blocks of a few bytes, so that small examples have many block ends."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(csv_blocks, "CHUNK_BYTES", 64)
        patch.setattr(csv_blocks, "SMALL_BLOCK_BYTES", 16)
        patch.setattr(json_lines, "BLOCK_BYTES", 16)
        yield


def read_each_way(contract: Contract, data: bytes, name: str) -> list[RowTuple]:
    """Read the rows each way and check that they are the same."""
    rows = rows_of(contract, object_of(data, name))
    with row_by_row():
        assert rows_of(contract, object_of(data, name)) == rows
    with small_blocks():
        assert rows_of(contract, object_of(data, name)) == rows
    return rows


@MANY
@given(
    rows=st.lists(st.tuples(FIELD, FIELD, FIELD, FIELD), max_size=20),
    dialect=st.sampled_from([",", ";", "\t", "|"]),
    end=st.sampled_from(["\n", "\r\n"]),
    quoting=st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]),
)
def test_csv_round_trips(rows: list[RowTuple], dialect: str, end: str, quoting: int) -> None:
    sink = io.StringIO(newline="")
    writer = csv.writer(sink, delimiter=dialect, lineterminator=end, quoting=quoting)  # type: ignore[arg-type]
    writer.writerow(["name", "ID", "price", "more"])
    # A row that begins with a byte order mark is a defect, because it may be the start of another file.
    rows = [((a or "").lstrip("\ufeff") or None, *rest) for a, *rest in rows]
    writer.writerows(rows)
    read = read_each_way(THREE, sink.getvalue().encode(), "x.csv")
    assert [row[:3] for row in read] == [(b, a, c) for a, b, c, _ in rows]
    assert [json.loads(row[3]) if row[3:] else {} for row in read] == [{"more": d} if d else {} for *_, d in rows]


NUMBER = (
    st.integers().map(str)
    | st.decimals(allow_nan=False, allow_infinity=False).map(str)
    | st.floats(allow_nan=False, allow_infinity=False).map(repr)
)
EVENTS = st.fixed_dictionaries(
    {},
    optional={
        "id": TEXT | st.none(),
        "time": TEXT | st.none(),
        "count": NUMBER,
        "price": NUMBER,
        "ok": st.booleans(),
        "tags": st.lists(TEXT, max_size=3),
        "other": TEXT,
        "price ": NUMBER,
    },
)


def written(event: dict[str, object], ascii_only: bool, blanks: bool) -> str:
    comma, colon = (", ", ": ") if blanks else (",", ":")
    number = ("count", "price", "price ")
    members = (
        json.dumps(name) + colon + (str(value) if name in number else json.dumps(value, ensure_ascii=ascii_only))
        for name, value in event.items()
    )
    return "{" + comma.join(members) + "}"


def as_row(event: dict[str, object]) -> RowTuple:
    def text(name: str) -> object:
        value = event.get(name)
        if isinstance(value, list):
            return value
        return str(value).lower() if isinstance(value, bool) else value

    row = [text(name) for name in ("id", "time", "count", "price", "ok", "tags")]
    row[2] = re.sub(r"^([+-]?[1-9][0-9]{0,2})\.000$", r"\1", row[2]) if isinstance(row[2], str) else row[2]
    return tuple(row)


@MANY
@example(events=[{"count": "1.000"}, {"price": "1.000"}], ascii_only=True, blanks=False, array=False)
@given(events=st.lists(EVENTS, max_size=12), ascii_only=st.booleans(), blanks=st.booleans(), array=st.booleans())
def test_json_round_trips(events: list[dict[str, object]], ascii_only: bool, blanks: bool, array: bool) -> None:
    texts = [written(event, ascii_only, blanks) for event in events]
    text = "[" + ",\n".join(texts) + "]" if array else "\n".join(texts)
    read = read_each_way(EVENT, text.encode(), "x.json")
    for row, event in zip(read, events, strict=True):
        tags = None if row[5] is None else json.loads(row[5])
        assert (*row[:5], tags) == as_row(event)
        extra = [name for name in ("other", "price ") if name in event]
        assert len(row) == (7 if extra else 6)
        if extra:
            held = json.loads(row[6], parse_float=str, parse_int=str)
            assert held == {name: event[name] for name in extra}


@MANY
@given(rows=st.lists(st.tuples(TEXT | st.none(), st.floats(allow_nan=False) | st.none()), max_size=20))
def test_parquet_round_trips(rows: list[tuple[str | None, float | None]]) -> None:
    sink = io.BytesIO()
    ids, prices = pa.array([a for a, _ in rows], pa.string()), pa.array([b for _, b in rows], pa.float64())
    pq.write_table(pa.table({"ID": ids, "price": prices}), sink)
    read = rows_of(THREE, object_of(sink.getvalue(), "x.parquet"))
    assert [(row[0], None if row[2] is None else float(row[2])) for row in read] == rows


@st.composite
def changed_csv(draw: st.DrawFn) -> tuple[list[bytes], int, bytes]:
    """The records of a CSV file with a header, the index of the one that is changed, and what becomes of it."""
    texts = st.lists(st.sampled_from('ab",; ') | st.just("1"), max_size=5).map("".join)
    count, sink = draw(st.integers(1, 6)), io.StringIO(newline="")
    writer = csv.writer(sink, lineterminator=draw(st.sampled_from(["\n", "\r\n", "\r"])))
    records = []
    for i in range(count):
        writer.writerow([f"row {i}", draw(texts), draw(texts)])
        records.append(sink.getvalue().encode())
        sink.seek(0)
        sink.truncate()
    index = draw(st.integers(0, count - 1))
    record = records[index]
    at = draw(st.integers(0, len(record) - 1))
    changes = [record[:at] + record[at + 1 :], record[: at + 1] + record[at:]]
    changes += [record[:at] + character + record[at:] for character in (b'"', b",", b"\n", b"\r", b"\0", b"\xff", b"x")]
    return records, index, draw(st.sampled_from(changes))


@settings(MANY, max_examples=more_at_night(150, 5000))
@given(changed_csv())
@example(([b'row 0,"a, b",c\n', b"row 1,a,b\n"], 0, b'row 0"a, b",c\n'))
def test_changed_character_changes_no_other_valid_row(drawn: tuple[list[bytes], int, bytes]) -> None:
    records, index, changed = drawn
    header = b"ID,name,price\n"
    original = dict(
        zip(range(len(records)), rows_of(THREE, object_of(header + b"".join(records), "x.csv")), strict=True)
    )
    touched = {index, index + 1}  # where a line end is lost, the record after it is part of this one
    data = header + b"".join([*records[:index], changed, *records[index + 1 :]])
    valid = [row for row in read_each_way(THREE, data, "x.csv") if row[0] != "!"]
    others = [row for i, row in original.items() if i not in touched]
    names = {row[0] for row in others}
    assert [row for row in valid if row[0] in names] == others
    if data.count(b"row") == len(records) and changed.endswith((b"\n", b"\r")):
        assert len(valid) <= len(records) + 1


CSV_PIECES = (b'"', b'""', b",", b"\n", b"\r\n", b"\r", b"a", b" ", b"1,b,2\n", b'"x",', b"\xff", b"\0", b"\xc3\xa9")
CSV_BYTES = st.lists(st.sampled_from(CSV_PIECES) | st.binary(max_size=4), max_size=40).map(b"".join)
JSON_PIECES = (
    *(b'"', b"{", b"}", b"[", b"]", b",", b":", b"\n", b"\r", b" ", b"\\", b"\xff", b"\0", b"1", b"NaN", b"null"),
    *(b'{"id":"a"}', b'{"id":"a"}\n', b'{"tags":["x"]}', b'{"price":1.5,"id":"b"}', b'"id":', b'"price":1.10'),
    *(b'"x"', b"\\u0000", b"\\ud800"),
)
JSON_BYTES = st.lists(st.sampled_from(JSON_PIECES) | st.binary(max_size=3), max_size=30).map(b"".join)


def assert_nothing_lost(data: bytes, rows: list[RowTuple], kept: Callable[[str], bool]) -> None:
    """Check that the rows hold every letter and digit of the object, as often as it does."""
    shown = "".join(str(value) for row in rows for value in (row[2:] if row[0] == "!" else row) if value is not None)
    text = data.decode("utf-8", "backslashreplace").replace("\0", "\\x00")
    for letter in set(filter(kept, text)):
        assert shown.count(letter) == text.count(letter), letter


@MANY
@given(data=CSV_BYTES)
@example(data=b'"')
@example(data=b'1,"a\n2,b,3\n4,c",5,6\n')
def test_any_bytes_read_as_csv_lose_nothing(data: bytes) -> None:
    read = read_each_way(THREE, b"ID,name,price\n" + data, "x.csv")
    assert_nothing_lost(data, read, lambda letter: letter.isalnum())


@MANY
@given(data=JSON_BYTES)
@example(data=b'[{"id":"a"}]]}{')
@example(data=b'{"id":"a"')
@example(data=b'{"id":"a"}\n[{"id":"b"}]')
def test_any_bytes_read_as_json_lose_nothing(data: bytes) -> None:
    with row_by_row():
        expected = rows_of(EVENT, object_of(data, "x.json"))
    assert rows_of(EVENT, object_of(data, "x.json")) == expected
    content = b"".join(data.split())
    if content and not set(content) <= set(b"[],"):
        assert expected


@MANY
@given(data=CSV_BYTES, start=st.sampled_from([b"", b"ID,name,price\n", b"ID,name,price\r"]))
@example(data=b'ID,name,price,"\n1,b,2', start=b"")
def test_csv_without_rows_has_one_line_at_most(data: bytes, start: bytes) -> None:
    lines = [line for line in re.split(rb"[\r\n]", start + data) if line.strip()]
    assert rows_of(THREE, object_of(start + data, "x.csv")) or len(lines) <= 1


def test_lines_of_any_end_are_rows_or_a_defect() -> None:
    ends = [chr(code) for code in range(0x2100) if unicodedata.category(chr(code)) in ("Cc", "Zl", "Zp")]
    for end in [b"\x85", *(end.encode() for end in ends if end != "\t")]:  # a tab separates columns
        rows = rows_of(THREE, object_of(end.join([b"ID,name,price", b"1,a,2", b"2,b,3", b""]), "x.csv"))
        if end in b"\r\n":
            assert [row[:2] for row in rows] == [("1", "a"), ("2", "b")]
        else:
            assert {row[0] for row in rows} == {"!"}, end


@pytest.mark.parametrize("end", [" ", "\\n", "\\r\\n", "<br>", " / ", "$"])
def test_lines_that_a_text_ends_are_a_defect(end: str) -> None:
    for lines in (["ID,name,price", "1,a,2"], ["x;name;id", f"1;a{end}b;2", "2;b;3", ""]):
        assert [row[0] for row in rows_of(THREE, object_of(end.join(lines).encode(), "x.csv"))] == ["!"]
    header = f"name{end}x,ID,first{end}name,price{end}\n".encode()
    assert rows_of(THREE, object_of(header, "x.csv")) == []


@MANY
@given(pieces=st.lists(st.sampled_from(JSON_PIECES), max_size=12), name=st.sampled_from(["x.json", "x.ndjson"]))
@example(pieces=[b" ", b"[", b"\n", b"]"], name="x.ndjson")
def test_json_without_rows_is_blank_or_empty_arrays(pieces: list[bytes], name: str) -> None:
    data = b"".join(pieces)
    assert rows_of(EVENT, object_of(data, name)) or not re.sub(rb"\A(\[\])*", b"", b"".join(data.split()))


@MANY
@given(
    lines=st.lists(st.sampled_from([b"1,a,2", b"1,a", b",,", b"", b" ", b"\t", b"\xff,b,3", b"1\0,,"]), max_size=12),
    ends=st.lists(st.sampled_from([b"\n", b"\r\n", b"\r"]), min_size=13, max_size=13),
)
def test_each_csv_line_is_header_blank_or_row(lines: list[bytes], ends: list[bytes]) -> None:
    data = b"".join(line + end for line, end in zip([b"ID,name,price", *lines], ends, strict=False))
    assert len(read_each_way(THREE, data, "x.csv")) == sum(bool(line.strip()) for line in lines)


TIMES = st.integers(-(2**63) + 1, 2**63 - 1) | st.integers(0, 10**18).map(lambda n: n // 1000 * 1000)


@MANY
@given(values=st.lists(TIMES | st.none(), min_size=1, max_size=6), unit=st.sampled_from(["s", "ms", "us", "ns"]))
@example(values=[10**18, 10**18 + 1], unit="ns")
def test_parquet_time_is_read_alone_as_among_others(values: list[int | None], unit: str) -> None:
    times = pa.array(values, pa.int64()).cast(pa.timestamp(unit))
    together = as_text(times).to_pylist()
    assert [as_text(times.slice(i, 1)).to_pylist() for i in range(len(times))] == [[text] for text in together]


@MANY
@given(events=st.lists(EVENTS, min_size=1, max_size=6))
def test_json_event_is_read_alone_as_among_others(events: list[dict[str, object]]) -> None:
    lines = [written(event, ascii_only=False, blanks=False).encode() for event in events]
    together = rows_of(EVENT, object_of(b"\n".join(lines), "x.json"))
    assert [row for line in lines for row in rows_of(EVENT, object_of(line, "x.json"))] == together


FLAT: st.SearchStrategy[object] = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
)
FLAT = FLAT | TEXT | st.just([])
ELEMENTS = FLAT | EVENTS | st.lists(FLAT, max_size=2) | st.builds(lambda event: [event], EVENTS)


@settings(max_examples=more_at_night(25, 1000))
@given(first=st.lists(FLAT, max_size=3), event=EVENTS, rest=st.lists(ELEMENTS, max_size=4), split=st.booleans())
@example(first=[None], event={"id": "a"}, rest=[[{"id": "b"}], 5, "x]"], split=False)
def test_element_of_an_array_is_the_row_that_its_line_is(
    first: list[object], event: dict[str, object], rest: list[object], split: bool
) -> None:
    texts = [json.dumps(element, ensure_ascii=False).encode() for element in (*first, event, *rest)]
    lines = b"\n".join(texts)
    end = len(first) + 1
    arrays = [texts[:end], [], texts[end:]] if split else [texts]
    array = b"[]\n" + b"\n".join(b"[" + b", ".join(elements) + b"]" for elements in arrays)
    assert read_each_way(EVENT, array, "x.json") == rows_of(EVENT, object_of(lines, "x.ndjson"))


SMALL_JSON = st.lists(st.sampled_from(JSON_PIECES), max_size=4).map(b"".join) | EVENTS.map(
    lambda event: json.dumps(event).encode()
)


@settings(max_examples=10)
@given(
    contents=st.lists(SMALL_JSON, max_size=6),
    odd=st.sampled_from([b"", b" \n", b"{}{}", b"\0", b"\xff", b"\xef\xbb\xbf{}"]),
)
def test_object_is_read_alone_as_among_small_others(contents: list[bytes], odd: bytes) -> None:
    contents = [b'{"id":"a"}', *contents, odd, b'{"id":"b"}\n\n{"id":"c"}']
    objects = [object_of(content, f"x{number}.ndjson") for number, content in enumerate(contents)]
    together = table_of(EVENT, *objects).to_pylist()
    assert together == [row for obj in objects for row in table_of(EVENT, obj).to_pylist()]
    assert table_of(EVENT, *objects[:1] * 3).to_pylist() == table_of(EVENT, objects[0]).to_pylist() * 3


@MANY
@given(data=st.binary(max_size=200), name=st.sampled_from(["x", "x.csv", "x.json", "x.parquet", "x.csv.gz", "x.zst"]))
def test_any_bytes_under_any_name_raise_nothing(data: bytes, name: str) -> None:
    for start in (b"", b"\x1f\x8b", b"\x28\xb5\x2f\xfd", b"\xff\xfe", b"PAR1"):
        rows_of(THREE, object_of(start + data, name))
