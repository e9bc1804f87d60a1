"""Schedules: when time alone decides that something runs."""

from datetime import UTC, date, datetime, timedelta

import dagster as dg

from lakehouse.assets.partitions import exact_tags
from lakehouse.assets.resources import LakeResource
from lakehouse.automation.jobs import BATCH, MAINTENANCE, REALTIME, SERVING
from lakehouse.landing.keys import hour_partition
from lakehouse.pipeline.bronze import pending_days
from lakehouse.pipeline.realtime import event_dates_of

SETTLING = timedelta(minutes=20)
"""So long after an hour has ended its last objects may still be landing: Amazon Data Firehose holds them for up to 15
minutes, under a name of when it began."""

LOOK_BACK = timedelta(hours=3)
"""Each hour at LOOK_BACK_AT, what was named so long ago is looked for: storage may have been away meanwhile. That is as
far back as the serving process keeps what realtime does not hold."""

LOOK_BACK_AT = 30
"""Minute of the hour."""


@dg.schedule(
    name="realtime_every_5_minutes",
    cron_schedule="*/5 * * * *",
    job_name=REALTIME,
    default_status=dg.DefaultScheduleStatus.RUNNING,
    description="What landed in the current hour, in the one before while its last objects settle, and each hour at half"
    " past in the last three.",
)
def realtime_every_5_minutes(context: dg.ScheduleEvaluationContext) -> dg.RunRequest:
    """Ask for the realtime partitions of now."""
    now = _now(context)
    back = LOOK_BACK if now.minute == LOOK_BACK_AT else SETTLING
    first, last = hour_partition(now - back), hour_partition(now)
    if first == last:
        return dg.RunRequest(partition_key=last)
    return dg.RunRequest(tags={"dagster/asset_partition_range_start": first, "dagster/asset_partition_range_end": last})


@dg.schedule(
    name="batch_daily_0200",
    cron_schedule="0 2 * * *",
    job_name=BATCH,
    default_status=dg.DefaultScheduleStatus.RUNNING,
    description="Yesterday, and days whose run was missed, from landing to serving. What comes late is the sensor's.",
)
def batch_daily_0200(context: dg.ScheduleEvaluationContext, lake: LakeResource) -> dg.RunRequest:
    """Ask for the days of arrival that are over and not in bronze."""
    yesterday = (_now(context) - timedelta(days=1)).date()
    return dg.RunRequest(tags=exact_tags([*_missed(lake, yesterday), yesterday]))


@dg.schedule(
    name="serving_every_10_minutes",
    cron_schedule="*/10 * * * *",
    job_name=SERVING,
    default_status=dg.DefaultScheduleStatus.RUNNING,
    description="Unified days and alerts of today, and of the days that realtime rows of the last two hours belong to.",
)
def serving_every_10_minutes(context: dg.ScheduleEvaluationContext, lake: LakeResource) -> dg.RunRequest:
    """Ask for the days that fresh rows belong to."""
    now = _now(context)
    hours = [hour_partition(now - timedelta(hours=back)) for back in range(2)]
    days = {day for stream in lake.lake.streams.values() for day in event_dates_of(lake.lake, stream, hours)}
    return dg.RunRequest(tags=exact_tags(sorted(days | {now.date()})))


@dg.schedule(
    name="maintenance_daily_0400",
    cron_schedule="0 4 * * *",
    job_name=MAINTENANCE,
    default_status=dg.DefaultScheduleStatus.RUNNING,
    description="Retention, compaction, expiry, manifests, orphans, and Dagster's own history.",
)
def maintenance_daily_0400() -> dg.RunRequest:
    """Ask for all of maintenance."""
    return dg.RunRequest()


SCHEDULES = [realtime_every_5_minutes, batch_daily_0200, serving_every_10_minutes, maintenance_daily_0400]


def _now(context: dg.ScheduleEvaluationContext) -> datetime:
    return context.scheduled_execution_time.astimezone(UTC)


def _missed(lake: LakeResource, yesterday: date) -> list[date]:
    """Days of the last week that landed and that no bronze partition holds, because nothing ran then."""
    first = yesterday - timedelta(days=6)
    found = {day for stream in lake.lake.streams.values() for day in pending_days(lake.lake, stream, first, yesterday)}
    return sorted(found)
