"""The hours of realtime that a tick asks for."""

from datetime import UTC, datetime

import dagster as dg
import pytest

from lakehouse.automation.schedules import realtime_every_5_minutes


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
