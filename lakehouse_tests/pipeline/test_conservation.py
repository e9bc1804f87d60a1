"""No row is lost or counted twice, whatever arrives, in whatever order, and however often a layer is run."""

import os
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from lakehouse.pipeline import day_groups, silver
from lakehouse.pipeline.ledger import Ledger
from lakehouse_tests.pipeline.own import Own, assert_conserved, days_apart, noon, payment, threshold

ORIGIN = date(2015, 1, 1)
EXAMPLES = 40 if os.environ.get("NIGHTLY") else 7
"""Few, because each takes seconds."""

MANY_DAYS = 60
"""Between the days of two examples, for they share their tables."""

BROKEN: tuple[dict[str, Any], ...] = (
    {"amount": "-1"},
    {"amount": "1.005", "currency": "euro"},
    {"status": "lost"},
    {"account_id": ""},
)
MALFORMED = ("{", "[1]", "null", '{"event_id": {"a": 1}}', "\\x")
DAYS_BACK = (0, 0, 0, 1, 40)
"""How many days before its arrival an event may have happened: mostly none."""


@dataclass(frozen=True)
class Row:
    """A row to land: its kind, its key, and what distinguishes it from others with that key."""

    kind: str
    key: int
    back: int
    variant: int

    def line(self, arrival: date) -> dict[str, Any] | str:
        if self.kind == "malformed":
            return MALFORMED[self.variant % len(MALFORMED)]
        event = payment(f"e{self.key}", noon(arrival - timedelta(days=self.back)), amount=f"{self.variant + 1}.25")
        if self.kind == "invalid":
            return event | BROKEN[self.variant % len(BROKEN)]
        if self.kind == "undated":
            return event | {
                "event_time": ("yesterday", "", "0000-01-01", f"{arrival + timedelta(days=3)}")[self.variant]
            }
        return event

    def day(self, arrival: date) -> date:
        """The partition it belongs to."""
        return arrival - timedelta(days=self.back) if self.kind in ("valid", "invalid") else arrival


@dataclass(frozen=True)
class Landing:
    """One object: when it arrived and what it holds."""

    at: datetime
    rows: tuple[Row, ...]


class Model:
    """A model in plain Python of what the lake should hold."""

    def __init__(self, landings: list[Landing]) -> None:
        valid: dict[tuple[date, str], tuple[Any, ...]] = {}
        broken: dict[date, set[str]] = defaultdict(set)
        self.landed: Counter[date] = Counter()
        self.valid: Counter[date] = Counter()
        self.quarantined: Counter[date] = Counter()
        for landing in sorted(landings, key=lambda landing: landing.at):
            for row in landing.rows:
                arrival = landing.at.date()
                line, day = row.line(arrival), row.day(arrival)
                self.landed[day] += 1
                if isinstance(line, str):
                    self.quarantined[day] += 1
                elif row.kind == "valid":
                    self.valid[day] += 1
                    valid[day, line["event_id"]] = (day, line["event_id"], Decimal(line["amount"]))
                else:
                    broken[day].add(repr(line))
        self.silver = sorted(valid.values())
        self.quarantined.update({day: len(lines) for day, lines in broken.items()})

    def ledgers(self) -> dict[date, Ledger]:
        kept = Counter(day for day, *_ in self.silver)
        return {
            day: Ledger(
                landed=landed,
                valid=self.valid[day],
                silver=kept[day],
                quarantined=self.quarantined[day],
                duplicates=landed - kept[day] - self.quarantined[day],
            )
            for day, landed in self.landed.items()
        }


ROWS = st.builds(
    Row,
    kind=st.sampled_from(("valid", "valid", "valid", "invalid", "malformed", "undated")),
    key=st.integers(0, 3),
    back=st.sampled_from(DAYS_BACK),
    variant=st.integers(0, 3),
)
LANDINGS = st.lists(
    st.tuples(st.integers(0, 2), st.lists(ROWS, min_size=1, max_size=6).map(tuple)), min_size=1, max_size=4
)
STEPS = st.lists(st.sampled_from(("bronze", "bronze again", "silver", "realtime", "realtime again")), max_size=4)


