"""You can read rejected rows, correct them and bring them in, and nothing is counted twice on the way."""

import json
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta

import pytest

from lakehouse.auditing.audit import audit
from lakehouse.contracts.odcs import load_contract
from lakehouse.contracts.streams import Stream
from lakehouse.errors import LakehouseError
from lakehouse.pipeline import quarantine
from lakehouse_tests.pipeline.own import Edit, Own, noon, payment, threshold

DAY = date(2019, 4, 1)
LATER = DAY + timedelta(days=1)


@pytest.fixture
def cleaned(make_stream: Callable[..., Own]) -> Own:
    """A stream with two days in silver, each with rejected rows."""
    own = make_stream(edit=threshold(0.2))
    good = [payment(f"e{n}", noon(DAY)) for n in range(4)]
    own.land([*good, payment("lost", noon(DAY), status="lost"), payment("low", noon(DAY), amount="-1"), "{"], noon(DAY))
    own.land([payment("other", noon(LATER)), payment("both", noon(LATER), amount="-1", status="lost")], noon(LATER))
    own.bronze()
    own.clean(DAY, LATER)
    return own


@pytest.fixture
def own(cleaned: Own) -> Own:
    """The same stream, computed down to serving."""
    cleaned.below(DAY, LATER)
    return cleaned


def _with_contract(own: Own, edit: Edit) -> Own:
    """Open the same stream with a changed contract."""
    file = own.stream.folder / "contract.odcs.yaml"
    file.write_text(edit(file.read_text()))
    stream = Stream(own.name, own.stream.folder, load_contract(own.stream.folder))
    own.lake.streams = {own.name: stream}
    return Own(own.lake, stream)


def _lost_is_known(text: str) -> str:
    return text.replace("- value: declined", "- value: declined\n          - value: lost")


def test_rejected_rows_are_counted_by_day_and_reason(cleaned: Own) -> None:
    counts = {(day, reason): rows for day, reason, rows in quarantine.count_by_reason(cleaned.lake, cleaned.stream)}
    status = "status is none of pending, settled, declined"
    assert counts[DAY, status] == counts[LATER, status] == 1
    assert counts[DAY, "amount is not above 0"] == 1
    assert sum(counts.values()) == 5
    where = quarantine.filter_sql(LATER, LATER, "AMOUNT")
    (row,) = quarantine.rejected_rows(cleaned.lake, cleaned.stream, where)
    assert (row.dt, row.row, len(row.reasons)) == (LATER, 2, 2)
    assert json.loads(row.raw)["event_id"] == "both"


def test_changed_contract_brings_a_rejected_row_in(own: Own) -> None:
    assert quarantine.preview_replay(own.lake, own.stream).days == []
    own = _with_contract(own, _lost_is_known)
    outcome = quarantine.preview_replay(own.lake, own.stream)
    assert (outcome.valid, outcome.refused, outcome.held_back) == (1, 3, [])
    assert outcome.reasons["amount is not above 0"] == 2
    assert outcome.days == [DAY, LATER], "on the second a reason goes, though its row stays refused"
    assert own.counts("silver") == {DAY: 4, LATER: 1}, "foreseeing changes nothing"
    own.clean(*outcome.days)
    own.below(*outcome.days)
    assert own.counts("silver") == {DAY: 5, LATER: 1}
    assert quarantine.preview_replay(own.lake, own.stream).days == []
    assert audit(own.lake, [own.stream]).findings == []


def test_row_with_a_newly_readable_time_moves_to_its_day(make_stream: Callable[..., Own]) -> None:
    def strict(text: str) -> str:
        return threshold(0)(text) + "  - property: historyStart\n    value: 2019-04-01\n"

    own = make_stream(edit=strict)
    own.land([payment("old", noon(date(2018, 1, 1))), payment("new", noon(DAY))], noon(DAY))
    own.bronze()
    own.clean(DAY)
    assert own.counts("quarantine") == {DAY: 1}
    own = _with_contract(own, lambda text: text.replace("value: 2019-04-01", "value: 2017-01-01"))
    assert quarantine.preview_replay(own.lake, own.stream).days == [date(2018, 1, 1), DAY]
    assert quarantine.move_redated_rows(own.lake, own.stream) == [date(2018, 1, 1), DAY]
    assert quarantine.move_redated_rows(own.lake, own.stream) == []
    own.clean(date(2018, 1, 1), DAY)
    assert own.counts("silver") == {date(2018, 1, 1): 1, DAY: 1}
    assert own.counts("quarantine") == {}
    own.below(date(2018, 1, 1), DAY)
    assert audit(own.lake, [own.stream]).findings == []


def test_corrected_rows_land_once_and_name_what_they_replace(own: Own) -> None:
    rows = [
        (row.object, row.row, json.loads(row.raw))
        for row in quarantine.rejected_rows(own.lake, own.stream)
        if row.raw != "{"
    ]
    corrected = [((key, row), {**values, "amount": "9.00", "status": "settled"}) for key, row, values in rows]
    lines = [json.dumps(values).encode() for _, values in corrected]
    assert quarantine.validate_rows(own.lake, own.stream, [*lines, b'{"event_id": 1}'])[3]
    assert quarantine.validate_rows(own.lake, own.stream, lines) == {}
    key = quarantine.land_corrections(own.lake, own.stream, corrected)
    assert quarantine.land_corrections(own.lake, own.stream, corrected) == key
    own.bronze()
    own.clean(*own.stale())
    own.below(DAY, LATER)
    assert own.counts("silver") == {DAY: 6, LATER: 2}
    origins = own.ask(
        f"select json_extract_string(_extra, '$._replaces.row') from {{bronze}} where _object = '{key}' order by all"
    )
    assert origins == [("2",), ("5",), ("6",)]
    (left,) = quarantine.rejected_rows(own.lake, own.stream)
    assert left.raw == "{"
    assert own.counts("quarantine") == {DAY: 3, LATER: 1}, "what was refused did land and was refused"
    assert audit(own.lake, [own.stream]).wrong == []
    with pytest.raises(LakehouseError, match="replace no open row in quarantine"):
        quarantine.land_corrections(own.lake, own.stream, [((key, 99), {})])


def test_corrected_rows_arrive_when_they_are_landed(cleaned: Own) -> None:
    refused = next(iter(quarantine.rejected_rows(cleaned.lake, cleaned.stream, quarantine.filter_sql(reason="status"))))
    quarantine.land_corrections(
        cleaned.lake, cleaned.stream, [((refused.object, refused.row), payment("e0", noon(DAY), amount="7"))]
    )
    cleaned.bronze()
    cleaned.clean(DAY)
    ((amount, at),) = cleaned.ask("select amount, _arrived_at from {silver} where event_id = 'e0'")
    assert amount == 7, "of several with one key the latest arrival wins"
    assert datetime.now(UTC) - at.replace(tzinfo=UTC) < timedelta(minutes=10)
