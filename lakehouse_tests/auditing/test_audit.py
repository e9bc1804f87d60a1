"""An audit finds data that was changed by hand, and reports it in the right place and nowhere else."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

import pytest

from lakehouse.auditing import receipts
from lakehouse.auditing.audit import audit
from lakehouse.auditing.findings import Report
from lakehouse.auditing.realtime import UNIFIED
from lakehouse.auditing.serving import LIVE, OBJECTS
from lakehouse.engine.connection import copy_to_files, scan_sql
from lakehouse.errors import LakehouseError
from lakehouse.landing.listing import list_day
from lakehouse.landing.readers import relation
from lakehouse.pipeline.commits import LEDGER_PROPERTY
from lakehouse.pipeline.exports import export_unified, unified_key
from lakehouse.storage.iceberg.commit import commit, upload
from lakehouse.storage.iceberg.manifests import select_files
from lakehouse.storage.iceberg.partitions import partitions_filter
from lakehouse_tests.pipeline.own import Own, noon, payment, span, threshold

TODAY = datetime.now(UTC).date()
INTACT_DAY = TODAY - timedelta(days=40)
"""A day that no fault is planted in."""

MADE_UP = """
select *
from (values (date '{day}', 'a', 'b', 'c', timestamp '{day}', 1::double, 1::double, 'm', 'k'))
as made_up(dt, alert, severity, entity, event_time, value, threshold, message, event_key)
"""


def _audited(own: Own, first: date | None = None, last: date | None = None) -> Report:
    return audit(own.lake, [own.stream], first, last)


def _land(own: Own, day: date) -> str:
    good = [payment(f"e{n}", noon(day), amount=f"{n + 1}.25") for n in range(8)]
    return own.land([*good, good[0], {**good[1], "status": "lost"}, "{"], noon(day))


def _compute(own: Own, *days: date) -> None:
    own.bronze(*days)
    own.refresh_realtime(*(f"{day}-12:00" for day in days))
    own.clean(*days)
    own.below(*days)
    export_unified(own.lake, own.stream, days)


def _change(own: Own, name: str, day: date, change: str) -> None:
    """Replace a partition by hand with the rows of `change`, a SELECT over `{rows}`."""
    table = own.lake.tables.load(name.format(own.name))
    column = table.spec().fields[0].name
    value = f"{day}-12" if column == "arrival_hour" else day
    touched = partitions_filter(column, [value])
    with own.lake.engine.scratch() as folder, own.lake.engine.cursor() as cursor:
        select = change.replace("{day}", str(day)).replace(
            "{rows}", f"(from {scan_sql(table)} where {column} = '{value}')"
        )
        added = upload(own.lake.connection, table, copy_to_files(cursor, select, table, folder, name="changed"))
    commit(table, added, touched=touched, removed=select_files(table, touched), properties={})


def _lose_file(own: Own, name: str, day: date) -> None:
    """Delete a data file of a partition from storage."""
    table = own.lake.tables.load(name.format(own.name))
    (data_file, *_) = select_files(table, partitions_filter(table.spec().fields[0].name, [day]))
    table.io.delete(data_file.file_path)


def _edit_ledger(own: Own, day: date) -> None:
    """Commit a wrong ledger of a day, and no rows."""
    table = own.lake.tables.load(f"quarantine.{own.name}")
    ledger = {"rows": 0, "landed": 12, "valid": 9, "silver": 8, "quarantined": 2, "duplicates": 2}
    commit(
        table, [], touched=partitions_filter("dt", [day]), properties={LEDGER_PROPERTY: json.dumps({str(day): ledger})}
    )


def _lose_landed(own: Own, day: date) -> None:
    own.lake.objects.delete(obj.key for obj in list_day(own.lake.objects, own.name, day))


def _lose_uningested(own: Own, day: date) -> None:
    """Delete an object that realtime has ingested and bronze has not."""
    key = own.land([payment("uningested", noon(day))], noon(day) + timedelta(seconds=1))
    own.refresh_realtime(f"{day}-12:00")
    own.lake.objects.delete([key])


def _change_landed(own: Own, day: date) -> None:
    (obj,) = list_day(own.lake.objects, own.name, day)
    own.lake.objects.put(obj.key, own.lake.objects.get(obj.key).replace(b'"1.25"', b'"9.25"', 1))


@dataclass(frozen=True)
class Planted:
    """A fault planted in one day, and where and how an audit should report it."""

    plant: Callable[[Own, date], object]
    layer: str
    detail: str


def _by(name: str, change: str) -> Callable[[Own, date], object]:
    return lambda own, day: _change(own, name, day, change)


DEPTH = {"landing": 0, "bronze": 1, "realtime": 1, "silver": 2, "quarantine": 2, "gold": 3, "serving": 4}

PLANTED = {
    # Those of landing come first, because landing objects are kept for seven days.
    "a landing object gone early": Planted(
        _lose_landed, "landing", "is gone before its retention is over; bronze holds its 11 rows"
    ),
    "a landing object gone before bronze ingested it": Planted(
        _lose_uningested, "landing", "is gone, bronze does not hold it, and realtime holds rows of it"
    ),
    "a landing object changed": Planted(
        _change_landed, "bronze", "as it is in landing: rows 1 changed (such as _row 1)"
    ),
    "a realtime row repeated": Planted(
        _by("realtime.{}", "from {rows} union all from {rows} where event_id = 'e3'"), "realtime", "rows 1 repeated"
    ),
    "a realtime row too many": Planted(
        _by(
            "realtime.{}",
            "from {rows} union all select * replace ('x' as event_id, 99 as _row) from {rows} where _row = 4",
        ),
        "realtime",
        "rows 1 too many",
    ),
    "a row gone": Planted(
        _by("silver.{}", "from {rows} where event_id <> 'e3'"), "silver", "rows 1 missing (such as event_id e3)"
    ),
    "a row repeated": Planted(
        _by("silver.{}", "from {rows} union all from {rows} where event_id = 'e3'"),
        "silver",
        "rows 1 repeated (such as event_id e3)",
    ),
    "an amount changed": Planted(
        _by("silver.{}", "select * replace (amount + (event_id = 'e3')::int as amount) from {rows}"),
        "silver",
        "rows 1 changed (such as event_id e3)",
    ),
    "a day gone": Planted(
        _by("silver.{}", "from {rows} where false"), "silver", "rows 8 missing (such as event_id e0)"
    ),
    "a refused row gone": Planted(_by("quarantine.{}", "from {rows} where raw <> '{'"), "quarantine", "rows 1 missing"),
    "a reason changed": Planted(
        _by("quarantine.{}", "select * replace (['none'] as reasons) from {rows}"), "quarantine", "rows 2 changed"
    ),
    "gold changed": Planted(
        _by("gold.{}_daily", "select * replace (amount + 1 as amount) from {rows}"),
        "gold",
        "rows 1 changed (such as currency EUR, type payment)",
    ),
    "a day of gold gone": Planted(_by("gold.{}_daily", "from {rows} where false"), "gold", "_daily: rows 1 missing"),
    "a metric changed": Planted(
        _by("gold.daily_metrics", "select * replace (metric_value + 1 as metric_value) from {rows}"),
        "gold",
        "daily_metrics: rows 4 changed",
    ),
    "a ledger edited": Planted(_edit_ledger, "silver", "the ledger says landed 12 where there are 11"),
    "a data file of bronze gone": Planted(
        lambda own, day: _lose_file(own, "bronze.{}", day), "bronze", "a data file of 11 rows is gone"
    ),
    "a data file of silver gone": Planted(
        lambda own, day: _lose_file(own, "silver.{}", day), "silver", "a data file of 8 rows is gone"
    ),
    "a bronze row repeated": Planted(
        _by("bronze.{}", "from {rows} union all from {rows} where _row = 3"), "bronze", " are there twice"
    ),
    "a bronze row gone": Planted(_by("bronze.{}", "from {rows} where _row <> 3"), "bronze", "1 rows of realtime/"),
    "a bronze amount changed": Planted(
        _by("bronze.{}", "select * replace (case when _row = 3 then '7' else amount end as amount) from {rows}"),
        "bronze",
        "as it is in landing: rows 1 changed (such as _row 3)",
    ),
    "a day of bronze gone": Planted(_by("bronze.{}", "from {rows} where false"), "silver", "rows 8 too many"),
    "an alert made up": Planted(_by("serving.{}_alerts", MADE_UP), "serving", "_alerts: rows 1 too many"),
    "a served object of another day": Planted(
        lambda own, day: own.lake.objects.put(
            unified_key(own.stream, day), own.lake.objects.get(unified_key(own.stream, INTACT_DAY))
        ),
        "serving",
        "data.parquet: rows 8 missing",
    ),
}


def test_audit_finds_each_planted_fault_and_nothing_else(make_stream: Callable[..., Own]) -> None:
    own = make_stream(edit=threshold(0.5))
    days = dict(zip(PLANTED, reversed(span(TODAY - timedelta(days=len(PLANTED)), len(PLANTED))), strict=True))
    every = [INTACT_DAY, *sorted(days.values())]
    for day in every:
        _land(own, day)
    _compute(own, *every)
    assert _audited(own).findings == []
    for name, planted in PLANTED.items():
        planted.plant(own, days[name])
    report = _audited(own)
    for name, planted in PLANTED.items():
        findings = [(finding.layer, finding.detail) for finding in report.wrong if finding.partition == str(days[name])]
        assert any(layer == planted.layer and planted.detail in detail for layer, detail in findings), (name, findings)
        # A fault also shows in the layers below its own, and not in those above.
        assert all(DEPTH[layer] >= DEPTH[planted.layer] for layer, _ in findings), (name, findings)
    # The rows of the object that replaced another are of the untouched day.
    elsewhere = [finding for finding in report.wrong if finding.partition not in set(map(str, days.values()))]
    assert {(finding.partition, finding.check) for finding in elsewhere} <= {(str(INTACT_DAY), OBJECTS)}, elsewhere


def test_audit_finds_rows_missing_from_the_unified_view(
    make_stream: Callable[..., Own], monkeypatch: pytest.MonkeyPatch
) -> None:
    own = make_stream(edit=threshold(0.5))
    _land(own, INTACT_DAY)
    _compute(own, INTACT_DAY)
    own.land([payment("new", noon(INTACT_DAY))], noon(INTACT_DAY) + timedelta(seconds=1))
    own.refresh_realtime(f"{INTACT_DAY}-12:00")
    assert _audited(own).wrong == []
    monkeypatch.setattr("lakehouse.auditing.context.uncovered_hours", lambda *_: [])
    findings = [(finding.partition, finding.check) for finding in _audited(own).wrong]
    assert findings == [(str(INTACT_DAY), LIVE), (str(INTACT_DAY), UNIFIED)]


def test_audit_finds_open_days_that_count_as_closed(
    make_stream: Callable[..., Own], monkeypatch: pytest.MonkeyPatch
) -> None:
    own = make_stream(edit=threshold(0.5))
    _land(own, INTACT_DAY)
    own.refresh_realtime(f"{INTACT_DAY}-12:00")
    assert _audited(own).wrong == []
    monkeypatch.setattr("lakehouse.auditing.serving.open_days", lambda *_: [])
    (finding,) = _audited(own).wrong
    assert (finding.partition, finding.check) == (str(INTACT_DAY), LIVE)
    assert f"takes {INTACT_DAY} from gold, which lacks newer rows" in finding.detail


def test_audit_finds_an_object_that_was_read_as_nothing(
    make_stream: Callable[..., Own], monkeypatch: pytest.MonkeyPatch
) -> None:
    own = make_stream()
    with monkeypatch.context() as earlier_reader:
        earlier_reader.setattr(relation, "blocks_of_objects", lambda *_: iter(()))
        key = _land(own, INTACT_DAY)
        own.bronze(INTACT_DAY)
    details = [finding.detail for finding in _audited(own).findings if finding.layer == "bronze"]
    assert [detail.startswith(f"{key} has ") and detail.endswith("no row in bronze") for detail in details] == [True]
    own.bronze(INTACT_DAY, replace=True)
    assert [finding for finding in _audited(own).findings if finding.layer == "bronze"] == []


def test_stream_that_cannot_be_audited_is_a_finding(
    make_stream: Callable[..., Own], monkeypatch: pytest.MonkeyPatch
) -> None:
    own = make_stream()

    def fail(*_: object) -> None:
        raise LakehouseError("its tables are gone")

    monkeypatch.setattr("lakehouse.auditing.audit._Audit.run", fail)
    report = audit(own.lake)
    assert [(finding.stream, finding.detail) for finding in report.wrong] == [(own.name, "its tables are gone")]


def test_audit_finds_acknowledged_objects_that_are_gone(make_stream: Callable[..., Own]) -> None:
    own = make_stream(edit=threshold(0.5))
    _land(own, INTACT_DAY)
    held = own.land([payment("a", noon(TODAY))], noon(TODAY))
    own.bronze(TODAY)
    own.lake.objects.delete([held])
    assert all(finding.check != receipts.CHECK for finding in _audited(own).wrong)
    gone = own.land([payment("c", noon(TODAY))], noon(TODAY) + timedelta(seconds=9))
    own.lake.objects.delete([gone])
    (found,) = (finding for finding in _audited(own).wrong if finding.check == receipts.CHECK)
    assert (found.layer, found.partition) == ("landing", str(TODAY))
    assert found.detail == f"1 landing objects were acknowledged and are gone, such as {gone}"
