"""Simulated lines match their ground truth, judged by an independent reading of the contract."""

import importlib
import json
import re
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import lakehouse.streams
from lakehouse.contracts.model import Contract, Field, FieldType
from lakehouse.contracts.odcs import load_contract
from lakehouse.errors import LakehouseError
from lakehouse.sources.simulation import Batch, Faults, Simulate, Simulator, Truth

FOLDERS = sorted(path.parent for path in Path(lakehouse.streams.__file__).parent.glob("*/contract.odcs.yaml"))
STREAMS = [folder.name for folder in FOLDERS]

START, END = datetime(2025, 11, 20, 8), datetime(2025, 11, 20, 20)
ARRIVAL = datetime(2026, 6, 1)
NO_FAULTS = Faults()
ALL_FAULTS = Faults(late=0.1, repeated=0.1, invalid=0.2, malformed=0.1)


def simulator(stream: str, seed: int = 7, faults: Faults = NO_FAULTS) -> Simulator:
    simulate: Simulate = importlib.import_module(f"lakehouse.streams.{stream}.simulate").simulate
    return Simulator(load_contract(FOLDERS[0].parent / stream), simulate, seed, faults)


def is_valid(contract: Contract, event: dict[str, Any]) -> bool:
    """Return whether an event, its numbers read as Decimal, obeys its contract."""
    return all(_obeys(contract, field, event.get(field.source)) for field in contract.fields)


def _obeys(contract: Contract, field: Field, value: Any) -> bool:
    if value is None or value == "":
        return not field.required
    match field.type.kind:
        case "string":
            return (
                isinstance(value, str)
                and (not field.enum or value in field.enum)
                and (field.pattern is None or re.search(field.pattern, value) is not None)
                and (field.min_length is None or len(value) >= field.min_length)
                and (field.max_length is None or len(value) <= field.max_length)
            )
        case "timestamp":
            try:
                at = datetime.fromisoformat(value).astimezone(UTC).replace(tzinfo=None)
            except (TypeError, ValueError):
                return False
            if field.name != contract.event_time:
                return True
            return at.date() >= contract.history_start and at <= ARRIVAL + timedelta(days=1)
        case "boolean":
            return isinstance(value, bool)
        case "list":
            return isinstance(value, list) and all(isinstance(item, str) for item in value)
        case _:
            return isinstance(value, Decimal) and _number_obeys(field, value)


def _number_obeys(field: Field, value: Decimal) -> bool:
    fits = {
        "integer": value == value.to_integral_value() and -(2**63) <= value < 2**63,
        "double": value.is_finite(),
        "decimal": value == round(value, field.type.scale)
        and abs(value) < Decimal(10) ** (field.type.precision - field.type.scale),
    }
    return (
        fits[field.type.kind]
        and (field.minimum is None or value >= field.minimum)
        and (field.maximum is None or value <= field.maximum)
        and (field.exclusive_minimum is None or value > field.exclusive_minimum)
        and (field.exclusive_maximum is None or value < field.exclusive_maximum)
    )


def read(line: bytes) -> dict[str, Any] | None:
    try:
        event = json.loads(line, parse_float=Decimal, parse_int=Decimal)
    except (ValueError, InvalidOperation):
        return None
    return event if isinstance(event, dict) else None


def event_date(contract: Contract, event: dict[str, Any]) -> date:
    return datetime.fromisoformat(event[contract.field(contract.event_time).source]).date()


def counted(contract: Contract, batches: list[Batch], first_day: date) -> Truth:
    """Count the ground truth of batches line by line."""
    seen: set[bytes] = set()
    keys: set[tuple[Any, ...]] = set()
    landed = repeated = invalid = malformed = late = 0
    for line in b"".join(batch.lines for batch in batches).splitlines():
        landed += 1
        event = read(line)
        if event is None:
            malformed += 1
        elif not is_valid(contract, event):
            invalid += 1
        elif line in seen:
            repeated += 1
        else:
            seen.add(line)
            key = tuple(event.get(contract.field(name).source) for name in contract.key)
            assert key not in keys
            keys.add(key)
            late += event_date(contract, event) < first_day
    return Truth(landed, len(keys), repeated, invalid, malformed, late)


def test_truths_add_up_count_by_count() -> None:
    assert sum([Truth(10, 5, 2, 2, 1, 3), Truth(3, 1, 1, 1, 0, 0)], Truth()) == Truth(13, 6, 3, 3, 1, 3)


@pytest.mark.parametrize("stream", STREAMS)
def test_truth_equals_counting_the_lines(stream: str) -> None:
    simulated = simulator(stream, faults=ALL_FAULTS)
    batches = [simulated.batch(800, START, END) for _ in range(3)]
    truth = sum((batch.truth for batch in batches), Truth())
    assert truth == counted(simulated.contract, batches, START.date())
    assert truth.landed == 2_400 == truth.valid + truth.repeated + truth.invalid + truth.malformed
    assert min(truth.late, truth.repeated, truth.invalid, truth.malformed) > 100


shares = st.floats(0, 1).map(lambda share: share / 4)


