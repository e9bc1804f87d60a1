"""The quality gate blocks the worst objects of days with too few valid rows, and no row is lost."""

from collections.abc import Callable, Iterable
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from lakehouse.auditing.audit import audit
from lakehouse.contracts.odcs import load_contract
from lakehouse.contracts.streams import Stream
from lakehouse.pipeline import cleaning, commits
from lakehouse.pipeline.ledger import Ledger
from lakehouse.pipeline.quality_gate import ObjectRows, blocked_objects, find_blocked
from lakehouse.pipeline.quarantine import land_corrections
from lakehouse.storage.iceberg import commit as committing
from lakehouse_tests.pipeline.own import Own, assert_conserved, noon, payment, threshold

DAY, NEXT = date(2016, 3, 1), date(2016, 3, 2)
HELD_BACK = "held back: under 95% of this partition's rows are valid"


def _at(minute: int) -> datetime:
    return datetime(2016, 3, 1, 18, minute, tzinfo=UTC)


@pytest.fixture
def gated(make_stream: Callable[..., Own]) -> Own:
    """A day with two good rows in silver, and an object with a good row, a new version of a row and four bad rows since."""
    own = make_stream()
    own.land([payment("a", noon(DAY)), payment("b", noon(DAY))], _at(0))
    own.bronze()
    own.clean(DAY)
    bad = [payment(f"x{n}", noon(DAY), status="lost") for n in range(4)]
    own.land([payment("c", noon(DAY)), payment("a", noon(DAY), amount="99"), *bad], _at(1))
    own.bronze()
    return own