@pytest.fixture(scope="module")
def examples() -> Callable[[], date]:
    return days_apart(ORIGIN, MANY_DAYS)


@pytest.fixture
def own(make_stream: Callable[..., Own]) -> Own:
    return make_stream(edit=threshold(0))


@settings(
    max_examples=EXAMPLES, deadline=None, derandomize=True, database=None,
    phases=[Phase.generate],  # a failing example is small, and shrinking it against real storage takes minutes
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)  # fmt: skip
@given(data=st.data(), drawn=LANDINGS)
def test_rows_are_conserved_whatever_order_layers_run_in(
    own: Own, examples: Callable[[], date], data: st.DataObject, drawn: list[tuple[int, tuple[Row, ...]]]
) -> None:
    first = examples()
    landings = [Landing(_moment(first + timedelta(days=day), number), rows) for number, (day, rows) in enumerate(drawn)]
    model = Model(landings)
    for landing in data.draw(st.permutations(landings)):
        own.land([row.line(landing.at.date()) for row in landing.rows], landing.at)
        for step in data.draw(STEPS):
            _run(own, step, first, sorted(model.landed))
        _assert_unified_is_a_merge_by_key(own, first)

    own.bronze(*_arrivals(first))
    own.refresh_realtime(*_hours(first))
    _assert_all_is_right(own, first, model, silver.MAX_ROWS_IN_MEMORY)
    # Replacing everything from the beginning changes nothing.
    own.bronze(*_arrivals(first), replace=True)
    own.refresh_realtime(*_hours(first), replace=True)
    _assert_all_is_right(own, first, model, 0)


def _assert_all_is_right(own: Own, first: date, model: Model, rows_in_memory: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(silver, "MAX_ROWS_IN_MEMORY", rows_in_memory)
        patch.setattr(day_groups, "MIN_ROWS_TO_PRUNE_COLUMNS", 0)
        cleaned = own.clean(*sorted(model.landed))
    assert cleaned.ledgers == model.ledgers()
    assert_conserved(own, cleaned)
    assert all(reasons for _, reasons in own.quarantined())
    held = _assert_unified_is_a_merge_by_key(own, first)
    assert held["silver"] == held["unified"] == model.silver


def _moment(day: date, number: int) -> datetime:
    return datetime(day.year, day.month, day.day, 12, 0, number, tzinfo=UTC)


def _arrivals(first: date) -> list[date]:
    return [first + timedelta(days=n) for n in range(3)]


def _hours(first: date) -> list[str]:
    return [f"{day}-12:00" for day in _arrivals(first)]


def _run(own: Own, step: str, first: date, days: list[date]) -> None:
    match step.split():
        case ["bronze", *again]:
            own.bronze(*_arrivals(first), replace=bool(again))
        case ["realtime", *again]:
            own.refresh_realtime(*_hours(first), replace=bool(again))
        case _:
            assert_conserved(own, own.clean(*days))


def _between(first: date) -> str:
    return f"dt between date '{first}' - interval 45 days and date '{first}' + interval 5 days"


def _assert_unified_is_a_merge_by_key(own: Own, first: date) -> dict[str, list[tuple[Any, ...]]]:
    """Assert that the unified view is silver merged with realtime by key. Returns what each of them holds."""
    columns = "dt, event_id, amount"
    rows = own.ask(
        f"""select 'realtime', {columns}, _arrived_at, _object, _row from {{realtime}} where {_between(first)}
        union all select 'silver', {columns}, null, null, null from {{silver}} where {_between(first)}
        union all select 'unified', {columns}, null, null, null from {{unified}} where {_between(first)}
        order by 5, 6, 7"""
    )
    held: dict[str, list[tuple[Any, ...]]] = {
        table: [row[1:4] for row in rows if row[0] == table] for table in ("realtime", "silver", "unified")
    }
    merged = {row[:2]: row for row in [*held["realtime"], *held["silver"]]}
    held = {table: sorted(of_table) for table, of_table in held.items()}
    assert held["unified"] == sorted(merged.values())
    return held
