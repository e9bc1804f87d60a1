"""An audit finds nothing wrong, whatever has arrived and however much of it is computed."""

from collections.abc import Callable, Sequence
from datetime import date, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lakehouse.auditing.audit import audit
from lakehouse.auditing.findings import Finding
from lakehouse.contracts.odcs import load_contract
from lakehouse.pipeline import day_groups, quality_gate
from lakehouse_tests.pipeline.landings import OBJECTS, DrawnObjects, examples, first_days, landings_from, run_step
from lakehouse_tests.pipeline.own import Own, noon, payment

STEPS = st.lists(
    st.sampled_from(("bronze", "bronze again", "silver", "below", "realtime", "realtime again", "export")), max_size=5
)


@pytest.fixture(scope="module")
def next_first_day() -> Callable[[], date]:
    return first_days(date(2014, 1, 1))


@pytest.fixture
def own(make_stream: Callable[..., Own]) -> Own:
    # With the default threshold, so that the quality gate blocks many of these days.
    return make_stream()


@examples(3, nightly=24)
@given(data=st.data(), drawn=OBJECTS)
def test_audit_reports_nothing_wrong_at_any_moment(
    own: Own, next_first_day: Callable[[], date], data: st.DataObject, drawn: DrawnObjects
) -> None:
    first = next_first_day()
    days: set[date] = set()
    for landing in landings_from(first, drawn):
        landing.land(own)
        days |= landing.days
        for step in data.draw(STEPS):
            run_step(own, step, first, sorted(days))
    assert [finding for finding in _findings(own, first) if finding.state == "wrong"] == []
    for step in ("bronze", "realtime", "silver", "below", "export"):
        run_step(own, step, first, sorted(days))
    assert [finding for finding in _findings(own, first) if not _of_features(finding)] == []


def _findings(own: Own, first: date) -> Sequence[Finding]:
    return audit(own.lake, [own.stream], first - timedelta(days=45), first + timedelta(days=5)).findings


def _of_features(finding: Finding) -> bool:
    """Return whether a finding is about features, whose window of thirty days reaches back into the example before."""
    return "features was computed before" in finding.detail


def test_blocked_day_is_not_wrong(make_stream: Callable[..., Own]) -> None:
    own = make_stream()
    day = date(2016, 5, 1)
    own.land([payment(f"e{n}", noon(day)) for n in range(3)], noon(day))
    own.bronze()
    own.clean(day)
    own.land([payment("f", noon(day)), payment("e1", noon(day), status="lost"), "{"], noon(day) + timedelta(seconds=1))
    own.bronze()
    assert len(own.clean(day).ledgers[day].blocked_objects) == 1
    own.below(day)
    assert audit(own.lake, [own.stream]).findings == []


def test_day_that_an_earlier_release_blocked_is_neither_wrong_nor_stale(
    make_stream: Callable[..., Own], monkeypatch: pytest.MonkeyPatch
) -> None:
    own = make_stream()
    day = date(2016, 5, 1)
    own.land([payment("a", noon(day))], noon(day))
    own.bronze()
    own.clean(day)
    own.land([payment("b", noon(day))], noon(day) + timedelta(seconds=1))
    own.land([payment("c", noon(day)), "{"], noon(day) + timedelta(seconds=2))
    own.bronze()
    with monkeypatch.context() as earlier:
        earlier.setattr(day_groups, "find_blocked", lambda objects, threshold: objects)
        earlier.setattr(quality_gate, "as_counts", lambda objects: {})
        assert own.clean(day).blocked == [day]
    own.below(day)
    assert own.counts("silver") == {day: 1}
    assert own.stale() == []
    assert audit(own.lake, [own.stream]).findings == []
    assert own.clean(day).blocked == []
    assert own.stale() == [day], "only what is below silver"
    own.below(day)
    assert own.counts("silver") == {day: 2}
    assert audit(own.lake, [own.stream]).findings == []


def test_changed_sql_makes_a_day_stale_not_wrong(make_stream: Callable[..., Own]) -> None:
    own = make_stream()
    day = date(2016, 5, 1)
    own.land([payment("a", noon(day), amount="20000")], noon(day))
    own.bronze()
    own.clean(day)
    own.below(day)
    for query in ("gold", "features", "alerts"):
        file = own.stream.folder / f"{query}.sql"
        file.write_text(f"select * from ({own.stream.sql(query)}) where false")
    findings = audit(own.lake, [own.stream]).findings
    assert {finding.state for finding in findings} == {"stale"}
    queries = {
        query
        for finding in findings
        for query in ("gold", "features", "alerts")
        if f"another {query}.sql than" in finding.detail
    }
    assert queries == {"gold", "features", "alerts"}
    own.below(day)
    assert audit(own.lake, [own.stream]).findings == []


def test_changed_contract_makes_a_day_stale_not_wrong(make_stream: Callable[..., Own]) -> None:
    own = make_stream(edit=lambda text: text + "\n  - property: qualityThreshold\n    value: 0\n")
    day = date(2016, 5, 1)
    own.land([payment("a", noon(day)), payment("b", noon(day), status="lost")], noon(day))
    own.bronze()
    own.clean(day)
    own.below(day)
    contract = own.stream.folder / "contract.odcs.yaml"
    contract.write_text(contract.read_text().replace("- value: declined", "- value: declined\n          - value: lost"))
    own.lake.streams = {own.name: type(own.stream)(own.name, own.stream.folder, load_contract(own.stream.folder))}
    changed = Own(own.lake, own.lake.streams[own.name])
    findings = audit(own.lake, [changed.stream]).findings
    assert {(finding.layer, finding.state) for finding in findings} == {("silver", "stale"), ("quarantine", "stale")}
    assert all(
        finding.detail.startswith("was computed by another contract than today's, by which ") for finding in findings
    )
    changed.clean(day)
    changed.below(day)
    assert audit(own.lake, [changed.stream]).findings == []
    assert changed.counts("silver") == {day: 2}
