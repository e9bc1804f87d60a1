"""Sensors: when what is in storage decides that something runs."""

import json
import logging
import urllib.request
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import dagster as dg

from lakehouse.assets.partitions import exact_tags
from lakehouse.assets.resources import LakeResource, arrivals
from lakehouse.automation.jobs import BATCH, BRONZE, REFRESH, STREAM_TAG, stream_asset_keys
from lakehouse.automation.landing_lag import landing_lag
from lakehouse.contracts.streams import Stream
from lakehouse.errors import LakehouseError
from lakehouse.landing.keys import LandingObject
from lakehouse.landing.listing import list_incoming
from lakehouse.pipeline.lake import Lake
from lakehouse.pipeline.lineage.date_ranges import format_days
from lakehouse.pipeline.lineage.refresh import days_to_refresh, pending_files
from lakehouse.runtime.instance import lane_tags
from lakehouse.runtime.orphaned_runs import is_active
from lakehouse.settings import get_settings

EVERY = 30
"""Seconds between two looks."""

LISTED = "listed "
"""Before a stream's name in the cursor: the day on which all its files were last listed."""

BACK_OFF = timedelta(seconds=30)
BACK_OFF_AT_MOST = timedelta(hours=1)


@dg.sensor(
    name="incoming_files",
    job_name=BRONZE,
    minimum_interval_seconds=EVERY,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="New objects under incoming/ go to bronze. They are listed, from a cursor that is storage's clock with room"
    " for skew; with LAKEHOUSE_INCOMING=queue S3's own messages tell of them, and they are listed once a day.",
)
def incoming_files(context: dg.SensorEvaluationContext, lake: LakeResource) -> Iterator[dg.RunRequest | dg.SkipReason]:
    """Ask for the bronze partitions of files that bronze does not hold."""
    cursor: dict[str, str] = json.loads(context.cursor or "{}")
    asked, today = 0, datetime.now(UTC).date().isoformat()
    told = _told(context, lake.lake)
    for stream in lake.lake.streams.values():
        if _waiting(context.instance, stream, (BRONZE, BATCH)):
            continue
        since = datetime.fromisoformat(cursor[stream.name]) if stream.name in cursor else None
        is_listed = told is None or cursor.get(LISTED + stream.name) != today
        files = pending_files(lake.lake, stream, since) if is_listed else (told or {}).get(stream.name, [])
        if files:
            asked += 1
            days = sorted({one.day for one in files})
            yield dg.RunRequest(
                asset_selection=[dg.AssetKey(["bronze", stream.name])],
                tags={**exact_tags(days), **lane_tags(BRONZE, stream.name), "lakehouse/files": str(len(files))},
            )
        elif is_listed:
            # Only what bronze holds is left behind; a run that fails or dies is asked for again.
            cursor |= {stream.name: _newest(lake.lake, stream, since), LISTED + stream.name: today}
    context.update_cursor(json.dumps(cursor))
    _warn_of_unknown(context, lake.lake)
    if not asked:
        yield dg.SkipReason("No new files under incoming/.")


@dg.sensor(
    name="late_data",
    job_name=REFRESH,
    minimum_interval_seconds=EVERY,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Days whose bronze changed after silver was computed, and what is below them, alone; from metadata.",
)
def late_data(context: dg.SensorEvaluationContext, lake: LakeResource) -> Iterator[dg.RunRequest | dg.SkipReason]:
    """Ask for the days that have to be computed again."""
    asked = 0
    for stream in lake.lake.streams.values():
        if _waiting(context.instance, stream, (REFRESH, BATCH)):
            continue
        days = days_to_refresh(lake.lake, stream)
        if days:
            asked += 1
            context.log.info(f"{stream.name}: {format_days(days)}")
            yield dg.RunRequest(
                asset_selection=stream_asset_keys(stream), tags={**exact_tags(days), **lane_tags(REFRESH, stream.name)}
            )
    if not asked:
        yield dg.SkipReason("Every day is computed from the newest bronze.")


@dg.run_failure_sensor(
    name="run_failures",
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Logs a failed run and posts it to LAKEHOUSE_WEBHOOK_URL when that is set.",
)
def run_failures(context: dg.RunFailureSensorContext) -> None:
    """Tell of a failed run."""
    run = context.dagster_run
    message = {
        "text": f"Run {run.run_id} of {run.job_name} failed: {context.failure_event.message}",
        "run_id": run.run_id,
        "job": run.job_name,
        "partitions": run.tags.get("lakehouse/partitions") or run.tags.get("dagster/partition"),
        "error": context.failure_event.message,
    }
    context.log.error(message["text"])
    if url := get_settings().webhook_url:
        _post(url, message)


SENSORS = [incoming_files, late_data, landing_lag, run_failures]


def _told(context: dg.SensorEvaluationContext, lake: Lake) -> dict[str, list[LandingObject]] | None:
    """The new files that the queue tells of, by stream; None when they are to be listed."""
    if get_settings().incoming == "list":
        return None
    try:
        return arrivals().pending_files()
    except LakehouseError as problem:
        context.log.error(f"{problem} Files are listed meanwhile.")
        return None


def _waiting(instance: dg.DagsterInstance, stream: Stream, jobs: tuple[str, ...]) -> bool:
    """Whether a run about the stream is under way, or failed so often that it is not time to try again."""
    for job in jobs:
        tags = {} if job == BATCH else {STREAM_TAG: stream.name}
        records = instance.get_run_records(dg.RunsFilter(job_name=job, tags=tags), limit=8)
        if any(is_active(instance, record.dagster_run) for record in records):
            return True
        failures = 0
        for record in records:
            if record.dagster_run.status != dg.DagsterRunStatus.FAILURE:
                break
            failures += 1
        if failures and job != BATCH:
            wait = min(BACK_OFF * 2**failures, BACK_OFF_AT_MOST)
            ended = datetime.fromtimestamp(records[0].end_time or 0, UTC)
            if datetime.now(UTC) < ended + wait:
                return True
    return False


def _newest(lake: Lake, stream: Stream, since: datetime | None) -> str:
    listed = list_incoming(lake.objects, stream.name, since=since)
    newest = max((one.arrived_at for one in listed), default=since)
    return (newest or datetime(1970, 1, 1, tzinfo=UTC)).isoformat()


def _warn_of_unknown(context: dg.SensorEvaluationContext, lake: Lake) -> None:
    for folder in lake.objects.folders("incoming"):
        name = folder.removeprefix("incoming/").strip("/")
        if name not in lake.streams:
            context.log.error(
                f"incoming/{name}/ holds files of no stream; there are {', '.join(lake.streams)}. They stay where they are."
            )


def _post(url: str, message: dict[str, str | None]) -> None:
    if not url.startswith(("http://", "https://")):
        logging.getLogger(__name__).error("LAKEHOUSE_WEBHOOK_URL must be an http(s) URL")
        return
    request = urllib.request.Request(  # noqa: S310  # the scheme was just looked at
        url, json.dumps(message).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=10):  # noqa: S310
        pass
