"""The edge's validator: whatever it calls surely valid, the contract's SQL calls valid; and ordinary events it proves."""

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lakehouse.contracts.model import Contract, Field
from lakehouse.contracts.streams import discover
from lakehouse.contracts.validator import Validator
from lakehouse.ingest.http.judge import Judge
from lakehouse.ingest.simulation import Faults, Simulator

STREAMS = discover()
ARRIVED = datetime(2025, 11, 20, 14, 15, 16, 123456, UTC)


@cache
def validator(stream: str) -> Validator:
    return Validator(STREAMS[stream].contract)


@cache
def judge(stream: str) -> Judge:
    return Judge(STREAMS[stream].contract)


def sound(field: Field, contract: Contract) -> str:
    """The JSON of a value that the field may have."""
    match field.type.kind:
        case "timestamp":
            return '"2025-11-20T12:00:00.5Z"'
        case "string" if field.enum:
            return json.dumps(field.enum[0])
        case "string":
            return '"EUR"'
        case "list":
            return '["a"]'
        case "boolean":
            return "true"
        case _:
            return "12"


def event(contract: Contract, **others: str | None) -> bytes:
    """A line whose fields are sound but for these, given as JSON by their source; None leaves one out."""
    tokens: dict[str, str | None] = {field.source: sound(field, contract) for field in contract.fields}
    tokens |= others
    return ("{" + ",".join(f'"{name}":{token}' for name, token in tokens.items() if token is not None) + "}").encode()


TIMES = [
    '"2025-11-20T12:00:00Z"',
    '"2025-11-20 12:00:00"',
    '"2025-11-20T12:00:00.123456Z"',
    '"2025-11-20T12:00:00.1234567Z"',
    '"2025-11-20T12:00:00z"',
    '"2025-11-20T12:00:60Z"',
    '"2025-11-20T24:00:00Z"',
    '"2025-02-29T12:00:00Z"',
    '"2024-02-29T12:00:00Z"',
    '"2025-13-01T12:00:00Z"',
    '"2025-11-31T12:00:00Z"',
    '"0000-01-01T00:00:00Z"',
    '"9999-12-31T23:59:59Z"',
    '"2009-12-31T23:59:59Z"',
    '"2010-01-01T00:00:00Z"',
    '"2025-11-21T14:15:16.123456Z"',
    '"2025-11-21T14:15:16.123457Z"',
    '"2025-11-21 14:15:17"',
    '"2025-11-20"',
    '"2025-11-20T12:00"',
    '"2025-11-20T12:00:00+01:00"',
    '"٢025-11-20T12:00:00Z"',
    '"2025-11-20T12:00:00Z\\n"',
]
NUMBERS = [
    *("0", "-0", "0.0", "-1", "1", "1.5", "0.01", "0.001", "0.010", "12345678901234567", "123456789012345678901"),
    *("9223372036854775807", "9223372036854775808", "-9223372036854775808", "-9223372036854775809", "1e2", "100e-2"),
    *("1E400", "1e-400", "1e00001", "1e-99999", "17850.0", "17850.5", "1.00000000000000000001", "9" * 400, "0.000"),
    *('"12.50"', '"0012.50"', '"+5"', '" 5"', '"5."', '".5"', '"1_000"', '"NaN"', '"Infinity"', '"٣"', '"0x10"', '""'),
]
TEXTS = [
    '""',
    '"x"',
    '"EURO"',
    '"eur"',
    '"EUR\\n"',
    '"a\\u0000b"',
    '"\\u0022"',
    '"\\""',
    '"\\ud800"',
    '"é"',
    '"\\u00e9"',
    '" "',
]
OTHERS = [
    "null",
    "true",
    "false",
    "[]",
    "{}",
    '["a",1]',
    '["\\""]',
    '[["a"]]',
    '{"a":"b"}',
    "NaN",
    "nul",
    "01",
    "'x'",
    "[1,]",
]
TOKENS = st.sampled_from([*TIMES, *NUMBERS, *TEXTS, *OTHERS, None]) | st.text(max_size=8).map(json.dumps)