@pytest.fixture(params=["in memory", "spilling"])
def group_kind(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "spilling":
        monkeypatch.setattr(cleaning, "MAX_ROWS_IN_MEMORY", 0)


def _silver(own: Own) -> list[tuple[str, str]]:
    return sorted(own.ask("select event_id, amount::varchar from {silver}"))


def _second_object(own: Own) -> str:
    return str(max(key for (key,) in own.ask("select distinct _object from {bronze}")))


COUNTS = st.builds(lambda valid, broken: ObjectRows(valid, valid + broken), st.integers(0, 40), st.integers(0, 40))


@given(objects=st.dictionaries(st.text("abcdef", min_size=1), COUNTS, max_size=8), threshold=st.floats(0, 1))
@example(objects={"a": ObjectRows(0, 0), "b": ObjectRows(1, 2)}, threshold=0.95)
def test_gate_blocks_the_worst_objects_and_no_more_than_it_must(
    objects: dict[str, ObjectRows], threshold: float
) -> None:
    def share_is_reached(counted: Iterable[ObjectRows]) -> bool:
        counted = list(counted)
        return sum(it.valid for it in counted) >= sum(it.rows for it in counted) * threshold

    blocked = find_blocked(objects, threshold)
    passed = {key: rows for key, rows in objects.items() if key not in blocked}
    assert share_is_reached(passed.values()) or not any(it.valid for it in objects.values())
    assert all(good.quality >= bad.quality for good in passed.values() for bad in blocked.values())
    if blocked:
        best = max(blocked.values(), key=lambda rows: rows.quality)
        assert not share_is_reached([*passed.values(), best])


@given(
    objects=st.dictionaries(st.text("abcdef", min_size=1), COUNTS, max_size=8),
    more=COUNTS,
    threshold=st.floats(0, 1),
)
def test_object_never_counts_against_a_better_one(
    objects: dict[str, ObjectRows], more: ObjectRows, threshold: float
) -> None:
    blocked = find_blocked(objects, threshold)
    for key in find_blocked(objects | {"more": more}, threshold).keys() - blocked.keys() - {"more"}:
        assert objects[key].quality <= more.quality or not any(rows.valid for rows in objects.values())


@pytest.mark.usefixtures("group_kind")
def test_blocked_object_keeps_its_rows_out_of_silver_and_loses_none(gated: Own) -> None:
    cleaned = gated.clean(DAY)
    assert cleaned.blocked == []
    # Silver keeps b and the first a. The new version of a is a duplicate. c and the four bad rows are in quarantine.
    blocked = {_second_object(gated): ObjectRows(2, 6)}
    assert cleaned.ledgers == {
        DAY: Ledger(landed=8, valid=4, silver=2, quarantined=5, duplicates=1, blocked_objects=blocked)
    }
    assert_conserved(gated, cleaned)
    assert _silver(gated) == [("a", "12.50"), ("b", "12.50")]
    lost = "status is none of pending, settled, declined"
    assert gated.quarantined() == [(DAY, [HELD_BACK]), *[(DAY, [lost])] * 4]
    assert blocked_objects(gated.lake.tables.load(f"quarantine.{gated.name}")) == {DAY: blocked}


@pytest.mark.usefixtures("group_kind")
def test_unreadable_object_does_not_count_against_the_others(make_stream: Callable[..., Own]) -> None:
    own = make_stream()
    own.land([payment(f"a{n}", noon(DAY)) for n in range(8)], noon(DAY))
    own.bronze()
    own.clean(DAY)
    unreadable = own.land(["garbage"] * 4, noon(DAY) + timedelta(minutes=1))
    own.land(
        [payment(f"b{n}", noon(DAY)) for n in range(7)] + [payment("a0", noon(DAY))], noon(DAY) + timedelta(minutes=2)
    )
    own.bronze()
    cleaned = own.clean(DAY)
    blocked = {unreadable: ObjectRows(0, 4)}
    assert cleaned.ledgers == {
        DAY: Ledger(landed=20, valid=16, silver=15, quarantined=4, duplicates=1, blocked_objects=blocked)
    }
    assert_conserved(own, cleaned)
    own.below(DAY)
    assert own.stale() == []
    assert audit(own.lake, [own.stream], DAY, DAY).findings == []


def test_day_with_a_blocked_object_is_not_stale_until_its_bronze_changes(gated: Own) -> None:
    gated.clean(DAY)
    gated.below(DAY)
    assert gated.stale() == []
    gated.land([payment("n", noon(NEXT))], noon(NEXT))
    gated.bronze(NEXT)
    assert gated.stale() == [NEXT]
    gated.clean(NEXT)
    gated.below(NEXT)
    assert gated.stale() == []
    gated.land([payment("late", noon(DAY))], noon(NEXT) + timedelta(minutes=1))
    gated.bronze(NEXT)
    assert gated.stale() == [DAY]


def test_blocking_an_object_again_changes_nothing(gated: Own) -> None:
    first = gated.clean(DAY)
    assert gated.clean(DAY).ledgers == first.ledgers
    assert _silver(gated) == [("a", "12.50"), ("b", "12.50")]
    assert len(gated.quarantined()) == 5


def test_blocked_object_passes_when_good_rows_arrive(gated: Own) -> None:
    gated.clean(DAY)
    many = [payment(f"good{n:03d}", noon(DAY)) for n in range(80)]
    gated.land(many, _at(2))
    gated.bronze()
    assert gated.stale() == [DAY]
    cleaned = gated.clean(DAY)
    assert cleaned.blocked == []
    assert cleaned.ledgers == {DAY: Ledger(landed=88, valid=84, silver=83, quarantined=4, duplicates=1)}
    assert_conserved(gated, cleaned)
    assert _silver(gated)[:3] == [("a", "99.00"), ("b", "12.50"), ("c", "12.50")]
    gated.below(DAY)
    assert gated.stale() == []


def test_gate_leaves_out_rows_that_corrected_rows_replace(make_stream: Callable[..., Own]) -> None:
    own = make_stream()
    bad = [payment("a", noon(DAY), status="lost"), payment("b", noon(DAY), status="lost")]
    key = own.land([payment("c", noon(DAY)), *bad], _at(0))
    own.bronze()
    own.clean(DAY)
    today = datetime.now(UTC).date()
    for number, blocked in ((2, {key: ObjectRows(1, 2)}), (3, {})):
        land_corrections(own.lake, own.stream, [((key, number), payment(f"fixed{number}", noon(DAY)))])
        own.bronze(today)
        cleaned = own.clean(DAY)
        assert cleaned.ledgers[DAY].blocked_objects == blocked
        assert_conserved(own, cleaned)
    assert [key for key, _ in _silver(own)] == ["c", "fixed2", "fixed3"]
    own.below(DAY)
    assert audit(own.lake, [own.stream], DAY, DAY).findings == []


def test_rows_of_a_blocked_object_are_in_a_table_at_every_commit(gated: Own, monkeypatch: pytest.MonkeyPatch) -> None:
    gated.clean(DAY)
    gated.land([payment(f"good{n:03d}", noon(DAY)) for n in range(80)], _at(2))
    gated.bronze()
    seen: list[bool] = []

    def commit_and_look(*arguments: Any, **options: Any) -> Any:
        done = committing.commit(*arguments, **options)
        seen.append("c" in {*_keys(gated, "silver"), *_keys(gated, "quarantine")})
        return done

    monkeypatch.setattr(commits, "commit", commit_and_look)
    assert gated.clean(DAY).blocked == []
    assert seen == [True] * 2  # silver, then quarantine, which gains no row


def _keys(own: Own, layer: str) -> set[str]:
    key = "event_id" if layer == "silver" else "json_extract_string(raw, '$.event_id')"
    return {value for (value,) in own.ask(f"select {key} from {{{layer}}}")}


@pytest.fixture
def blocked_whole(make_stream: Callable[..., Own]) -> Own:
    """A day with a row in silver, all of whose objects a changed contract blocks."""
    own = make_stream(edit=threshold(0.5))
    own.land([payment("a", noon(DAY)), payment("b", noon(DAY), status="lost")], _at(0))
    own.bronze()
    own.clean(DAY)
    file = own.stream.folder / "contract.odcs.yaml"
    file.write_text(file.read_text().replace("value: 0.5", "value: 0.95"))
    own.lake.streams = {own.name: Stream(own.name, own.stream.folder, load_contract(own.stream.folder))}
    return Own(own.lake, own.lake.streams[own.name])


@pytest.mark.usefixtures("group_kind")
def test_blocked_day_keeps_its_last_good_rows(blocked_whole: Own) -> None:
    own = blocked_whole
    own.land([payment("c", noon(DAY)), payment("d", noon(DAY), status="lost")], _at(1))
    own.bronze()
    cleaned = own.clean(DAY)
    assert cleaned.blocked == [DAY]
    ledger = cleaned.ledgers[DAY]
    assert (ledger.landed, ledger.silver, ledger.quarantined, ledger.duplicates) == (4, 1, 3, 0)
    assert set(ledger.blocked_objects.values()) == {ObjectRows(1, 2)}
    assert_conserved(own, cleaned)
    assert [key for key, _ in _silver(own)] == ["a"]
    own.below(DAY)
    assert own.stale() == []
    assert [it for it in audit(own.lake, [own.stream], DAY, DAY).findings if it.state == "wrong"] == []


def test_blocked_day_does_not_stop_other_days_of_the_run(blocked_whole: Own) -> None:
    own = blocked_whole
    own.land([payment("n", noon(NEXT))], noon(NEXT))
    own.bronze(NEXT)
    cleaned = own.clean(DAY, NEXT)
    assert cleaned.blocked == [DAY]
    assert_conserved(own, cleaned)
    assert own.counts("silver") == {DAY: 1, NEXT: 1}


def test_blocked_first_day_leaves_silver_empty(make_stream: Callable[..., Own]) -> None:
    own = make_stream()
    key = own.land([payment("a", noon(DAY)), payment("b", noon(DAY), status="lost")], _at(0))
    own.bronze()
    cleaned = own.clean(DAY)
    blocked = {key: ObjectRows(1, 2)}
    assert cleaned.ledgers == {
        DAY: Ledger(landed=2, valid=1, silver=0, quarantined=2, blocked=True, blocked_objects=blocked)
    }
    assert_conserved(own, cleaned)
    assert own.stale() == []