@settings(max_examples=40)
@given(
    stream=st.sampled_from(STREAMS),
    faults=st.builds(Faults, shares, shares, shares, shares),
    sizes=st.lists(st.integers(0, 40), max_size=4),
    seed=st.integers(0, 2**32),
)
def test_truth_holds_for_any_shares_and_sizes(stream: str, faults: Faults, sizes: list[int], seed: int) -> None:
    simulated = simulator(stream, seed, faults)
    batches = [simulated.batch(size, START, END) for size in sizes]
    assert sum((batch.truth for batch in batches), Truth()) == counted(simulated.contract, batches, START.date())
    assert [batch.truth.landed for batch in batches] == sizes


@pytest.mark.parametrize("stream", STREAMS)
def test_same_seed_and_calls_give_same_bytes(stream: str) -> None:
    def lines(seed: int) -> list[bytes]:
        simulated = simulator(stream, seed, ALL_FAULTS)
        return [simulated.batch(size, START, END).lines for size in (300, 0, 50)]

    assert lines(1) == lines(1)
    assert lines(1) != lines(2)
    first, nothing, last = lines(1)
    assert nothing == b""
    assert first != last


def as_json(value: Any) -> Any:
    """Convert a simulated value to what `read` returns for its JSON."""
    match value:
        case bool():
            return value
        case datetime():
            return value.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        case int() | float():
            return Decimal(str(value))
        case _:
            return value


@pytest.mark.parametrize("stream", STREAMS)
def test_lines_hold_simulated_values_under_source_names(stream: str) -> None:
    simulated = simulator(stream, seed=3)
    batch = simulated.batch(2_000, START, END)
    rng = np.random.default_rng(3)
    rng.multinomial(2_000, [1, 0, 0, 0, 0])  # the draw of how many lines are faulty
    events = simulated._simulate(rng, 2_000, START, END).to_pylist()
    source = {field.name: field.source for field in simulated.contract.fields}
    assert [read(line) for line in batch.lines.splitlines()] == [
        {source[name]: as_json(value) for name, value in event.items() if value is not None} for event in events
    ]
    assert batch.lines.endswith(b"}\n")
    assert batch.truth == Truth(landed=2_000, valid=2_000)


def test_decimals_keep_all_their_digits() -> None:
    lines = simulator("financial").batch(200, START, END).lines.decode()
    assert len(re.findall(r'"amount":\d+\.\d\d,', lines)) == 200


def contract_of_every_type() -> tuple[Contract, Simulate]:
    """Make a contract with every type and every rule, and a simulation that obeys it."""
    fields = (
        Field("id", FieldType("string"), 'the id\'s "name"', required=True, key=True),
        Field("at", FieldType("timestamp"), "at", required=True),
        Field("code", FieldType("string"), "code", pattern="^[A-Z]{2,3}$", min_length=2, max_length=3),
        Field("kind", FieldType("string"), "kind", enum=("a", "unheard of")),
        Field("units", FieldType("integer"), "units", minimum=Decimal(-1), maximum=Decimal(9)),
        Field("price", FieldType("decimal", 6, 6), "price", exclusive_maximum=Decimal("0.5")),
        Field("ratio", FieldType("double"), "ratio", exclusive_minimum=Decimal("-0.5")),
        Field("ok", FieldType("boolean"), "ok"),
        Field("tags", FieldType("list"), "tags"),
        Field("seen", FieldType("timestamp"), "seen"),
    )

    def simulate(rng: np.random.Generator, events: int, start: datetime, end: datetime) -> pa.Table:
        numbers = rng.integers(2**63, size=events)
        columns: dict[str, pa.Array[Any]] = {
            "id": pa.array([f'{number} "\\\n\t{chr(1)}é🎉' for number in numbers], pa.string()),
            "at": pa.array([start] * events, pa.timestamp("us")),
            "code": pa.array(["AB"] * events, pa.string()),
            "kind": pa.array([None] * events, pa.string()),
            "units": pa.array([-1] * events, pa.int64()),
            "price": pa.array([Decimal("0.100000")] * events, pa.decimal128(6, 6)),
            "ratio": pa.array([1e-9] * events, pa.float64()),
            "ok": pa.array([True] * events, pa.bool_()),
            "tags": pa.array([['"', "é"]] * events, pa.list_(pa.string())),
            "seen": pa.array([None] * events, pa.timestamp("us")),
        }
        return pa.table(columns)

    return Contract("every", "1.0.0", "", "", fields, "at"), simulate


