"""An audit finds nothing wrong, whatever has arrived and however much of it is computed."""

import os
from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime, timedelta

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from lakehouse.auditing.audit import audit
from lakehouse.auditing.findings import Finding
from lakehouse.contracts.odcs import load_contract
from lakehouse.pipeline.exports import export_unified
from lakehouse_tests.pipeline.own import Own, days_apart, noon, payment
from lakehouse_tests.pipeline.test_conservation import LANDINGS, Row

STEPS = st.lists(
    st.sampled_from(("bronze", "bronze again", "silver", "below", "realtime", "realtime again", "export")), max_size=5
)
EXAMPLES = 24 if os.environ.get("NIGHTLY") else 3
"""Few, because each takes seconds: it computes and compares every layer several times."""

ORIGIN, APART = date(2014, 1, 1), 60
"""Examples share their tables, so their days lie apart by this many."""


@pytest.fixture(scope="module")
def examples() -> Callable[[], date]:
    return days_apart(ORIGIN, APART)


@pytest.fixture
def own(make_stream: Callable[..., Own]) -> Own:
    # With the default threshold, so that the quality gate blocks many of these days.
    return make_stream()


@settings(
    max_examples=EXAMPLES, deadline=None, derandomize=True, database=None,
    phases=[Phase.generate],  # as in test_conservation
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)  # fmt: skip
@given(data=st.data(), drawn=LANDINGS)
def test_audit_reports_nothing_wrong_at_any_moment(
    own: Own, examples: Callable[[], date], data: st.DataObject, drawn: list[tuple[int, tuple[Row, ...]]]
) -> None:
    first = examples()
    arrivals = [first + timedelta(days=n) for n in range(3)]
    days: set[date] = set()
    for number, (after, rows) in enumerate(drawn):
        at = datetime.combine(first + timedelta(days=after), datetime.min.time(), UTC) + timedelta(
            hours=12, seconds=number
        )
        own.land([row.line(at.date()) for row in rows], at)
        days |= {row.day(at.date()) for row in rows}
        for step in data.draw(STEPS):
            _run(own, step, arrivals, sorted(days))
    assert [finding for finding in _findings(own, first) if finding.state == "wrong"] == []
    for step in ("bronze", "realtime", "silver", "below", "export"):
        _run(own, step, arrivals, sorted(days))
    assert [finding for finding in _findings(own, first) if not _of_features(finding)] == []


def _findings(own: Own, first: date) -> Sequence[Finding]:
    return audit(own.lake, [own.stream], first - timedelta(days=45), first + timedelta(days=5)).findings


def _of_features(finding: Finding) -> bool:
    """Tell whether a finding is about features, whose window of thirty days reaches back into the example before."""
    return "features was computed before" in finding.detail


def _run(own: Own, step: str, arrivals: list[date], days: list[date]) -> None:
    match step.split():
        case ["bronze", *again]:
            own.bronze(*arrivals, replace=bool(again))
        case ["realtime", *again]:
            own.refresh_realtime(*(f"{day}-12:00" for day in arrivals), replace=bool(again))
        case ["silver"]:
            own.clean(*days)
        case ["below"]:
            own.below(*days)
        case _:
            export_unified(own.lake, own.stream, days)


def test_blocked_day_is_not_wrong(make_stream: Callable[..., Own]) -> None:
    own = make_stream()
    day = date(2016, 5, 1)
    own.land([payment(f"e{n}", noon(day)) for n in range(3)], noon(day))
    own.bronze()
    own.clean(day)
    own.land([payment("f", noon(day)), payment("e1", noon(day), status="lost"), "{"], noon(day) + timedelta(seconds=1))
    own.bronze()
    assert own.clean(day).blocked == [day]
    own.below(day)
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
