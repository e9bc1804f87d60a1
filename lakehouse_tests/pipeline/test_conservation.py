"""No row is lost or counted twice, whatever arrives, in whatever order, and however often a layer is run."""

from collections import Counter, defaultdict
from collections.abc import Callable
from datetime import date
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lakehouse.pipeline import cleaning
from lakehouse.pipeline.ledger import Ledger
from lakehouse_tests.pipeline.landings import (
    OBJECTS,
    DrawnObjects,
    Landing,
    examples,
    first_days,
    landings_from,
    run_step,
)
from lakehouse_tests.pipeline.own import Own, assert_conserved, threshold

STEPS = st.lists(st.sampled_from(("bronze", "bronze again", "silver", "realtime", "realtime again")), max_size=4)


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


@pytest.fixture(scope="module")
def next_first_day() -> Callable[[], date]:
    return first_days(date(2015, 1, 1))


@pytest.fixture
def own(make_stream: Callable[..., Own]) -> Own:
    return make_stream(edit=threshold(0))


@examples(5, nightly=40)
@given(data=st.data(), drawn=OBJECTS)
def test_rows_are_conserved_whatever_order_layers_run_in(
    own: Own, next_first_day: Callable[[], date], data: st.DataObject, drawn: DrawnObjects
) -> None:
    first = next_first_day()
    landings = landings_from(first, drawn)
    model = Model(landings)
    days = sorted(model.landed)
    for landing in data.draw(st.permutations(landings)):
        landing.land(own)
        for step in data.draw(STEPS):
            if step == "silver":
                assert_conserved(own, own.clean(*days))
            else:
                run_step(own, step, first, days)
        _assert_unified_is_a_merge_by_key(own, first)

    for step in ("bronze", "realtime"):
        run_step(own, step, first, days)
    _assert_all_is_right(own, first, model, cleaning.MAX_ROWS_IN_MEMORY)
    # Replacing everything from the beginning changes nothing.
    for step in ("bronze again", "realtime again"):
        run_step(own, step, first, days)
    _assert_all_is_right(own, first, model, 0)


def _assert_all_is_right(own: Own, first: date, model: Model, rows_in_memory: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cleaning, "MAX_ROWS_IN_MEMORY", rows_in_memory)
        patch.setattr(cleaning, "MIN_ROWS_TO_PRUNE_COLUMNS", 0)
        cleaned = own.clean(*sorted(model.landed))
    assert cleaned.ledgers == model.ledgers()
    assert_conserved(own, cleaned)
    assert all(reasons for _, reasons in own.quarantined())
    held = _assert_unified_is_a_merge_by_key(own, first)
    assert held["silver"] == held["unified"] == model.silver


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
