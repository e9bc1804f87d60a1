"""Verdicts in the response to a client are those that the readers and the contract's SQL reach for the landing object."""

from collections.abc import Mapping
from datetime import UTC, datetime
from functools import cache
from io import BytesIO

import duckdb
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from lakehouse.contracts.sql import day_sql, quarantine_sql
from lakehouse.contracts.validator import Validator
from lakehouse.landing.keys import realtime_key
from lakehouse.landing.readers import InputObject, bronze_batches
from lakehouse.sources.http.batch import build_batch
from lakehouse.sources.http.framing import as_lines, landing_order, split_rows
from lakehouse.sources.http.validation import SqlValidator
from lakehouse_tests.contracts.lines import STREAMS, lines
from lakehouse_tests.nightly import more_at_night

EXAMPLES = more_at_night(30, 2000)
ARRIVED = datetime(2025, 11, 20, 14, 15, 16, 123456, UTC)
GOOD = (
    b'{"event_id":"a","event_time":"2025-11-20T12:00:00Z","account_id":"b","amount":1.50,"currency":"EUR",'
    b'"type":"payment","status":"settled"}'
)
LINES = st.sampled_from(
    [
        *[GOOD] * 8,
        GOOD.replace(b"1.50", b'"1.50"'),
        GOOD.replace(b"1.50", b"1.505"),
        GOOD.replace(b"EUR", b"Euro"),
        GOOD[:-1] + b',"extra":[1,{"a":null}]}',
        GOOD[:-1] + b',"status":"settled"}',
        GOOD[:-1] + b',"Status":"settled"}',
        GOOD[:-1] + b',"merchant":null,"MERCHANT":null,"x":1}',
        GOOD[:-1] + b',"Merchant":"m"}',
        GOOD[:-1] + b',"x":{"a":1,"a":2},"X":3}',
        GOOD[:60],
        GOOD + b" " + GOOD,
        GOOD + GOOD + b"x",
        GOOD + GOOD[:60] + b"\xff" + GOOD,
        GOOD + b'{"a":"\x00"}' + GOOD,
        GOOD + b'{"a":}' + GOOD,
        b'[{"a":',
        b'{"a": ',
        GOOD + b"x",
        b"[" + GOOD + b"]",
        b"[",
        b"{",
        b"}",
        b"}{",
        b'{"a":{',
        b'{"a":"',
        b"[]",
        b"null",
        b",",
        b"\xff",
        b"\x00",
        b"",
        b" \t",
        b"\xef\xbb\xbf" + GOOD,
        b"[" * 50_000,
        b'{"a":' + b"[" * 499 + b"]" * 499 + b"}",
        b'{"a":' + b"[" * 500 + b"]" * 500 + b"}",
    ]
)


@cache
def validators(stream: str) -> tuple[Validator, SqlValidator]:
    """Return the fast and the slow validator of a stream."""
    contract = STREAMS[stream].contract
    return Validator(contract), SqlValidator(contract)


def ingest(stream: str, lines: bytes) -> tuple[bytes, list[list[str]]]:
    """Return the landing object that ingest makes of lines, and the reasons for each of its rows, in order."""
    validator, sql_validator = validators(stream)
    batch = build_batch(validator, lines, ARRIVED)
    reasons_by_index = sql_validator.reasons([line.line for line in batch.unproven], ARRIVED)
    broken = {batch.unproven[index].row: reasons for index, reasons in reasons_by_index.items()}
    order = landing_order(split_rows(lines)) if batch.unproven else range(batch.count)
    return batch.lines, [broken.get(index + 1, []) for index in order]


def silver(stream: str, landing: bytes) -> list[list[str]]:
    """Return the reasons that the readers and the SQL find for each row of a landing object."""
    contract = STREAMS[stream].contract
    source = InputObject(realtime_key(stream, ARRIVED, "edge", 1), ARRIVED, len(landing), lambda: BytesIO(landing))
    batches = list(bronze_batches(contract, [source]))
    count = sum(batch.num_rows for batch in batches)
    broken: Mapping[int, list[str]] = {}
    if count:
        with duckdb.connect() as database:
            database.execute("set timezone = 'UTC'")
            database.register("landed", pa.Table.from_batches(batches))
            bronze = f"(select *, {day_sql(contract, 'landed')} as dt from landed)"
            sql = f"with bronze as {bronze} select _row, reasons from ({quarantine_sql(contract)})"
            broken = dict(database.execute(sql).fetchall())
    return [broken.get(row, []) for row in range(1, count + 1)]


@settings(max_examples=EXAMPLES, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(LINES | st.binary(max_size=12).map(lambda line: line.replace(b"\n", b"")), min_size=1, max_size=8))
@example([b'{"a":{', GOOD, b"}}"])
@example([b"[", GOOD])
@example([b'{"a":"', GOOD])
@example([b'{"a": ', GOOD, GOOD, b"}"])
@example([b'[{"a":', GOOD, b"}]"])
@example([b"\xef\xbb\xbf" + GOOD, GOOD])
@example([b"\x1f\x8b", b"\xef\xbb\xbf"])
def test_ingest_and_silver_agree_on_every_broken_row(rows: list[bytes]) -> None:
    landing, verdicts = ingest("financial", as_lines(b"\n".join(rows), lines_only=True))
    assert silver("financial", landing) == verdicts


@settings(max_examples=EXAMPLES, suppress_health_check=[HealthCheck.too_slow])
@given(lines())
def test_ingest_and_silver_agree_on_every_value(drawn: tuple[str, list[bytes]]) -> None:
    stream, rows = drawn
    landing, verdicts = ingest(stream, as_lines(b"\n".join(rows), lines_only=True))
    assert silver(stream, landing) == verdicts


def test_multiline_json_lands_as_one_event_per_line() -> None:
    spread = GOOD.replace(b",", b",\r\n  ")
    for body, count in (
        (spread, 1),
        (spread + b"\n\n" + spread + b"\n", 2),
        (b"[" + spread + b",\n" + GOOD + b"]", 2),
        (b" [ ] ", 0),
        (b"[1]", 1),
    ):
        batch = build_batch(validators("financial")[0], as_lines(body, lines_only=False), ARRIVED)
        assert (batch.count, batch.lines.count(b"\n")) == (count, count)


@pytest.mark.parametrize("body", [b'{"a":[{}\n{}]}\n', b'{"a":1,\n"b":2}\n{"a":\n', b'{"a":\n1}\n2\n', GOOD + b"\n{\n"])
def test_lines_that_are_no_objects_together_are_left_as_they_are(body: bytes) -> None:
    assert as_lines(body, lines_only=False) == body
