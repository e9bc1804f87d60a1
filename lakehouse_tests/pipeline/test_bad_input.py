"""Bad input of every kind goes to quarantine with its reasons. Nothing is lost, and nothing else is blocked."""
# ruff: noqa: E501  (a case is a line)

import gzip
import io
import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lakehouse.pipeline.lake import Lake
from lakehouse_tests.pipeline.own import Own, assert_conserved, copy_stream, noon, open_stream, payment, threshold

DAY = date(2019, 9, 9)
HEADER = "event_id,event_time,account_id,amount,currency,type,status"
WITHOUT_TYPE = HEADER.replace(",type", "")


def _line(day: date, **fields: Any) -> str:
    return json.dumps(payment("bad", noon(day)) | fields)


def _row(day: date, key: object) -> str:
    return f"{key},{day}T12:00:00Z,a,12.50,EUR,payment,settled"


def _csv(*lines: str, header: str = HEADER) -> bytes:
    return "\n".join([header, *lines, ""]).encode()


def _parquet(table: pa.Table) -> bytes:
    buffer = io.BytesIO()
    pq.write_table(table, buffer)
    return buffer.getvalue()


OTHER = _parquet(pa.table({"x": [1, 2], "y": ["a", "b"]}))


def _typed(day: date) -> bytes:
    """Make a Parquet file with an event in the types of its fields, and a column more."""
    event = payment("good", noon(day))
    texts: dict[str, Any] = {name: [value] for name, value in event.items() if name not in ("event_time", "amount")}
    typed: dict[str, Any] = {
        "event_time": pa.array([noon(day).replace(tzinfo=None)], pa.timestamp("us")),
        "amount": pa.array([Decimal("12.50")], pa.decimal128(18, 2)),
    }
    return _parquet(pa.table({**texts, **typed, "colour": ["red"]}))


def _lines(day: date) -> list[tuple[str, str | bytes, str]]:
    """List bad lines of a day: the name of each, the line, and a part of the reason for which it is rejected."""
    return [
        ("malformed", '{"event_id": ', "not JSON"),
        ("a scalar", "42", "expected an object, got a number"),
        ("null", "null", "expected an object, got null"),
        ("text", '"text"', "expected an object, got a text"),
        ("an array", "[]", "expected an object, got an array"),
        ("two empty objects in a line", "{} {}", "event_id is missing"),
        ("an object where text belongs", _line(day, account_id={"a": 1}), "account_id: expected text, got an object"),
        ("an array where text belongs", _line(day, account_id=["a"]), "account_id: expected text, got an array"),
        ("a number where text belongs", _line(day, account_id=1), "account_id: expected text, got a number"),
        ("an object where a number belongs", _line(day, amount={"a": 1}), "amount: expected a single value, got an object"),
        ("text where a number belongs", _line(day, amount="much"), "amount is not a decimal of at most 18 digits, 2 after the point"),
        ("true where a number belongs", _line(day, amount=True), "amount is not a decimal of at most 18 digits, 2 after the point"),
        ("a decimal too long", _line(day, amount="1.005"), "amount is not a decimal of at most 18 digits, 2 after the point"),
        ("a decimal too large", _line(day, amount=10**17), "amount is not a decimal of at most 18 digits, 2 after the point"),
        ("NaN", _line(day).replace('"12.50"', "NaN"), "not JSON"),
        ("NaN as text", _line(day, amount="NaN"), "amount is not a decimal of at most 18 digits, 2 after the point"),
        ("infinity", _line(day, amount="1e999"), "amount is not a decimal of at most 18 digits, 2 after the point"),
        ("an empty key", _line(day, event_id=""), "event_id is missing"),
        ("a null key", _line(day, event_id=None), "event_id is missing"),
        ("the year 0", _line(day, event_time="0000-01-01T00:00:00Z"), "event_time is not a time such as 2025-11-20T14:15:00Z"),
        ("the year 1", _line(day, event_time="0001-01-01T00:00:00Z"), "event_time lies before 2010-01-01"),
        ("the year 9999", _line(day, event_time="9999-12-31T00:00:00Z"), "event_time lies more than a day after arrival"),
        ("a field too long", _line(day, account_id="x" * (10 << 20)), "account_id is longer than 1048576 bytes"),
        ("a NUL", _line(day, account_id="a\0b"), "NUL"),
        ("a raw NUL", _line(day).encode() + b"\0", "NUL"),
        ("invalid UTF-8", _line(day).encode().replace(b"bad", b"\xff\xfe"), "UTF-8"),
        ("half a surrogate pair", _line(day).replace("bad", "\\ud800"), "holds half of a surrogate pair"),
        ("a field twice", _line(day).replace("{", '{"event_id": "x", ', 1), "event_id appears twice"),
        ("nested without end", '{"a":' * 5000, ""),
    ]  # fmt: skip