def test_every_type_and_rule_is_broken_in_every_way() -> None:
    contract, simulate = contract_of_every_type()
    sound = Simulator(contract, simulate, 1).batch(20, START, END)
    assert counted(contract, [sound], START.date()) == sound.truth == Truth(landed=20, valid=20)

    broken = Simulator(contract, simulate, 1, Faults(invalid=1.0)).batch(2_000, START, END)
    assert counted(contract, [broken], START.date()) == broken.truth == Truth(landed=2_000, invalid=2_000)
    breaches: set[tuple[str, str]] = set()
    for line in broken.lines.splitlines():
        event = read(line) or {}
        (field,) = (f for f in contract.fields if not _obeys(contract, f, event.get(f.source)))
        breaches.add((field.name, str(event.get(field.source, "left out"))))
    assert sorted(breaches) == sorted(
        [
            ("id", "None"),
            ("id", "left out"),
            ("at", "None"),
            ("at", "left out"),
            ("at", "yesterday"),
            ("at", "2025-02-30T00:00:00Z"),
            ("at", "2009-12-31T00:00:00Z"),
            ("at", "9999-12-30T23:59:59Z"),
            ("code", "?"),
            ("code", "x"),
            ("code", "xxxx"),
            ("kind", "unheard of, too"),
            ("units", "many"),
            ("units", "17.5"),
            ("units", "9223372036854775808"),
            ("units", "-2"),
            ("units", "10"),
            ("price", "many"),
            ("price", "1.0000001"),
            ("price", "1"),
            ("price", "0.5"),
            ("ratio", "many"),
            ("ratio", "-0.5"),
            ("ok", "perhaps"),
            ("tags", "no list"),
            ("seen", "yesterday"),
            ("seen", "2025-02-30T00:00:00Z"),
        ]
    )


def test_lines_repeat_within_this_and_the_next_batch_only() -> None:
    simulated = simulator("iot", faults=Faults(repeated=0.5))
    batches = [simulated.batch(200, START, END).lines.splitlines() for _ in range(4)]
    first_batch: dict[bytes, int] = {}
    from_previous_batch = 0
    for number, lines in enumerate(batches):
        for line in lines:
            assert number - first_batch.setdefault(line, number) <= 1
            from_previous_batch += first_batch[line] < number
    assert from_previous_batch > 50
    assert max(Counter(line for lines in batches for line in lines).values()) > 2


@pytest.mark.parametrize(
    ("faults", "truth"),
    [
        (Faults(repeated=1.0), Truth(landed=5, valid=1, repeated=4)),
        (Faults(late=1.0), Truth(landed=5, valid=5, late=5)),
        (Faults(malformed=1.0), Truth(landed=5, malformed=5)),
    ],
)
def test_first_batch_may_hold_one_kind_alone(faults: Faults, truth: Truth) -> None:
    simulated = simulator("logs", faults=faults)
    batch = simulated.batch(5, START, END)
    assert batch.truth == truth == counted(simulated.contract, [batch], START.date())


def late_dates(stream: str, start: datetime) -> Iterator[date]:
    simulated = simulator(stream, faults=Faults(late=0.5))
    batch = simulated.batch(400, start, start + timedelta(hours=1))
    dates = [event_date(simulated.contract, read(line) or {}) for line in batch.lines.splitlines()]
    assert sum(day < start.date() for day in dates) == batch.truth.late
    return (day for day in dates if day < start.date())


@pytest.mark.parametrize("stream", STREAMS)
def test_late_events_are_up_to_three_days_late(stream: str) -> None:
    assert set(late_dates(stream, START)) == {date(2025, 11, 17), date(2025, 11, 18), date(2025, 11, 19)}


def test_late_events_are_not_before_history_start() -> None:
    assert set(late_dates("retail", datetime(2010, 12, 1, 12))) == set()
    assert set(late_dates("retail", datetime(2010, 12, 2, 12))) == {date(2010, 12, 1)}


def test_faulty_lines_are_spread_over_the_batch() -> None:
    lines = simulator("logs", faults=Faults(malformed=0.2)).batch(2_000, START, END).lines.splitlines()
    in_each_quarter = [sum(read(line) is None for line in lines[at : at + 500]) for at in range(0, 2_000, 500)]
    assert min(in_each_quarter) > 60


def test_valid_events_keep_their_time_order() -> None:
    simulated = simulator("logs", faults=Faults(malformed=0.3, invalid=0.2))
    events = [read(line) for line in simulated.batch(1_000, START, END).lines.splitlines()]
    times = [event["event_time"] for event in events if event and is_valid(simulated.contract, event)]
    assert times == sorted(times)


def test_window_in_another_time_zone_is_the_same() -> None:
    zone = timezone(timedelta(hours=-5))
    here = simulator("iot").batch(50, START, END)
    there = simulator("iot").batch(
        50, START.replace(tzinfo=UTC).astimezone(zone), END.replace(tzinfo=UTC).astimezone(zone)
    )
    assert here == there


@pytest.mark.parametrize(
    ("shares", "message"),
    [
        ({"late": -0.1}, "The share of late events is -0.1; give 0 to 1"),
        ({"invalid": 1.5}, "The share of invalid events is 1.5; give 0 to 1"),
        ({"malformed": float("nan")}, "The share of malformed events is nan; give 0 to 1"),
        ({"late": 0.6, "repeated": 0.6}, "The shares of faulty events add up to 1.2; give at most 1 together"),
    ],
)
def test_impossible_fault_shares_are_refused(shares: dict[str, float], message: str) -> None:
    with pytest.raises(LakehouseError, match=re.escape(message)):
        Faults(**shares)
