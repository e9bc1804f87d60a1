"""While a changed contract is applied, each row is in silver or in quarantine at every moment, and a killed run is repeated."""

from collections.abc import Callable
from datetime import date, timedelta
from itertools import count
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from lakehouse.auditing.audit import audit
from lakehouse.contracts.odcs import load_contract
from lakehouse.contracts.streams import Stream
from lakehouse.pipeline import commits
from lakehouse.storage.iceberg import commit as committing
from lakehouse_tests.nightly import more_at_night
from lakehouse_tests.pipeline.own import Own, assert_conserved, noon, payment

ORIGIN = date(2012, 1, 1)
EXAMPLES = more_at_night(3, 40)
"""Few, because each takes seconds."""

STATUSES = ("settled", "pending", "lost", "declined")
CONTRACTS = st.tuples(
    st.sets(st.sampled_from(STATUSES), min_size=1).map(lambda allowed: sorted(allowed)), st.sampled_from((0, 0.5, 0.95))
)
REPEATED = "select _object, _row from {quarantine} group by all having count(*) > 1"
ROWS = st.lists(st.sampled_from(STATUSES), min_size=1, max_size=6)


class _KilledError(BaseException):
    """The run dies here."""


@pytest.fixture(scope="module")
def examples() -> Callable[[], date]:
    """Give each example its own day and the one after, because examples share their tables."""
    numbers = count()
    return lambda: ORIGIN + timedelta(days=2 * next(numbers))


@pytest.fixture
def own(make_stream: Callable[..., Own]) -> Own:
    return make_stream()


@settings(
    max_examples=EXAMPLES, derandomize=True, database=None,
    phases=[Phase.generate],  # shrinking against real storage takes minutes
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)  # fmt: skip
@given(first=CONTRACTS, second=CONTRACTS, rows=ROWS, late=ROWS, killed_at=st.integers(1, 4))
def test_each_row_is_in_a_table_while_a_contract_changes(
    own: Own,
    examples: Callable[[], date],
    first: tuple[list[str], float],
    second: tuple[list[str], float],
    rows: list[str],
    late: list[str],
    killed_at: int,
) -> None:
    day = examples()
    own.land([payment(f"{day}-{n}", noon(day), status=status) for n, status in enumerate(rows)], noon(day))
    own.bronze(day)
    before = _with_contract(own, *first)
    before.clean(day)
    known = _keys(before, day)
    assert len(known) == len(rows)
    own.land(
        [payment(f"{day}-late{n}", noon(day), status=status) for n, status in enumerate(late)],
        noon(day).replace(hour=13),
    )
    own.bronze(day)
    after = _with_contract(own, *second)
    done: list[Any] = []

    def commit_and_look(*arguments: Any, **options: Any) -> Any:
        if len(done) + 1 == killed_at:
            raise _KilledError
        done.append(committing.commit(*arguments, **options))
        assert known <= _keys(after, day)
        assert after.ask(REPEATED) == []
        return done[-1]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(commits, "commit", commit_and_look)
        try:
            after.clean(day)
        except _KilledError:
            assert [
                finding for finding in audit(after.lake, [after.stream], day, day).wrong if finding.layer != "gold"
            ] == []
            assert day in after.stale()
    assert_conserved(after, after.clean(day))
    assert len(_keys(after, day)) == len(rows) + len(late)


def _with_contract(own: Own, allowed: list[str], threshold: float) -> Own:
    """Open the stream with these allowed statuses and this quality threshold."""
    file = own.stream.folder / "contract.odcs.yaml"
    original = _original(own)
    start, end = original.index("          - value: pending"), original.index("          - value: declined\n")
    end += len("          - value: declined\n")
    enum = "".join(f"          - value: {status}\n" for status in allowed)
    text = original[:start] + enum + original[end:]
    file.write_text(text + f"\n  - property: qualityThreshold\n    value: {threshold}\n")
    stream = Stream(own.name, own.stream.folder, load_contract(own.stream.folder))
    own.lake.streams = {own.name: stream}
    return Own(own.lake, stream)


def _original(own: Own) -> str:
    kept = own.stream.folder / "original.yaml"
    if not kept.exists():
        kept.write_text((own.stream.folder / "contract.odcs.yaml").read_text())
    return kept.read_text()


def _keys(own: Own, day: date) -> set[str]:
    """Return the keys of the day's rows in silver and in quarantine."""
    where = f"dt = date '{day}'"
    silver = own.ask(f"select event_id from {{silver}} where {where}")
    quarantine = own.ask(f"select json_extract_string(raw, '$.event_id') from {{quarantine}} where {where}")
    return {key for (key,) in [*silver, *quarantine]}
