"""Schedules: runs that are due at a time of the day."""

from collections.abc import Iterable
from datetime import UTC, date, datetime, timedelta
from itertools import chain, islice

import dagster as dg

from lakehouse.assets.audit import audit_step
from lakehouse.assets.partitions import exact_tags
from lakehouse.assets.resources import LakeResource
from lakehouse.automation.jobs import AUDIT, BATCH, MAINTENANCE, REALTIME, SERVING
from lakehouse.contracts.streams import Stream
from lakehouse.landing.keys import hour_partition
from lakehouse.pipeline.lineage.date_ranges import format_days
from lakehouse.pipeline.realtime import event_dates_of
from lakehouse.pipeline.refresh import missed_days

SETTLING_TIME = timedelta(minutes=20)
"""How long after an hour has ended its last objects may still land. Amazon Data Firehose buffers for up to 15 minutes and
names an object after the time at which its buffer began."""

LOOK_BACK_TIME = timedelta(hours=3)
"""Once an hour, at LOOK_BACK_MINUTE, all objects of this time are listed, because storage may have been away meanwhile.
The serving process keeps rows that realtime does not hold for as long."""

LOOK_BACK_MINUTE = 30

MAX_MISSED_DAYS = 100
"""How many missed days one tick requests, the oldest first. An outage of a year is caught up in four nights."""

SUNDAY = 6


@dg.schedule(
    name="realtime_every_5_minutes",
    cron_schedule="*/5 * * * *",
    job_name=REALTIME,
    default_status=dg.DefaultScheduleStatus.RUNNING,
    description="Ingest the objects of the current hour, of the hour before while its last objects settle, and at half past"
    " of the last three hours.",
)
def realtime_every_5_minutes(context: dg.ScheduleEvaluationContext) -> dg.RunRequest:
    """Request the realtime partitions in which objects may have landed since the last tick."""
    now = _now(context)
    back = LOOK_BACK_TIME if now.minute == LOOK_BACK_MINUTE else SETTLING_TIME
    first, last = hour_partition(now - back), hour_partition(now)
    if first == last:
        return dg.RunRequest(partition_key=last)
    return dg.RunRequest(tags={"dagster/asset_partition_range_start": first, "dagster/asset_partition_range_end": last})


@dg.schedule(
    name="batch_daily_0200",
    cron_schedule="0 2 * * *",
    job_name=BATCH,
    default_status=dg.DefaultScheduleStatus.RUNNING,
    description="Compute yesterday, and days whose run was missed, oldest first, from landing to serving."
    " The sensor `late_data` does the rest.",
)
def batch_daily_0200(context: dg.ScheduleEvaluationContext, lake: LakeResource) -> dg.RunRequest:
    """Request yesterday and the oldest days of arrival before it that bronze has not ingested."""
    yesterday = (_now(context) - timedelta(days=1)).date()
    missed = _missed(lake, yesterday)
    if missed:
        rest = "; the next tick requests further ones" if len(missed) == MAX_MISSED_DAYS else ""
        context.log.info(f"{len(missed)} days whose run was missed: {format_days(missed)}{rest}")
    return dg.RunRequest(tags=exact_tags([*missed, yesterday]))


@dg.schedule(
    name="serving_every_10_minutes",
    cron_schedule="*/10 * * * *",
    job_name=SERVING,
    default_status=dg.DefaultScheduleStatus.RUNNING,
    description="Export unified days and alerts of today, and of the event dates of the last two hours' realtime rows.",
)
def serving_every_10_minutes(context: dg.ScheduleEvaluationContext, lake: LakeResource) -> dg.RunRequest:
    """Request the event dates of fresh realtime rows."""
    now = _now(context)
    hours = [hour_partition(now - timedelta(hours=back)) for back in range(2)]
    days = {day for stream in lake.lake.streams.values() for day in event_dates_of(lake.lake, stream, hours)}
    return dg.RunRequest(tags=exact_tags(sorted(days | {now.date()})))


@dg.schedule(
    name="maintenance_daily_0400",
    cron_schedule="0 4 * * *",
    job_name=MAINTENANCE,
    default_status=dg.DefaultScheduleStatus.RUNNING,
    description="Run retention, compaction, expiry, manifests, orphans, and prune Dagster's history.",
)
def maintenance_daily_0400() -> dg.RunRequest:
    """Request every maintenance task."""
    return dg.RunRequest()


def audit_schedule(streams: Iterable[Stream]) -> dg.ScheduleDefinition:
    """Build the schedule that audits the newest days every night, and all days on Sundays."""
    steps = [audit_step(stream) for stream in streams]

    @dg.schedule(
        name="audit_daily_0500",
        cron_schedule="0 5 * * *",
        job_name=AUDIT,
        default_status=dg.DefaultScheduleStatus.RUNNING,
        description="Audit the last eight days, and on Sundays all days, from landing to serving.",
    )
    def schedule(context: dg.ScheduleEvaluationContext) -> dg.RunRequest:
        if context.scheduled_execution_time.weekday() != SUNDAY:
            return dg.RunRequest()
        return dg.RunRequest(run_config={"ops": {step: {"config": {"days": 0}} for step in steps}})

    return schedule


SCHEDULES = [realtime_every_5_minutes, batch_daily_0200, serving_every_10_minutes, maintenance_daily_0400]


def _now(context: dg.ScheduleEvaluationContext) -> datetime:
    return context.scheduled_execution_time.astimezone(UTC)


def _missed(lake: LakeResource, yesterday: date) -> list[date]:
    """List the oldest days with landing objects that bronze has not ingested, because no run was made then."""
    days = [islice(missed_days(lake.lake, stream, yesterday), MAX_MISSED_DAYS) for stream in lake.lake.streams.values()]
    return sorted(set(chain.from_iterable(days)))[:MAX_MISSED_DAYS]
