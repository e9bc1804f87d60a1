"""A line that the validator proves is valid by the contract's SQL, and it proves ordinary events."""

from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings

from lakehouse.contracts.validator import Validator
from lakehouse.sources.http.validation import SqlValidator
from lakehouse.sources.simulation import Faults, Simulator
from lakehouse_tests.contracts.lines import STREAMS, event, lines
from lakehouse_tests.nightly import more_at_night

EXAMPLES = more_at_night(100, 2000)
ARRIVED = datetime(2025, 11, 20, 14, 15, 16, 123456, UTC)


@cache
def validator(stream: str) -> Validator:
    return Validator(STREAMS[stream].contract)


@cache
def sql_validator(stream: str) -> SqlValidator:
    return SqlValidator(STREAMS[stream].contract)


@settings(max_examples=EXAMPLES, suppress_health_check=[HealthCheck.too_slow])
@given(lines())
def test_proven_lines_are_valid_by_the_sql(drawn: tuple[str, list[bytes]]) -> None:
    stream, events = drawn
    broken = sql_validator(stream).reasons(events, ARRIVED)
    for place, line in enumerate(events):
        if validator(stream).proven(line + b"\n", ARRIVED):
            assert place not in broken, (line, broken[place])
    if validator(stream).proven(b"\n".join(events) + b"\n", ARRIVED):
        assert not broken


@pytest.mark.parametrize("stream", sorted(STREAMS))
def test_simulated_events_are_proven_at_once(stream: str) -> None:
    simulator = Simulator(STREAMS[stream].contract, STREAMS[stream].simulate, 7)
    batch = simulator.batch(500, ARRIVED - timedelta(hours=1), ARRIVED)
    assert validator(stream).proven(batch.lines, ARRIVED) == 500


@pytest.mark.parametrize("stream", sorted(STREAMS))
def test_every_faulty_event_is_found(stream: str) -> None:
    faults = Faults(late=0.1, repeated=0.1, invalid=0.1, malformed=0.1)
    simulator = Simulator(STREAMS[stream].contract, STREAMS[stream].simulate, 7, faults)
    batch = simulator.batch(1000, ARRIVED - timedelta(hours=1), ARRIVED)
    events = batch.lines.splitlines()
    unproven = validator(stream).unproven(events, ARRIVED)
    broken = sql_validator(stream).reasons([events[place] for place in unproven], ARRIVED)
    assert len(broken) == batch.truth.invalid + batch.truth.malformed


def test_two_objects_on_a_line_and_one_on_two_are_not_proven() -> None:
    line = event(STREAMS["iot"].contract)
    split = line.replace(b",", b",\n", 1)
    assert validator("iot").proven(line + b"\n", ARRIVED) == 1
    assert validator("iot").proven(line + line + b"\n" + split + b"\n", ARRIVED) == 0


def test_repeated_field_does_not_offset_a_missing_one() -> None:
    contract = STREAMS["iot"].contract
    twice = event(contract, site=None)[:-1] + b',"site":"a","site":"b"}'
    for other in (event(contract, site=None), event(contract, site="null"), event(contract, unit='"\\u0022\\u0022"')):
        assert validator("iot").proven(twice + b"\n" + other + b"\n", ARRIVED) == 0


@pytest.mark.parametrize("token", ['"12.50"', "12.50", "0.01", '"0.01"', "9999999999999999.99"])
def test_amounts_as_text_or_number_are_proven(token: str) -> None:
    line = event(STREAMS["financial"].contract, amount=token)
    assert validator("financial").proven(line + b"\n", ARRIVED) == 1


def test_few_bad_lines_leave_most_good_lines_proven() -> None:
    good = event(STREAMS["iot"].contract)
    events: list[Any] = [good] * 1000
    events[500] = b"{}"
    unproven = validator("iot").unproven(events, ARRIVED)
    assert 500 in unproven
    assert len(unproven) <= 32
