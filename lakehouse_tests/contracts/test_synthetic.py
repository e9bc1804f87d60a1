"""Events drawn from a contract alone obey it, whatever its fields are."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from lakehouse.contracts.model import Contract, Field, FieldType
from lakehouse.contracts.streams import discover
from lakehouse.contracts.synthetic import synthesize
from lakehouse.errors import ContractError
from lakehouse.sources.http.validation import SqlValidator
from lakehouse.sources.simulation import Simulator

ARRIVED = datetime(2025, 11, 20, 14, 15, 16, 123456, UTC)
EVENTS = 200
SMALL = st.decimals(-2000, 2000, allow_nan=False, allow_infinity=False, places=2)
LARGE = st.sampled_from([Decimal(10) ** 15, -(Decimal(10) ** 15)])


def _typed(field_type: FieldType, **rules: Any) -> Field:
    return Field("field", field_type, "field", **rules)


@st.composite
def _texts(draw: st.DrawFn) -> Field:
    pattern = draw(st.none() | st.sampled_from(["^[A-Z]{3}$", r"^\d+-[a-f]*$", "[^@]+@[^@]+[.](de|fr)$", "x"]))
    if pattern:
        return _typed(FieldType("string"), pattern=pattern)
    shortest, spread = draw(st.integers(0, 40)), draw(st.integers(1, 40))
    lengths = draw(st.sampled_from([(None, None), (shortest, None), (None, spread), (shortest, shortest + spread)]))
    return _typed(FieldType("string"), min_length=lengths[0], max_length=lengths[1])


@st.composite
def _numbers(draw: st.DrawFn) -> Field:
    scale = draw(st.integers(0, 20))
    kinds = (FieldType("integer"), FieldType("double"), FieldType("decimal", min(38, scale + 16), scale))
    low, span = draw(SMALL | LARGE), Decimal(draw(st.sampled_from([1, 3, 10**6])))
    rules = {
        "minimum": {"minimum": low},
        "maximum": {"maximum": low},
        "range": {"minimum": low, "maximum": low + span},
        "exclusive": {"exclusive_minimum": low, "exclusive_maximum": low + span + 1},
        "none": {},
    }
    return _typed(draw(st.sampled_from(kinds)), **rules[draw(st.sampled_from([*rules]))])


OTHERS = st.sampled_from(
    [
        _typed(FieldType("string"), enum=("a", 'b"', "ü c")),
        _typed(FieldType("timestamp")),
        _typed(FieldType("boolean")),
        _typed(FieldType("list")),
    ]
)


@st.composite
def contracts(draw: st.DrawFn) -> Contract:
    """Draw contracts of up to eight fields, any of which may be part of the key; at least one is."""
    drawn = draw(st.lists(st.tuples(_texts() | _numbers() | OTHERS, st.booleans(), st.booleans()), max_size=8))
    fields = [
        replace(field, name=f"f{number}", source=f"F {number}", required=required, key=key)
        for number, (field, required, key) in enumerate(drawn)
    ]
    time = Field("at", FieldType("timestamp"), "at", required=True, key=not any(field.key for field in fields))
    return Contract("drawn", "1.0.0", "", "", (*fields, time), "at")


@settings(max_examples=6, deadline=None, phases=[Phase.explicit, Phase.reuse, Phase.generate])
@given(contract=contracts())
def test_events_of_any_contract_are_valid(contract: Contract) -> None:
    def simulate(*arguments: Any) -> Any:
        return synthesize(contract, *arguments)

    batch = Simulator(contract, simulate, 5).batch(EVENTS, ARRIVED - timedelta(minutes=5), ARRIVED)
    assert SqlValidator(contract).reasons(batch.lines.splitlines(), ARRIVED) == {}
    assert batch.lines == Simulator(contract, simulate, 5).batch(EVENTS, ARRIVED - timedelta(minutes=5), ARRIVED).lines


@pytest.mark.parametrize("bound", ["1e15", "-1e15", "0.1"])
def test_doubles_keep_off_a_bound_that_they_may_not_have(bound: str) -> None:
    above = Field("f", FieldType("double"), "f", required=True, exclusive_minimum=Decimal(bound))
    below = replace(above, name="g", source="g", exclusive_minimum=None, exclusive_maximum=Decimal(bound))
    time = Field("at", FieldType("timestamp"), "at", required=True, key=True)
    contract = Contract("drawn", "1.0.0", "", "", (above, below, time), "at")
    batch = Simulator(contract, lambda *arguments: synthesize(contract, *arguments), 5).batch(
        EVENTS, ARRIVED - timedelta(minutes=5), ARRIVED
    )
    assert SqlValidator(contract).reasons(batch.lines.splitlines(), ARRIVED) == {}


@pytest.mark.parametrize("stream", ["iot", "orders", "retail"])
def test_events_of_shipped_contracts_have_keys_of_their_own(stream: str) -> None:
    contract = discover()[stream].contract
    (first, second) = (
        Simulator(contract, lambda *arguments: synthesize(contract, *arguments), seed).batch(
            1000, ARRIVED - timedelta(seconds=1), ARRIVED
        )
        for seed in (1, 2)
    )
    lines = [*first.lines.splitlines(), *second.lines.splitlines()]
    assert SqlValidator(contract).reasons(lines, ARRIVED) == {}
    assert len(set(lines)) == 2000


def test_rules_that_allow_no_value_are_refused() -> None:
    never = Field("never", FieldType("integer"), "never", minimum=Decimal("1.2"), maximum=Decimal("1.8"))
    time = Field("at", FieldType("timestamp"), "at", required=True, key=True)
    contract = Contract("impossible", "1.0.0", "", "", (never, time), "at")
    with pytest.raises(ContractError, match=r"No value of never .* Write a simulate\.py for impossible\."):
        Simulator(contract, lambda *arguments: synthesize(contract, *arguments), 1).batch(
            5, ARRIVED - timedelta(seconds=1), ARRIVED
        )
