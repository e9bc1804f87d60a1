"""The daily audit: its job and its schedule."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

import dagster as dg

from lakehouse.assets.audit import AUDIT_CHECK, audit_step
from lakehouse.assets.specs import key
from lakehouse.contracts.streams import Stream

if TYPE_CHECKING:
    from dagster._core.definitions.unresolved_asset_job_definition import UnresolvedAssetJobDefinition

JOB = "audit_daily"
SUNDAY = 6


def audit_job(streams: Iterable[Stream]) -> "UnresolvedAssetJobDefinition":
    """The job that audits all streams."""
    return dg.define_asset_job(
        JOB,
        dg.AssetSelection.checks(*(dg.AssetCheckKey(key("landing", stream.name), AUDIT_CHECK) for stream in streams)),
        description="Compares every layer with what it is made of, row by row.",
        executor_def=dg.in_process_executor,
    )


def audit_schedule(streams: Iterable[Stream]) -> dg.ScheduleDefinition:
    """Every night the newest days, and on Sundays all there are."""
    names = [audit_step(stream) for stream in streams]

    @dg.schedule(
        name="audit_daily_0500",
        cron_schedule="0 5 * * *",
        job_name=JOB,
        default_status=dg.DefaultScheduleStatus.RUNNING,
        description="The last eight days, and on Sundays all days, compared from landing to serving.",
    )
    def schedule(context: dg.ScheduleEvaluationContext) -> dg.RunRequest:
        if context.scheduled_execution_time.weekday() != SUNDAY:
            return dg.RunRequest()
        return dg.RunRequest(run_config={"ops": {name: {"config": {"days": 0}} for name in names}})

    return schedule
