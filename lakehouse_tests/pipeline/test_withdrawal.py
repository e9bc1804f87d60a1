"""Withdrawn objects leave every layer as if they had never landed, and may land again."""

import json
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest

from lakehouse.auditing.audit import audit
from lakehouse.cli.withdraw import keys_of_file
from lakehouse.errors import ObjectNotFoundError
from lakehouse.landing.upload import upload
from lakehouse.maintenance.erase import rewrite_exports
from lakehouse.pipeline import withdrawal
from lakehouse.pipeline.exports import export_unified
from lakehouse.pipeline.quality_gate import ObjectRows
from lakehouse.pipeline.row_changes import delete_rows
from lakehouse.pipeline.withdrawal import find_objects, withdraw_objects
from lakehouse_tests.pipeline.own import Event, Own, land_together, noon, payment

DAY = datetime.now(UTC).date() - timedelta(days=2)
OTHER_DAY = DAY - timedelta(days=9)


@pytest.fixture
def own(make_stream: Callable[..., Own]) -> Own:
    """A stream with ten valid rows of a day, all of them in every layer."""
    return _with_ten_rows(make_stream())


@pytest.fixture(scope="module")
def restored(make_shared_stream: Callable[..., Own]) -> Own:
    """Such a stream for tests that leave its rows as they were."""
    return _with_ten_rows(make_shared_stream())


def _with_ten_rows(own: Own) -> Own:
    own.land([payment(f"e{n}", noon(DAY)) for n in range(10)], noon(DAY))
    _compute(own)
    return own


def _compute(own: Own, *days: date) -> None:
    days = days or (DAY,)
    own.bronze()
    own.refresh_realtime(f"{DAY}-12:00")
    own.clean(*days)
    own.below(*days)
    export_unified(own.lake, own.stream, days)
    rewrite_exports(own.lake, own.stream)


def _rows(own: Own) -> dict[str, list[tuple[object, ...]]]:
    layers = ("bronze", "realtime", "silver", "quarantine", "unified")
    return {layer: sorted(own.ask(f"select * from {{{layer}}}"), key=str) for layer in layers}


def test_withdrawn_objects_leave_no_row_and_may_land_again(own: Own) -> None:
    before = _rows(own)
    mistakes: list[list[Event]] = [
        [payment("e1", noon(DAY), amount="99"), payment("new", noon(OTHER_DAY)), *["garbage"] * 9],
        [payment("e2", noon(DAY), amount="98")],
    ]
    moments = [noon(DAY) + timedelta(seconds=1 + n) for n in range(2)]
    keys = [own.land(events, at) for events, at in zip(mistakes, moments, strict=True)]
    own.bronze()
    own.refresh_realtime(f"{DAY}-12:00")
    assert own.clean(OTHER_DAY, DAY).ledgers[DAY].blocked_objects == {keys[0]: ObjectRows(1, 10)}

    found = find_objects(own.lake, own.stream, keys)
    assert (found.rows, found.days, found.record) == ({keys[0]: 11, keys[1]: 1}, [OTHER_DAY, DAY], None)
    withdrawn = withdraw_objects(own.lake, own.stream, keys)
    assert (withdrawn.rows, withdrawn.days) == (found.rows, found.days)
    record = json.loads(own.lake.objects.get(str(withdrawn.record)))
    assert (record["objects"], record["days"]) == (found.rows, [str(OTHER_DAY), str(DAY)])
    assert own.stale() == [OTHER_DAY, DAY]
    _compute(own, OTHER_DAY, DAY)
    assert _rows(own) == before
    assert audit(own.lake, [own.stream]).findings == []

    with pytest.raises(ObjectNotFoundError, match=keys[0]):
        find_objects(own.lake, own.stream, keys)
    assert own.land(mistakes[1], moments[1]) != keys[1]
    _compute(own)
    assert own.ask("select amount::varchar from {silver} where event_id = 'e2'") == [("98.00",)]
    assert audit(own.lake, [own.stream]).findings == []


def test_withdrawn_section_leaves_its_neighbor(restored: Own, make_stream: Callable[..., Own]) -> None:
    own, neighbor, at = restored, make_stream(), noon(DAY) + timedelta(seconds=1)
    before = _rows(own)
    mistake, kept = land_together([(own, [payment("new", noon(DAY))]), (neighbor, [payment("other", noon(DAY))])], at)
    assert find_objects(own.lake, own.stream, [mistake]).rows == {mistake: 0}
    own.bronze()
    withdraw_objects(own.lake, own.stream, [mistake])
    _compute(own)
    assert _rows(own) == before
    neighbor.bronze()
    assert neighbor.ask("select event_id, _object from {bronze}") == [("other", kept)]


def test_object_that_bronze_lacks_is_withdrawn(restored: Own) -> None:
    own, before = restored, _rows(restored)
    key = own.drop(b"garbage\n", "mistake.zip")
    assert find_objects(own.lake, own.stream, [key]).rows == {key: 0}
    withdraw_objects(own.lake, own.stream, [key])
    _compute(own)
    assert _rows(own) == before


def test_withdrawn_rows_leave_a_day_of_which_only_a_blocked_object_is_left(own: Own) -> None:
    good = [info.key for info in own.lake.objects.list(f"realtime/{own.name}")]
    own.land([payment("e1", noon(DAY)), payment("x", noon(DAY), status="lost")], noon(DAY) + timedelta(seconds=1))
    _compute(own)
    withdraw_objects(own.lake, own.stream, good)
    for _ in range(2):
        _compute(own)
        assert (own.ask("select event_id from {silver}"), own.counts("quarantine")) == ([("e1",)], {DAY: 1})
        assert audit(own.lake, [own.stream]).findings == []


@pytest.mark.parametrize("dialect", [None, {"delimiter": ";"}])
def test_file_is_found_as_it_was_loaded(
    make_stream: Callable[..., Own], tmp_path: Path, dialect: dict[str, str] | None
) -> None:
    own = make_stream(tables=False)
    path = tmp_path / "a.csv"
    path.write_text(f"event_id;event_time\n1;{DAY}\n")
    landed, _ = upload(own.lake.objects, own.name, path, dialect)
    assert keys_of_file(own.lake, path) == [landed.key]


@pytest.mark.parametrize("step", ["bronze", "realtime"])
def test_interrupted_withdrawal_can_be_run_again(restored: Own, monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    own, before = restored, _rows(restored)
    key = own.land([payment("new", noon(DAY))], noon(DAY) + timedelta(seconds=1))
    _compute(own)

    def interrupted_delete(lake: object, table_name: str, where: str, *, run_id: str) -> None:
        if table_name.startswith(step):
            raise KeyboardInterrupt
        delete_rows(own.lake, table_name, where, run_id=run_id)

    monkeypatch.setattr(withdrawal, "delete_rows", interrupted_delete)
    with pytest.raises(KeyboardInterrupt):
        withdraw_objects(own.lake, own.stream, [key])
    monkeypatch.undo()
    withdraw_objects(own.lake, own.stream, [key])
    _compute(own)
    assert _rows(own) == before
    assert audit(own.lake, [own.stream]).findings == []