@st.composite
def lines(draw: st.DrawFn) -> tuple[str, list[bytes]]:
    """A stream and some lines, most of which are wrong in one or two ways, or only look it."""
    stream = draw(st.sampled_from(sorted(STREAMS)))
    contract = STREAMS[stream].contract
    found = []
    for _ in range(draw(st.integers(1, 6))):
        names = st.sampled_from([field.source for field in contract.fields])
        text = event(contract, **draw(st.dictionaries(names, TOKENS, max_size=2)))
        members = st.tuples(names | st.sampled_from(["extra", "f_event_id"]), TOKENS.filter(bool))
        for name, token in draw(st.lists(members, max_size=1)):
            text = text[:-1] + f',"{name}":{token}}}'.encode()
        mangle: Callable[[bytes], bytes] = draw(
            st.sampled_from(
                [
                    *[lambda line: line] * 6,
                    lambda line: line[: len(line) // 2],
                    lambda line: line + line,
                    lambda line: line.replace(b'":', b'" :'),
                    lambda line: line.replace(b'"event', b'"\\u0065vent'),
                    lambda line: b" " + line + b"\r",
                    lambda line: line.replace(b"2", b"\xff", 1),
                    lambda line: line.replace(b",", b", ", 2),
                    lambda line: line.replace(b",", b",\t\x00", 1),
                ]
            )
        )
        found.append(mangle(text))
    return stream, found


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(lines())
def test_what_is_surely_valid_is_valid_by_the_sql(drawn: tuple[str, list[bytes]]) -> None:
    stream, found = drawn
    broken = judge(stream).reasons(found, ARRIVED)
    for place, line in enumerate(found):
        if validator(stream).proven(line + b"\n", ARRIVED):
            assert place not in broken, (line, broken[place])
    if validator(stream).proven(b"\n".join(found) + b"\n", ARRIVED):
        assert not broken


@pytest.mark.parametrize("stream", sorted(STREAMS))
def test_simulated_events_are_proved_all_at_once(stream: str) -> None:
    simulator = Simulator(STREAMS[stream].contract, STREAMS[stream].simulate, 7)
    batch = simulator.batch(500, ARRIVED - timedelta(hours=1), ARRIVED)
    assert validator(stream).proven(batch.lines, ARRIVED) == 500


@pytest.mark.parametrize("stream", sorted(STREAMS))
def test_faulty_events_are_found_each_of_them(stream: str) -> None:
    faults = Faults(late=0.1, repeated=0.1, invalid=0.1, malformed=0.1)
    simulator = Simulator(STREAMS[stream].contract, STREAMS[stream].simulate, 7, faults)
    batch = simulator.batch(1000, ARRIVED - timedelta(hours=1), ARRIVED)
    found = batch.lines.splitlines()
    doubts = validator(stream).unproven(found, ARRIVED)
    broken = judge(stream).reasons([found[place] for place in doubts], ARRIVED)
    assert len(broken) == batch.truth.invalid + batch.truth.malformed


def test_two_objects_on_a_line_and_one_on_two_are_not_proved() -> None:
    one = event(STREAMS["iot"].contract)
    split = one.replace(b",", b",\n", 1)
    assert validator("iot").proven(one + b"\n", ARRIVED) == 1
    assert validator("iot").proven(one + one + b"\n" + split + b"\n", ARRIVED) == 0


def test_a_repeated_field_is_not_made_up_for_by_a_missing_one() -> None:
    contract = STREAMS["iot"].contract
    twice = event(contract, site=None)[:-1] + b',"site":"a","site":"b"}'
    for other in (event(contract, site=None), event(contract, site="null"), event(contract, unit='"\\u0022\\u0022"')):
        assert validator("iot").proven(twice + b"\n" + other + b"\n", ARRIVED) == 0


@pytest.mark.parametrize("token", ['"12.50"', "12.50", "0.01", '"0.01"', "9999999999999999.99"])
def test_amounts_as_text_or_number_are_proved(token: str) -> None:
    line = event(STREAMS["financial"].contract, amount=token)
    assert validator("financial").proven(line + b"\n", ARRIVED) == 1


def test_a_few_bad_lines_do_not_take_many_good_ones_to_the_slow_judge() -> None:
    good = event(STREAMS["iot"].contract)
    found: list[Any] = [good] * 1000
    found[500] = b"{}"
    doubts = validator("iot").unproven(found, ARRIVED)
    assert 500 in doubts
    assert len(doubts) <= 32
