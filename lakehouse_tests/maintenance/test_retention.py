"""Each layer drops what its contract no longer keeps; nothing comes back, and nothing else is lost."""

from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime, timedelta

import pytest

from lakehouse.auditing.audit import audit
from lakehouse.landing.listing import list_day
from lakehouse.maintenance.file_changes import FileChanges
from lakehouse.maintenance.retention import apply_retention
from lakehouse.pipeline import exports as serving
from lakehouse.pipeline.bronze import ingest_days, pending_days
from lakehouse.pipeline.features import affected_days
from lakehouse.pipeline.long_form import DAILY_METRICS
from lakehouse.pipeline.refresh import pending_files
from lakehouse.pipeline.unified_view import view_sql
from lakehouse.pipeline.view_names import live_daily
from lakehouse.storage.iceberg.snapshots import ledger
from lakehouse_tests.pipeline.own import Own, land_together, noon, payment, threshold

DAYS = {"landing": 2, "realtime": 2, "bronze": 5, "silver": 5, "gold": 9}


def ago(days: int) -> date:
    return datetime.now(UTC).date() - timedelta(days=days)


def _with_retention(text: str) -> str:
    """Set the retention above in the contract, and a quality gate that passes everything."""
    lines = [line for line in text.splitlines() if "property: retention" not in line]
    at = lines.index("slaProperties:") + 1
    retention = [f"  - {{property: retention, value: {n}, unit: d, element: {layer}}}" for layer, n in DAYS.items()]
    return threshold(0.0)("\n".join([*lines[:at], *retention, *lines[at:]]) + "\n")


@pytest.fixture
def own(make_stream: Callable[..., Own]) -> Own:
    return make_stream(edit=_with_retention)


def _arrive(own: Own, *days: int, event: int | None = None) -> None:
    """Land a valid and a rejected event on each of these days ago.

    With `event`, land only a valid one, whose event date is that many days ago.
    """
    for n in days:
        at = noon(ago(n))
        dated = noon(ago(n if event is None else event))
        valid, rejected = payment(f"{n}-{event}", dated), payment(f"bad-{n}", dated, amount="-1")
        own.land([valid, rejected] if event is None else [valid], at + timedelta(minutes=0 if event is None else 1))
    own.refresh_realtime(*(f"{ago(n)}-12:00" for n in days))
    own.bronze(*map(ago, days))


def _compute(own: Own, days: Sequence[date]) -> None:
    own.clean(*days)
    own.below(*days)
    serving.export_unified(own.lake, own.stream, days)


def _drop(own: Own, *, dry_run: bool = False) -> dict[str, FileChanges]:
    return {dropped.target: dropped for dropped in apply_retention(own.lake, own.stream, dry_run=dry_run)}


def _days(own: Own, name: str, column: str = "dt") -> list[date]:
    return [day for (day,) in own.ask(f"select distinct {column} from {{t}} order by 1", t=name)]


def test_every_layer_keeps_exactly_its_retention(own: Own) -> None:
    name, ages = own.name, (0, 2, 3, 5, 6, 9, 10)
    _arrive(own, *ages)
    _compute(own, [ago(n) for n in ages])
    planned = _drop(own, dry_run=True)
    assert own.counts("bronze").total() == 14, "a dry run drops nothing"
    assert _drop(own) == planned
    assert own.arrived() == [ago(2), ago(0)]
    assert _days(own, f"realtime.{name}") == [ago(2), ago(0)]
    for layer in ("bronze", "silver", "quarantine"):
        assert _days(own, f"{layer}.{name}") == [ago(5), ago(3), ago(2), ago(0)], layer
    for table in (f"gold.{name}_daily", f"serving.{name}_features"):
        assert _days(own, table) == [ago(n) for n in (9, 6, 5, 3, 2, 0)], table
    metrics = own.ask(f"select min(date_key) from {{t}} where stream = '{name}'", t=DAILY_METRICS)
    assert metrics == [(ago(9),)]
    unified = [info.key.split("dt=")[1][:10] for info in own.lake.objects.list(f"serving/unified/{name}")]
    assert unified == [str(ago(n)) for n in (5, 3, 2, 0)]
    assert own.stale() == []
    assert pending_days(own.lake, own.stream, ago(12), ago(0)) == []
    assert pending_files(own.lake, own.stream) == []
    assert _drop(own) == {}, "nothing left to do"


def test_live_gold_has_days_that_silver_no_longer_keeps_as_gold_has_them(own: Own) -> None:
    _arrive(own, 6, 0)
    _compute(own, [ago(6), ago(0)])
    _drop(own)
    own.land([payment("late", noon(ago(6))), payment("today", noon(ago(0)))], noon(ago(0)) + timedelta(minutes=1))
    own.refresh_realtime(f"{ago(0)}-12:00")
    before = dict(own.ask("select dt, sum(transactions)::int from {t} group by dt", t=f"gold.{own.name}_daily"))
    live = own.ask(f"select dt, sum(transactions)::int from ({view_sql(own.lake, live_daily(own.name))}) group by dt")
    assert dict(live) == {ago(6): before[ago(6)], ago(0): before[ago(0)] + 1}


