"""The quality gate blocks days with too few valid rows: silver keeps what it held, and nothing is lost."""

from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest

from lakehouse.auditing.audit import audit
from lakehouse.pipeline import commits
from lakehouse.pipeline.ledger import Ledger
from lakehouse.pipeline.quarantine import land_corrections
from lakehouse.storage.iceberg import commit as committing
from lakehouse_tests.pipeline.own import Own, assert_conserved, noon, payment

DAY, NEXT = date(2016, 3, 1), date(2016, 3, 2)
HELD_BACK = "held back: under 95% of this partition's rows are valid"


def _at(minute: int) -> datetime:
    return datetime(2016, 3, 1, 18, minute, tzinfo=UTC)


@pytest.fixture
def gated(make_stream: Callable[..., Own]) -> Own:
    """A day with two good rows in silver, where a good row, a new version of a row and four bad rows arrived since."""
    own = make_stream()
    own.land([payment("a", noon(DAY)), payment("b", noon(DAY))], _at(0))
    own.bronze()
    own.clean(DAY)
    own.below(DAY)
    assert own.stale() == []
    bad = [payment(f"x{n}", noon(DAY), status="lost") for n in range(4)]
    own.land([payment("c", noon(DAY)), payment("a", noon(DAY), amount="99"), *bad], _at(1))
    own.bronze()
    assert own.stale() == [DAY]
    return own


def _silver(own: Own) -> list[tuple[str, str]]:
    return sorted(own.ask("select event_id, amount::varchar from {silver}"))


def test_blocked_day_keeps_its_last_good_rows_and_loses_none(gated: Own) -> None:
    cleaned = gated.clean(DAY)
    assert cleaned.blocked == [DAY]
    # Silver keeps b and the first a. The new version of a is a duplicate. c and the four bad rows are in quarantine.
    assert cleaned.ledgers == {DAY: Ledger(landed=8, valid=4, silver=2, quarantined=5, duplicates=1, blocked=True)}
    assert_conserved(gated, cleaned)
    assert _silver(gated) == [("a", "12.50"), ("b", "12.50")]
    lost = "status is none of pending, settled, declined"
    assert gated.quarantined() == [(DAY, [HELD_BACK]), *[(DAY, [lost])] * 4]


def test_blocked_day_is_not_stale_until_its_bronze_changes(gated: Own) -> None:
    gated.clean(DAY)
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


def test_blocking_a_day_again_changes_nothing(gated: Own) -> None:
    first = gated.clean(DAY)
    assert gated.clean(DAY).ledgers == first.ledgers
    assert _silver(gated) == [("a", "12.50"), ("b", "12.50")]
    assert len(gated.quarantined()) == 5


def test_blocked_day_recovers_when_good_rows_arrive(gated: Own) -> None:
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
    key = own.land([payment("a", noon(DAY), status="lost"), payment("b", noon(DAY), status="lost")], _at(0))
    own.bronze()
    own.clean(DAY)
    today = datetime.now(UTC).date()
    for number, blocked in ((1, [DAY]), (2, [])):
        land_corrections(own.lake, own.stream, [((key, number), payment(f"fixed{number}", noon(DAY)))])
        own.bronze(today)
        cleaned = own.clean(DAY)
        assert cleaned.blocked == blocked
        assert_conserved(own, cleaned)
    assert [key for key, _ in _silver(own)] == ["fixed1", "fixed2"]
    own.below(DAY)
    assert audit(own.lake, [own.stream], DAY, DAY).findings == []


def test_rows_of_a_recovering_day_are_in_a_table_at_every_commit(gated: Own, monkeypatch: pytest.MonkeyPatch) -> None:
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
    assert seen == [True] * 3


def _keys(own: Own, layer: str) -> set[str]:
    key = "event_id" if layer == "silver" else "json_extract_string(raw, '$.event_id')"
    return {value for (value,) in own.ask(f"select {key} from {{{layer}}}")}


def test_blocked_day_does_not_stop_other_days_of_the_run(gated: Own) -> None:
    gated.land([payment("n", noon(NEXT))], noon(NEXT))
    gated.bronze(NEXT)
    cleaned = gated.clean(DAY, NEXT)
    assert cleaned.blocked == [DAY]
    assert_conserved(gated, cleaned)
    assert gated.counts("silver") == {DAY: 2, NEXT: 1}


def test_blocked_first_day_leaves_silver_empty(make_stream: Callable[..., Own]) -> None:
    own = make_stream()
    own.land([payment("a", noon(DAY)), payment("b", noon(DAY), status="lost")], _at(0))
    own.bronze()
    cleaned = own.clean(DAY)
    assert cleaned.ledgers == {DAY: Ledger(landed=2, valid=1, silver=0, quarantined=2, blocked=True)}
    assert_conserved(own, cleaned)
    assert own.stale() == []
