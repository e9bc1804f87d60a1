"""Rejected rows: the report of a stream's quarantine, and those that are in no table yet."""

import asyncio
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest

from lakehouse.pipeline.quarantine import land_corrections
from lakehouse.serving.api.quarantine import rejects_not_in_bronze
from lakehouse.serving.query.reader_pool import ReaderPool
from lakehouse.serving.query.recent_rejects import RecentRejects
from lakehouse.serving.query.rejects import (
    QuarantineReport,
    RecentArrivals,
    RejectSample,
    matches_filter,
    quarantine_report,
    reasons_sql,
    reject_samples,
    samples_sql,
)
from lakehouse.serving.query.snapshot_tracker import SnapshotTracker
from lakehouse_tests.pipeline.own import Own, noon, payment
from lakehouse_tests.serving.query.trackers import reading

DAY = date(2021, 6, 1)


LAYERS = ("silver", "realtime", "bronze", "quarantine")


async def _report(own: Own, tracker: SnapshotTracker, readers: ReaderPool) -> QuarantineReport:
    snapshot = tracker.refresh()
    filters = {"since": None, "reason": None}
    counted = await readers.run(reasons_sql(snapshot, own.stream), filters, snapshot=snapshot)
    samples = await readers.run(samples_sql(snapshot, own.stream), {**filters, "limit": 10}, snapshot=snapshot)
    return quarantine_report(
        own.name, RecentArrivals(0, 0), counted.table.to_pylist(), reject_samples(samples.table.to_pylist())
    )


def test_corrected_row_is_no_longer_reported(make_stream: Callable[..., Own], tmp_path: Path) -> None:
    own = make_stream()
    broken = [payment("a", noon(DAY), amount="-1"), payment("b", noon(DAY), currency="euro")]
    own.land([*broken, *(payment(str(n), noon(DAY)) for n in range(40))], noon(DAY))
    own.bronze()
    own.clean(DAY)
    with reading(own, tmp_path, *LAYERS) as (tracker, readers):
        before = asyncio.run(_report(own, tracker, readers))
        assert (before.rows, len(before.reasons), len(before.samples)) == (2, 2, 2)
        first = next(sample for sample in before.samples if sample.row == 1)
        assert first.object is not None
        land_corrections(own.lake, own.stream, [((first.object, 1), payment("a", noon(DAY) + timedelta(seconds=1)))])
        own.bronze()
        own.clean(DAY)
        after = asyncio.run(_report(own, tracker, readers))
    assert own.counts("quarantine")[DAY] == 2
    assert (after.rows, [sample.row for sample in after.samples]) == (1, [2])
    assert [reason.rows for reason in after.reasons] == [1]


def test_rejected_rows_are_visible_until_bronze_holds_them(make_stream: Callable[..., Own], tmp_path: Path) -> None:
    own = make_stream()
    at = datetime.now(UTC)
    valid = [payment(str(n), at) for n in range(100)]
    landed = own.land(
        [payment("b", at, amount="-1"), payment("c", at, currency="euro", amount="x"), '{"event_id": "d", ', *valid], at
    )
    alone = own.land(["garbage"], at + timedelta(milliseconds=1))
    with reading(own, tmp_path, *LAYERS) as (tracker, readers):
        recent = tracker.tail.recent_rejects

        def shown() -> list[RejectSample]:
            return asyncio.run(rejects_not_in_bronze(recent, readers, own.stream, tracker.refresh()))

        tracker.catch_up()
        samples = shown()
        assert [(sample.object, sample.row) for sample in samples] == [
            (alone, 1),
            (landed, 3),
            (landed, 2),
            (landed, 1),
        ]
        assert [sample.raw for sample in samples[:2]] == ["garbage", '{"event_id": "d", ']
        assert samples[-1].reasons == ["amount is not above 0"]
        assert len(samples[2].reasons) == 2
        assert all(sample.just_arrived for sample in samples)
        changes = recent.changes
        own.refresh_realtime(f"{at:%Y-%m-%d-%H}:00")
        assert shown() == samples
        assert recent.changes == changes
        own.bronze()
        own.clean(at.date())
        assert (shown(), recent.newest(own.stream)) == ([], [])
        in_table = asyncio.run(_report(own, tracker, readers)).samples
    assert {(sample.object, sample.row, sample.raw, *sample.reasons) for sample in in_table} == {
        (sample.object, sample.row, sample.raw, *sample.reasons) for sample in samples
    }
    assert not any(sample.just_arrived for sample in in_table)


def test_recent_rejects_keep_only_the_newest_rows(make_stream: Callable[..., Own], tmp_path: Path) -> None:
    own = make_stream()
    recent, at = RecentRejects(max_rows=3), datetime.now(UTC)
    with reading(own, tmp_path, *LAYERS) as (tracker, _):
        tracker.tail.recent_rejects = recent
        for seconds in range(3):
            later = at + timedelta(seconds=seconds)
            own.land([f"{seconds} {n}" for n in range(2)], later)
            tracker.catch_up()
            if seconds:
                newest = [f"{second} {n}" for second in (seconds, seconds - 1) for n in (1, 0)][:3]
                assert [row.raw for row in recent.newest(own.stream)] == newest
        dropped = [row.object or "" for row in recent.newest(own.stream)[:1]]
        recent.drop(own.name, dropped)
        assert [row.raw for row in recent.newest(own.stream)] == ["1 1"]


@pytest.mark.parametrize(
    ("since", "reason", "shown"),
    [
        (None, None, True),
        (datetime(2025, 3, 1), None, True),
        (datetime(2025, 3, 1, 0, 0, 1), None, False),
        (None, "a character, at byte …", True),
        (None, "a character, at byte 7", False),
    ],
)
def test_recent_reject_matches_filter(since: datetime | None, reason: str | None, shown: bool) -> None:
    row = RejectSample(DAY, "x", 1, ["a character, at byte 7"], "o", 1, datetime(2025, 3, 1, tzinfo=UTC))
    assert matches_filter(row, since, reason) == shown