def _files(day: date) -> list[tuple[str, str, bytes, list[str], int | None]]:
    """List files of a day: the case, the file's name and content, its keys in silver, and the number of rejected rows.

    With None, either the keys are in silver or some row is rejected.
    """
    two, typed = _csv(_row(day, "a"), _row(day, "b")), _typed(day)
    return [
        ("sound", "f.csv", two, ["a", "b"], 0),
        ("CRLF", "f.csv", two.replace(b"\n", b"\r\n"), ["a", "b"], 0),
        ("a BOM", "f.csv", b"\xef\xbb\xbf" + two, ["a", "b"], 0),
        ("UTF-16", "f.csv", two.decode().encode("utf-16"), ["a", "b"], None),
        ("columns in another order", "f.csv", _csv(f"a,EUR,12.50,acc,payment,settled,{day}", header="event_id,currency,amount,account_id,type,status,event_time"), ["a"], 0),
        ("an extra column", "f.csv", _csv(_row(day, "a") + ",red", header=HEADER + ",colour"), ["a"], 0),
        ("a missing column", "f.csv", _csv(f"a,{day},acc,12.50,EUR,settled", header=WITHOUT_TYPE), [], 1),
        ("a renamed column", "f.csv", _csv(_row(day, "a"), header=HEADER.replace("type", "kind")), [], 1),
        ("a column twice", "f.csv", _csv(_row(day, "a") + ",b", header=HEADER + ",event_id"), [], 1),
        ("a short row", "f.csv", _csv(_row(day, "a"), f"b,{day}"), ["a"], 1),
        ("a long row", "f.csv", _csv(_row(day, "a"), _row(day, "b") + ",x,y"), ["a"], 1),
        ("an unclosed quote", "f.csv", _csv(_row(day, "a"), '"b' + _row(day, "")), ["a"], 1),
        ("another delimiter", "f.csv", two.replace(b",", b";"), ["a", "b"], 0),
        ("tabs", "f.tsv", two.replace(b",", b"\t"), ["a", "b"], 0),
        ("an empty file", "f.csv", b"", [], 0),
        ("a header alone", "f.csv", (HEADER + "\n").encode(), [], 0),
        ("a truncated gzip", "f.csv.gz", gzip.compress(_csv(*[_row(day, n) for n in range(9000)]))[:-900], [], None),
        ("no gzip", "f.csv.gz", b"plain text, no gzip", [], 1),
        ("a Parquet file of the same fields, typed", "f.parquet", typed, ["good"], 0),
        ("a Parquet file of another schema", "f.parquet", OTHER, [], 2),
        ("a Parquet file cut short", "f.parquet", typed[: len(typed) // 2], [], 1),
        ("no Parquet", "f.parquet", b"not parquet at all", [], 1),
        ("NDJSON under another name", "f.json", (json.dumps(payment("good", noon(day))) + "\n{\n").encode(), ["good"], 1),
    ]  # fmt: skip


@dataclass(frozen=True)
class Outcome:
    """The result of a landing object: its keys in silver, and the reasons for each of its rows in quarantine."""

    keys: list[str]
    reasons: list[list[str]]


@pytest.fixture(scope="module")
def outcomes(shared_lake: Lake, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Outcome]:
    """Compute all cases in one run, each in an object and on a day of its own. Returns the outcome of each."""
    folder = tmp_path_factory.mktemp("streams")
    copy_stream(folder, "financial_of_bad_input", edit=threshold(0))
    own = open_stream(shared_lake, folder, "financial_of_bad_input")
    objects: dict[str, tuple[str, date]] = {}
    for number, (name, *_) in enumerate(_lines(DAY)):
        day = DAY + timedelta(days=number)
        line = _lines(day)[number][1]
        objects[name] = own.land([payment("good", noon(day)), line, payment("other", noon(day))], noon(day)), day
    for number, (name, file_name, *_) in enumerate(_files(DAY)):
        day = DAY - timedelta(days=1 + number)
        objects[name] = own.drop(_files(day)[number][2], f"{number}-{file_name}"), day
    _compute(own)
    keys = own.ask("select dt, event_id from {silver} order by all")
    reasons = own.ask("select _object, reasons from {quarantine} order by all")
    return {
        name: Outcome([event for dt, event in keys if dt == day], [texts for key, texts in reasons if key == of_object])
        for name, (of_object, day) in objects.items()
    }


def _compute(own: Own) -> None:
    """Run all that landed through silver and assert conservation."""
    own.bronze(*{*own.arrived(), datetime.now(UTC).date()})
    assert_conserved(own, own.clean(*own.counts("bronze")))


@pytest.mark.parametrize(("name", "reason"), [pytest.param(name, reason, id=name) for name, _, reason in _lines(DAY)])
def test_bad_line_is_quarantined_and_its_neighbours_are_kept(
    outcomes: dict[str, Outcome], name: str, reason: str
) -> None:
    outcome = outcomes[name]
    assert outcome.keys == ["good", "other"]
    assert len(outcome.reasons) == 1
    assert any(reason in text for text in outcome.reasons[0]), outcome.reasons


@pytest.mark.parametrize(
    ("name", "keys", "broken"), [pytest.param(name, keys, broken, id=name) for name, _, _, keys, broken in _files(DAY)]
)
def test_file_goes_to_silver_or_quarantine_row_by_row(
    outcomes: dict[str, Outcome], name: str, keys: list[str], broken: int | None
) -> None:
    outcome = outcomes[name]
    if broken is None:
        assert outcome.keys or outcome.reasons, "all of it is gone"
        assert set(keys) <= set(outcome.keys) or outcome.reasons
    else:
        assert (outcome.keys, len(outcome.reasons)) == (keys, broken), outcome.reasons
    assert all(all(row) for row in outcome.reasons)


@pytest.fixture
def own(make_stream: Callable[..., Own]) -> Own:
    return make_stream(edit=threshold(0))


def test_realtime_ingests_the_good_lines_of_a_bad_object(own: Own) -> None:
    good = payment("good", noon(DAY))
    own.land([good, *(line for name, line, _ in _lines(DAY) if name != "a field too long"), "", "  "], noon(DAY))
    own.refresh_realtime(f"{DAY}-12:00")
    assert own.ask("select event_id from {realtime}") == [("good",)]


def test_truncated_file_keeps_its_rows_and_reports_where_it_ends(own: Own) -> None:
    whole = gzip.compress(_csv(*[_row(DAY, f"e{n}") for n in range(20_000)]), 1)
    own.drop(whole[: len(whole) // 2], "f.csv.gz")
    _compute(own)
    assert len(own.quarantined()) >= 1
    assert all(key.startswith("e") for (key,) in own.ask("select event_id from {silver}"))


def test_bad_object_does_not_block_the_others(own: Own) -> None:
    own.drop(OTHER, "other.parquet")
    own.drop(b"\x1f\x8b nonsense", "bad.csv.gz")
    own.drop(_csv(_row(DAY, "a"), _row(DAY, "b")), "good.csv")
    own.land([payment("good", noon(DAY))], noon(DAY))
    _compute(own)
    assert own.ask("select event_id from {silver} order by 1") == [("a",), ("b",), ("good",)]
    assert len(own.quarantined()) == 3
