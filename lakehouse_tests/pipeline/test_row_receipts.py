"""Every row that has landed is found, at every moment, and what became of all of them adds up to the ledger."""

from collections import Counter
from collections.abc import Callable
from datetime import date, timedelta

from hypothesis import given
from hypothesis import strategies as st

from lakehouse.pipeline.row_receipts import Found, Place, find_row_here
from lakehouse.pipeline.withdrawal import withdraw_objects
from lakehouse_tests.pipeline.landings import examples
from lakehouse_tests.pipeline.own import Own, noon, payment, threshold

DAY = date(2021, 3, 1)
ROWS = st.lists(
    st.tuples(st.integers(0, 5), st.sampled_from(["12.50", "13", "-1", "much"]), st.integers(0, 1)),
    min_size=1,
    max_size=6,
)


def _outcomes(own: Own, rows: dict[str, int]) -> dict[Place, Found | None]:
    places = [Place(key, number) for key, count in rows.items() for number in range(1, count + 1)]
    return {place: find_row_here(own.lake, own.stream, place) for place in places}


def _names(outcomes: dict[Place, Found | None]) -> Counter[str | None]:
    return Counter(found.outcome if found else None for found in outcomes.values())


@examples(3, 60)
@given(objects=st.lists(ROWS, min_size=1, max_size=3))
def test_outcomes_of_all_rows_add_up_to_the_ledger(
    make_stream: Callable[..., Own], objects: list[list[tuple[int, str, int]]]
) -> None:
    own = make_stream(edit=threshold(0))
    rows: dict[str, int] = {}
    for second, drawn in enumerate(objects):
        events = [payment(f"e{key}", noon(DAY - timedelta(days=back)), amount=amount) for key, amount, back in drawn]
        rows[own.land(events, noon(DAY) + timedelta(seconds=second))] = len(events)
    assert _names(_outcomes(own, rows)) == {"landed": sum(rows.values())}
    own.bronze()
    assert {*_names(_outcomes(own, rows))} == {"bronze"}
    ledgers = own.clean(DAY - timedelta(days=1), DAY).ledgers.values()
    outcomes = _outcomes(own, rows)
    counts = _names(outcomes)
    assert counts["silver"] == sum(ledger.silver for ledger in ledgers)
    assert counts["rejected"] == sum(ledger.quarantined for ledger in ledgers)
    assert counts["duplicate"] == sum(ledger.duplicates for ledger in ledgers)
    assert counts.total() == sum(rows.values()) == sum(ledger.landed for ledger in ledgers)
    for found in outcomes.values():
        if found and found.duplicate_of:
            twin = outcomes[found.duplicate_of]
            assert twin == Found("silver", found.day)


def test_row_is_followed_from_landing_to_its_withdrawal(make_stream: Callable[..., Own]) -> None:
    own = make_stream()
    key = own.land([payment("a", noon(DAY)), payment("b", noon(DAY), amount="much")], noon(DAY))
    first, second, third = (Place(key, number) for number in (1, 2, 3))

    def find(place: Place) -> Found | None:
        return find_row_here(own.lake, own.stream, place)

    own.refresh_realtime("2021-03-01-12:00")
    assert [find(first), find(second)] == [Found("realtime", DAY), Found("landed")]
    own.bronze()
    own.clean(DAY)
    assert find(first) == Found("rejected", DAY, ("held back: under 95% of this partition's rows are valid",))
    assert find(second) == Found("rejected", DAY, ("amount is not a decimal of at most 18 digits, 2 after the point",))
    assert find(third) is None
    own.land([payment(f"c{number}", noon(DAY)) for number in range(60)], noon(DAY) + timedelta(seconds=1))
    own.bronze()
    assert find(first) == Found("rejected", DAY, ("held back: under 95% of this partition's rows are valid",))
    withdraw_objects(own.lake, own.stream, [key])
    assert [find(first), find(Place(f"realtime/{own.name}/nothing.json", 1))] == [Found("withdrawn"), None]
