"""What is said of a stream's quarantine is what is still open of it."""

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
from lakehouse_tests.serving.trackers import reading

DAY = date(2021, 6, 1)


LAYERS = ("silver", "realtime", "bronze", "quarantine")


async def _asked(own: Own, tracker: SnapshotTracker, readers: ReaderPool) -> QuarantineReport:
    snapshot = tracker.refresh()
    asked = {"since": None, "reason": None}
    counted = await readers.run(reasons_sql(snapshot, own.stream), asked, snapshot=snapshot)
    samples = await readers.run(samples_sql(snapshot, own.stream), {**asked, "limit": 10}, snapshot=snapshot)
    return quarantine_report(
        own.name, RecentArrivals(0, 0), counted.table.to_pylist(), reject_samples(samples.table.to_pylist())
    )


def test_a_row_that_a_corrected_one_has_replaced_counts_no_longer(
    make_stream: Callable[..., Own], tmp_path: Path
) -> None:
    own = make_stream()
    broken = [payment("a", noon(DAY), amount="-1"), payment("b", noon(DAY), currency="euro")]
    own.land([*broken, *(payment(str(n), noon(DAY)) for n in range(40))], noon(DAY))
    own.bronze()
    own.clean(DAY)
    with reading(own, tmp_path, *LAYERS) as (tracker, readers):
        before = asyncio.run(_asked(own, tracker, readers))
        assert (before.rows, len(before.reasons), len(before.samples)) == (2, 2, 2)
        first = next(one for one in before.samples if one.row == 1)
        assert first.object is not None
        land_corrections(own.lake, own.stream, [((first.object, 1), payment("a", noon(DAY) + timedelta(seconds=1)))])
        own.bronze()
        own.clean(DAY)
        after = asyncio.run(_asked(own, tracker, readers))
    assert own.counts("quarantine")[DAY] == 2
    assert (after.rows, [one.row for one in after.samples]) == (1, [2])
    assert [one.rows for one in after.reasons] == [1]


def test_refused_rows_are_seen_when_they_land_until_bronze_holds_them(
    make_stream: Callable[..., Own], tmp_path: Path
) -> None:
    own = make_stream()
    at = datetime.now(UTC)
    valid = [payment(str(n), at) for n in range(100)]
    landed = own.land(
        [payment("b", at, amount="-1"), payment("c", at, currency="euro", amount="x"), '{"event_id": "d", ', *valid], at
    )
    alone = own.land(["garbage"], at + timedelta(milliseconds=1))
    with reading(own, tmp_path, *LAYERS) as (tracker, readers):
        refused = tracker.tail.recent_rejects

        def shown() -> list[RejectSample]:
            return asyncio.run(rejects_not_in_bronze(refused, readers, own.stream, tracker.refresh()))

        tracker.catch_up()
        found = shown()
        assert [(one.object, one.row) for one in found] == [(alone, 1), (landed, 3), (landed, 2), (landed, 1)]
        assert [one.raw for one in found[:2]] == ["garbage", '{"event_id": "d", ']
        assert found[-1].reasons == ["amount is not above 0"]
        assert len(found[2].reasons) == 2
        assert all(one.just_arrived for one in found)
        changes = refused.changes
        own.refresh_realtime(f"{at:%Y-%m-%d-%H}:00")
        assert shown() == found
        assert refused.changes == changes
        own.bronze()
        own.clean(at.date())
        assert (shown(), refused.newest(own.stream)) == ([], [])
        in_table = asyncio.run(_asked(own, tracker, readers)).samples
    assert {(one.object, one.row, one.raw, *one.reasons) for one in in_table} == {
        (one.object, one.row, one.raw, *one.reasons) for one in found
    }
    assert not any(one.just_arrived for one in in_table)


def test_few_refused_rows_are_kept_and_those_the_newest(make_stream: Callable[..., Own], tmp_path: Path) -> None:
    own = make_stream()
    refused, at = RecentRejects(max_rows=3), datetime.now(UTC)
    with reading(own, tmp_path, *LAYERS) as (tracker, _):
        tracker.tail.recent_rejects = refused
        for seconds in range(3):
            later = at + timedelta(seconds=seconds)
            own.land([f"{seconds} {n}" for n in range(2)], later)
            tracker.catch_up()
            if seconds:
                newest = [f"{second} {n}" for second in (seconds, seconds - 1) for n in (1, 0)][:3]
                assert [row.raw for row in refused.newest(own.stream)] == newest
        gone = [row.object or "" for row in refused.newest(own.stream)[:1]]
        refused.drop(own.name, gone)
        assert [row.raw for row in refused.newest(own.stream)] == ["1 1"]


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
def test_what_has_just_arrived_is_shown_to_who_asks_for_it(
    since: datetime | None, reason: str | None, shown: bool
) -> None:
    row = RejectSample(DAY, "x", 1, ["a character, at byte 7"], "o", 1, datetime(2025, 3, 1, tzinfo=UTC))
    assert matches_filter(row, since, reason) == shown