def test_landing_objects_missing_in_bronze_are_kept(own: Own) -> None:
    own.land([payment("late", noon(ago(9)))], noon(ago(8)))
    own.drop(b"event_id\n", "held.csv")
    assert _drop(own) == {}
    assert own.arrived() == [ago(8), ago(0)]
    ingest_days(own.lake, own.stream, [ago(8)])
    assert _drop(own)[f"landing/{own.name}"].removed == 1


def _neighbors(own: Own, other: Own) -> list[str]:
    """Put two streams into one lake, and land an event of each in a shared object."""
    own.lake.streams = other.lake.streams = {own.name: own.stream, other.name: other.stream}
    at = noon(ago(3))
    return land_together([(own, [payment("own", at)]), (other, [payment("other", at)])], at)


def test_shared_object_is_dropped_once_no_stream_needs_it(own: Own, make_stream: Callable[..., Own]) -> None:
    other = make_stream(edit=_with_retention)
    _neighbors(own, other)
    own.bronze(ago(3))
    assert _drop(own) == {}, "bronze of the other stream lacks its section"
    other.bronze(ago(3))
    assert _drop(own, dry_run=True)[f"landing/{own.name}"].removed == 1
    assert _drop(own)[f"landing/{own.name}"].removed == 1
    assert own.arrived() == other.arrived() == []
    findings = audit(own.lake, [own.stream, other.stream]).findings
    assert [finding for finding in findings if finding.state == "wrong"] == []


def test_stream_that_keeps_landing_longer_keeps_its_section(own: Own, make_stream: Callable[..., Own]) -> None:
    other = make_stream()
    _, kept = _neighbors(own, other)
    own.bronze(ago(3))
    assert _drop(own)[f"landing/{own.name}"].removed == 1
    assert own.arrived() == []
    assert [landed.key for landed in list_day(other.lake.objects, other.name, ago(3))] == [kept]
    other.bronze(ago(3))
    assert other.ask("select event_id from {bronze}") == [("other",)]


def test_bronze_rows_still_in_landing_are_kept(own: Own) -> None:
    _arrive(own, 1, event=20)
    assert _days(own, f"bronze.{own.name}") == [ago(20)]
    assert _drop(own) == {}
    assert _days(own, f"bronze.{own.name}") == [ago(20)]
    assert pending_days(own.lake, own.stream, ago(3), ago(0)) == []
    assert own.stale() == [], "silver keeps no day that old"


def test_late_rows_of_dropped_days_change_nothing(own: Own) -> None:
    _arrive(own, 6, 4)
    _compute(own, [ago(6), ago(4)])
    before = own.ask("select * from {t} where dt < $$" + str(ago(5)) + "$$", t=f"gold.{own.name}_daily")
    _drop(own)
    _arrive(own, 0, event=6)
    assert own.stale() == [], "a dropped day is not recomputed from the one late row"
    assert own.ask("select * from {t} where dt < $$" + str(ago(5)) + "$$", t=f"gold.{own.name}_daily") == before
    assert before != []


def test_features_over_dropped_days_are_not_recomputed(own: Own) -> None:
    _arrive(own, 6, 4)
    _compute(own, [ago(6), ago(4)])
    _drop(own)
    assert affected_days(own.lake, own.stream, [ago(4)]) == []
    assert affected_days(own.lake, own.stream, [ago(3)]) == [ago(3)], "a partial window is better than none"


def test_interrupted_run_is_finished_by_the_next(own: Own) -> None:
    _arrive(own, 10)
    _compute(own, [ago(10)])
    for dropped in apply_retention(own.lake, own.stream):
        if dropped.target == f"gold.{own.name}_daily":
            break
    assert ago(10) in _days(own, DAILY_METRICS, "date_key")
    finished = _drop(own)
    assert finished[f"{DAILY_METRICS} of {own.name}"].partitions == 1
    assert ago(10) not in _days(own, DAILY_METRICS, "date_key")


def test_default_retention_drops_only_landing_and_realtime(make_stream: Callable[..., Own]) -> None:
    own = make_stream()
    _arrive(own, 400)
    assert list(_drop(own)) == [f"landing/{own.name}", f"realtime.{own.name}"]


def test_rows_older_than_silver_keeps_are_counted(own: Own) -> None:
    old, new = [payment(f"old-{n}", noon(ago(DAYS["silver"] + 1 + n))) for n in range(3)], payment("new", noon(ago(0)))
    own.land([*old, new], noon(ago(0)))
    counts = own.bronze(ago(0)).partitions[ago(0)]
    assert (counts["rows"], counts["expired"]) == (4, 3)
    (snapshot,) = own.lake.tables.load(f"bronze.{own.name}").metadata.snapshots
    expired = {day: row["expired"] for day, row in ledger(snapshot).items() if "expired" in row}
    assert expired == {str(ago(DAYS["silver"] + 1 + n)): 1 for n in range(3)}
    assert own.stale() == [ago(0)]
    _compute(own, own.stale())
    report = audit(own.lake, [own.stream])
    assert (report.expired, report.findings) == ({own.name: 3}, [])
    assert report.as_json()["expired"] == {own.name: 3}
