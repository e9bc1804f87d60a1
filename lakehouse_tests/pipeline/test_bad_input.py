"""Bad input of every kind goes to quarantine with its reasons. Nothing is lost, and nothing else is blocked."""
# ruff: noqa: E501  (a case is a line)

import gzip
import io
import json
from collections.abc import Callable
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lakehouse_tests.pipeline.own import Own, assert_conserved, noon, payment, threshold

DAY = date(2019, 9, 9)
GOOD = payment("good", noon(DAY))
HEADER = "event_id,event_time,account_id,amount,currency,type,status"
ROW = f"{{}},{DAY}T12:00:00Z,a,12.50,EUR,payment,settled"


@pytest.fixture
def own(make_stream: Callable[..., Own]) -> Own:
    return make_stream(edit=threshold(0))


def _outcome(own: Own) -> tuple[list[str], list[list[str]]]:
    """Run all that landed through silver, assert conservation, and return silver's keys and quarantine's reasons."""
    own.bronze(*{*own.arrived(), datetime.now(UTC).date()})
    days = list(own.counts("bronze"))
    assert_conserved(own, own.clean(*days))
    keys = sorted(key for (key,) in own.ask("select event_id from {silver}"))
    return keys, sorted(reasons for _, reasons in own.quarantined())


def _line(**fields: Any) -> str:
    return json.dumps(payment("bad", noon(DAY)) | fields)


LINES: list[tuple[str, str | bytes, str]] = [
    ("malformed", '{"event_id": ', "not JSON"),
    ("a scalar", "42", "expected an object, got a number"),
    ("null", "null", "expected an object, got null"),
    ("text", '"text"', "expected an object, got a text"),
    ("an array", "[]", "expected an object, got an array"),
    ("two empty objects in a line", "{} {}", "event_id is missing"),
    ("an object where text belongs", _line(account_id={"a": 1}), "account_id: expected text, got an object"),
    ("an array where text belongs", _line(account_id=["a"]), "account_id: expected text, got an array"),
    ("a number where text belongs", _line(account_id=1), "account_id: expected text, got a number"),
    ("an object where a number belongs", _line(amount={"a": 1}), "amount: expected a single value, got an object"),
    ("text where a number belongs", _line(amount="much"), "amount is not a decimal of at most 18 digits, 2 after the point"),
    ("true where a number belongs", _line(amount=True), "amount is not a decimal of at most 18 digits, 2 after the point"),
    ("a decimal too long", _line(amount="1.005"), "amount is not a decimal of at most 18 digits, 2 after the point"),
    ("a decimal too large", _line(amount=10**17), "amount is not a decimal of at most 18 digits, 2 after the point"),
    ("NaN", _line().replace('"12.50"', "NaN"), "not JSON"),
    ("NaN as text", _line(amount="NaN"), "amount is not a decimal of at most 18 digits, 2 after the point"),
    ("infinity", _line(amount="1e999"), "amount is not a decimal of at most 18 digits, 2 after the point"),
    ("an empty key", _line(event_id=""), "event_id is missing"),
    ("a null key", _line(event_id=None), "event_id is missing"),
    ("the year 0", _line(event_time="0000-01-01T00:00:00Z"), "event_time is not a time such as 2025-11-20T14:15:00Z"),
    ("the year 1", _line(event_time="0001-01-01T00:00:00Z"), "event_time lies before 2010-01-01"),
    ("the year 9999", _line(event_time="9999-12-31T00:00:00Z"), "event_time lies more than a day after arrival"),
    ("a field too long", _line(account_id="x" * (10 << 20)), "account_id is longer than 1048576 bytes"),
    ("a NUL", _line(account_id="a\0b"), "NUL"),
    ("a raw NUL", _line().encode() + b"\0", "NUL"),
    ("invalid UTF-8", _line().encode().replace(b"bad", b"\xff\xfe"), "UTF-8"),
    ("half a surrogate pair", _line().replace("bad", "\\ud800"), "holds half of a surrogate pair"),
    ("a field twice", _line().replace("{", '{"event_id": "x", ', 1), "event_id appears twice"),
    ("nested without end", '{"a":' * 5000, ""),
]  # fmt: skip


@pytest.mark.parametrize(("line", "reason"), [pytest.param(line, reason, id=name) for name, line, reason in LINES])
def test_bad_line_is_quarantined_and_its_neighbours_are_kept(own: Own, line: str | bytes, reason: str) -> None:
    own.land([GOOD, line, payment("other", noon(DAY))], noon(DAY))
    keys, reasons = _outcome(own)
    assert keys == ["good", "other"]
    assert len(reasons) == 1
    assert any(reason in text for text in reasons[0]), reasons


def test_realtime_ingests_the_good_lines_of_a_bad_object(own: Own) -> None:
    own.land([GOOD, *(line for name, line, _ in LINES if name != "a field too long"), "", "  "], noon(DAY))
    own.refresh_realtime(f"{DAY}-12:00")
    assert own.ask("select event_id from {realtime}") == [("good",)]


