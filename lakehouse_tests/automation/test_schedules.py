"""A tick requests the right hours of realtime and days of arrival."""

from collections.abc import Callable
from datetime import UTC, date, datetime, time, timedelta

import dagster as dg
import pytest

from lakehouse.assets import resources
from lakehouse.assets.partitions import exact_days
from lakehouse.assets.resources import LakeResource
from lakehouse.automation.schedules import MAX_MISSED_DAYS, batch_daily_0200, realtime_every_5_minutes
from lakehouse.pipeline.refresh import missed_days
from lakehouse_tests.pipeline.own import Own, make_stream, noon, payment, shared_lake, span

__all__ = ["make_stream", "shared_lake"]  # fixtures

FIRST = date(2017, 1, 1)


@pytest.fixture
def own(make_stream: Callable[..., Own], monkeypatch: pytest.MonkeyPatch) -> Own:
    own = make_stream()
    monkeypatch.setattr(resources, "_lake", lambda: own.lake)
    return own


def _batch_days(night: date) -> list[date]:
    """Return the days of arrival that the batch schedule requests in this night."""
    now = datetime.combine(night, time(2), UTC)
    with dg.build_schedule_context(scheduled_execution_time=now, resources={"lake": LakeResource()}) as context:
        request = batch_daily_0200(context)
    assert isinstance(request, dg.RunRequest)
    return exact_days(request.tags) or []


def _land(own: Own, day: date, hour: int = 12) -> None:
    at = noon(day).replace(hour=hour)
    own.land([payment(f"{at:%Y%m%d%H}", at)], at)


@pytest.mark.parametrize(
    ("at", "first", "last"),
    [
        ("14:00", "13", "14"),
        ("14:15", "13", "14"),
        ("14:20", "14", "14"),
        ("14:25", "14", "14"),
        ("14:30", "11", "14"),
        ("14:35", "14", "14"),
    ],
)
def test_hour_is_requested_until_its_objects_settle(at: str, first: str, last: str) -> None:
    now = datetime.fromisoformat(f"2026-11-20T{at}").replace(tzinfo=UTC)
    with dg.build_schedule_context(scheduled_execution_time=now) as context:
        request = realtime_every_5_minutes(context)
    assert isinstance(request, dg.RunRequest)
    ends = ("dagster/asset_partition_range_start", "dagster/asset_partition_range_end")
    hours = [request.tags[end] for end in ends] if request.partition_key is None else [request.partition_key] * 2
    assert hours == [f"2026-11-20-{hour}:00" for hour in (first, last)]


@pytest.mark.parametrize("ages", [(10, 8, 7, 3), (1,), (400, 30), ()])
def test_batch_requests_every_landed_day(own: Own, ages: tuple[int, ...]) -> None:
    night = FIRST + timedelta(days=500)
    for age in ages:
        _land(own, night - timedelta(days=age))
    requested = _batch_days(night)
    assert requested == sorted({night - timedelta(days=age) for age in (*ages, 1)})
    own.bronze(*requested)
    assert _batch_days(night) == [night - timedelta(days=1)]


def test_outage_of_400_days_is_caught_up_oldest_first(own: Own) -> None:
    days = span(FIRST, 400)
    for day in days:
        _land(own, day)
    night, ticks = days[-1] + timedelta(days=1), []
    while missed := [day for day in _batch_days(night) if day != night - timedelta(days=1)]:
        assert len(missed) <= MAX_MISSED_DAYS
        ticks += missed
        own.bronze(*missed, night - timedelta(days=1))
        night += timedelta(days=1)
    assert ticks == days[:-1], "each day once, oldest first; the last was yesterday at the first tick"
    assert own.counts("bronze") == dict.fromkeys(days, 1)


def test_day_that_an_outage_cut_is_missed_too(make_stream: Callable[..., Own]) -> None:
    own = make_stream(
        edit=lambda text: text.replace("value: 7, unit: d, element: landing", "value: 90, unit: d, element: landing")
    )
    cut = FIRST + timedelta(days=1)
    for day in span(FIRST, 30):
        _land(own, day)
    own.bronze(FIRST, cut)
    _land(own, cut, hour=20)
    last = FIRST + timedelta(days=29)
    assert list(missed_days(own.lake, own.stream, last)) == span(cut, 29)
    own.bronze(*span(cut, 29))
    assert list(missed_days(own.lake, own.stream, last)) == []


def test_object_put_into_an_old_day_is_found_within_some_nights(make_stream: Callable[..., Own]) -> None:
    own = make_stream(
        edit=lambda text: text.replace("value: 7, unit: d, element: landing", "value: 90, unit: d, element: landing")
    )
    days = span(FIRST, 30)
    for day in days:
        _land(own, day)
    own.bronze(*days)
    _land(own, days[10], hour=21)
    nights = [list(missed_days(own.lake, own.stream, days[-1] + timedelta(days=n))) for n in range(4)]
    assert nights.count([days[10]]) == 1
    assert nights.count([]) == 3
