"""Simulated events obey their contract and look like real ones."""

import re
from collections import Counter, defaultdict
from datetime import datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from lakehouse.contracts.model import Contract, Field
from lakehouse.sources.simulation import Simulate

START, END = datetime(2025, 11, 17), datetime(2025, 11, 20)

TYPES = {
    "string": pa.string(),
    "timestamp": pa.timestamp("us"),
    "integer": pa.int64(),
    "double": pa.float64(),
    "boolean": pa.bool_(),
    "list": pa.list_(pa.string()),
}


def simulated(simulate: Simulate, events: int = 5_000, seed: int = 1) -> pa.Table:
    return simulate(np.random.default_rng(seed), events, START, END)


def moments(events: pa.Table, contract: Contract) -> list[datetime]:
    return [time for time in events[contract.event_time].to_pylist() if isinstance(time, datetime)]


def obeys(field: Field, value: Any) -> bool:
    if value is None:
        return not field.required
    return (
        (field.minimum is None or value >= field.minimum)
        and (field.maximum is None or value <= field.maximum)
        and (field.exclusive_minimum is None or value > field.exclusive_minimum)
        and (field.exclusive_maximum is None or value < field.exclusive_maximum)
        and (not field.enum or value in field.enum)
        and (field.pattern is None or re.search(field.pattern, value) is not None)
        and (field.type.kind != "double" or bool(np.isfinite(value)))
        and not (field.type.kind == "string" and field.required and value == "")
    )


def test_columns_are_the_contracts_fields_with_its_types(contract: Contract, simulate: Simulate) -> None:
    expected = [
        (f.name, pa.decimal128(f.type.precision, f.type.scale) if f.type.kind == "decimal" else TYPES[f.type.kind])
        for f in contract.fields
    ]
    schema = simulated(simulate).schema
    assert list(zip(schema.names, schema.types, strict=True)) == expected


def test_every_value_obeys_the_contract(contract: Contract, simulate: Simulate) -> None:
    events = simulated(simulate)
    wrong = [(f.name, v) for f in contract.fields for v in events[f.name].to_pylist() if not obeys(f, v)]
    assert wrong == []


@pytest.mark.parametrize("events", [0, 1, 2, 3, 10, 5_000])
@pytest.mark.parametrize("length", [timedelta(milliseconds=5), timedelta(seconds=90), timedelta(days=40)])
def test_requested_count_is_given_in_order_within_window(
    contract: Contract, simulate: Simulate, events: int, length: timedelta
) -> None:
    start = datetime(2025, 11, 20, 23, 59, 59, 123_456)
    table = simulate(np.random.default_rng(2), events, start, start + length)
    times = moments(table, contract)
    assert len(times) == events
    assert times == sorted(times)
    assert all(start <= time < start + length for time in times)


def test_keys_are_unique_within_and_across_calls(contract: Contract, simulate: Simulate) -> None:
    rng = np.random.default_rng(3)
    tables = [simulate(rng, 20_000, START, END), simulate(rng, 20_000, START, END)]
    keys = Counter(row for table in tables for row in zip(*(table[k].to_pylist() for k in contract.key), strict=True))
    assert len(keys) == 40_000


def test_same_seed_gives_same_events_and_another_seed_others(simulate: Simulate) -> None:
    assert simulated(simulate, seed=4).equals(simulated(simulate, seed=4))
    assert not simulated(simulate, seed=4).equals(simulated(simulate, seed=5))


def test_empty_window_is_refused(simulate: Simulate) -> None:
    with pytest.raises(ValueError, match="the window is empty"):
        simulate(np.random.default_rng(1), 1, START, START)


def test_event_rate_follows_the_time_of_day(contract: Contract, simulate: Simulate) -> None:
    by_hour = Counter(time.hour for time in moments(simulated(simulate, 20_000), contract))
    from_quiet_to_busy = sorted(by_hour[hour] for hour in range(24))
    assert sum(from_quiet_to_busy[-6:]) > 1.25 * sum(from_quiet_to_busy[:6])


def test_few_entities_cause_many_events(contract: Contract, simulate: Simulate) -> None:
    assert contract.entity is not None
    counts = Counter(v for v in simulated(simulate, 20_000)[contract.entity].to_pylist() if v is not None)
    busiest = [count for _, count in counts.most_common(max(len(counts) // 10, 1))]
    assert sum(busiest) > 3 * sum(counts.values()) / 10


@pytest.mark.parametrize("folder", ["orders"], indirect=True)
def test_order_versions_run_from_insert_to_delete(simulate: Simulate) -> None:
    lives: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for change in simulated(simulate).to_pylist():
        lives[change["order_id"]].append(change)
    assert len(lives) < 5_000
    for life in lives.values():
        assert [change["version"] for change in life] == list(range(1, len(life) + 1))
        assert [change["op"] == "insert" for change in life] == [True] + [False] * (len(life) - 1)
        assert all(change["op"] != "delete" for change in life[:-1])
        assert len({change["customer_id"] for change in life}) == 1


@pytest.mark.parametrize("folder", ["clickstream"], indirect=True)
def test_sessions_have_several_events_of_one_visitor(simulate: Simulate) -> None:
    sessions: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for event in simulated(simulate).to_pylist():
        sessions[event["session_id"]].append(event)
    assert 4 < 5_000 / len(sessions) < 9
    for events in sessions.values():
        assert len({(event["user_id"], event["device"], event["country"]) for event in events}) == 1
        for before, after in pairwise(events):
            assert after["referrer"] == before["page_url"]


@pytest.mark.parametrize("folder", ["retail"], indirect=True)
def test_invoice_has_one_customer_one_time_and_distinct_lines(simulate: Simulate) -> None:
    invoices: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for line in simulated(simulate).to_pylist():
        invoices[line["invoice_no"]].append(line)
    assert 8 < 5_000 / len(invoices) < 32
    for number, lines in invoices.items():
        assert len({(line["invoice_date"], line["customer_id"], line["country"]) for line in lines}) == 1
        assert len({line["stock_code"] for line in lines}) == len(lines)
        assert all((line["quantity"] < 0) == number.startswith("C") for line in lines)
    assert 0.05 < sum(number.startswith("C") for number in invoices) / len(invoices) < 0.25


def test_simulator_imports_what_outside_streams_may(folder: Path) -> None:
    imported = re.findall(r"^(?:from|import) (\S+)", (folder / "simulate.py").read_text(), re.MULTILINE)
    assert set(imported) <= {"datetime", "numpy", "pyarrow", "lakehouse.streams"}