def _csv(*lines: str, header: str = HEADER) -> bytes:
    return "\n".join([header, *lines, ""]).encode()


def _parquet(table: pa.Table) -> bytes:
    buffer = io.BytesIO()
    pq.write_table(table, buffer)
    return buffer.getvalue()


TWO = _csv(ROW.format("a"), ROW.format("b"))
OTHER = _parquet(pa.table({"x": [1, 2], "y": ["a", "b"]}))
TYPED = _parquet(
    pa.table(
        {
            **{name: [value] for name, value in GOOD.items() if name not in ("event_time", "amount")},
            "event_time": pa.array([noon(DAY).replace(tzinfo=None)], pa.timestamp("us")),
            "amount": pa.array([Decimal("12.50")], pa.decimal128(18, 2)),
            "colour": ["red"],
        }
    )
)
WITHOUT_TYPE = HEADER.replace(",type", "")

FILES: list[tuple[str, str, bytes, list[str], int | None]] = [
    ("sound", "f.csv", TWO, ["a", "b"], 0),
    ("CRLF", "f.csv", TWO.replace(b"\n", b"\r\n"), ["a", "b"], 0),
    ("a BOM", "f.csv", b"\xef\xbb\xbf" + TWO, ["a", "b"], 0),
    ("UTF-16", "f.csv", TWO.decode().encode("utf-16"), ["a", "b"], None),
    ("columns in another order", "f.csv", _csv("a,EUR,12.50,acc,payment,settled,2019-09-09", header="event_id,currency,amount,account_id,type,status,event_time"), ["a"], 0),
    ("an extra column", "f.csv", _csv(ROW.format("a") + ",red", header=HEADER + ",colour"), ["a"], 0),
    ("a missing column", "f.csv", _csv(f"a,{DAY},acc,12.50,EUR,settled", header=WITHOUT_TYPE), [], 1),
    ("a renamed column", "f.csv", _csv(ROW.format("a"), header=HEADER.replace("type", "kind")), [], 1),
    ("a column twice", "f.csv", _csv(ROW.format("a") + ",b", header=HEADER + ",event_id"), [], 1),
    ("a short row", "f.csv", _csv(ROW.format("a"), "b,2019-09-09"), ["a"], 1),
    ("a long row", "f.csv", _csv(ROW.format("a"), ROW.format("b") + ",x,y"), ["a"], 1),
    ("an unclosed quote", "f.csv", _csv(ROW.format("a"), '"b' + ROW.format("")), ["a"], 1),
    ("another delimiter", "f.csv", TWO.replace(b",", b";"), ["a", "b"], 0),
    ("tabs", "f.tsv", TWO.replace(b",", b"\t"), ["a", "b"], 0),
    ("an empty file", "f.csv", b"", [], 0),
    ("a header alone", "f.csv", (HEADER + "\n").encode(), [], 0),
    ("a truncated gzip", "f.csv.gz", gzip.compress(_csv(*[ROW.format(n) for n in range(9000)]))[:-900], [], None),
    ("no gzip", "f.csv.gz", b"plain text, no gzip", [], 1),
    ("a Parquet file of the same fields, typed", "f.parquet", TYPED, ["good"], 0),
    ("a Parquet file of another schema", "f.parquet", OTHER, [], 2),
    ("a Parquet file cut short", "f.parquet", TYPED[: len(TYPED) // 2], [], 1),
    ("no Parquet", "f.parquet", b"not parquet at all", [], 1),
    ("NDJSON under another name", "f.json", (json.dumps(GOOD) + "\n{\n").encode(), ["good"], 1),
]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "content", "keys", "broken"),
    [pytest.param(name, content, keys, broken, id=what) for what, name, content, keys, broken in FILES],
)
def test_file_goes_to_silver_or_quarantine_row_by_row(
    own: Own, name: str, content: bytes, keys: list[str], broken: int | None
) -> None:
    own.drop(content, name)
    kept, reasons = _outcome(own)
    if broken is None:
        assert kept or reasons, "all of it is gone"
        assert set(keys) <= set(kept) or reasons
    else:
        assert (kept, len(reasons)) == (keys, broken), reasons
    assert all(all(row) for row in reasons)


def test_truncated_file_keeps_its_rows_and_reports_where_it_ends(own: Own) -> None:
    whole = gzip.compress(_csv(*[ROW.format(f"e{n}") for n in range(20_000)]), 1)
    own.drop(whole[: len(whole) // 2], "f.csv.gz")
    keys, reasons = _outcome(own)
    assert len(reasons) >= 1
    assert all(key.startswith("e") for key in keys)


def test_bad_object_does_not_block_the_others(own: Own) -> None:
    own.drop(OTHER, "other.parquet")
    own.drop(b"\x1f\x8b nonsense", "bad.csv.gz")
    own.drop(TWO, "good.csv")
    own.land([GOOD], noon(DAY))
    keys, reasons = _outcome(own)
    assert (keys, len(reasons)) == (["a", "b", "good"], 3)
