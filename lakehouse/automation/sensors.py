"""Sensors: runs that are due because storage has changed, and reports of failed runs."""

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from itertools import chain
from typing import Any

import dagster as dg

from lakehouse.alerting.message import failed_run
from lakehouse.alerting.store import report
from lakehouse.assets.partitions import exact_tags
from lakehouse.assets.resources import LakeResource, arrivals
from lakehouse.assets.specs import key
from lakehouse.automation.backoff import recent_runs, retry_time
from lakehouse.automation.jobs import BATCH, BRONZE, REFRESH, stream_asset_keys
from lakehouse.automation.landing_lag import isolate_errors, landing_lag
from lakehouse.automation.schedules import SETTLING_TIME
from lakehouse.contracts.streams import Stream
from lakehouse.errors import LakehouseError
from lakehouse.landing.incoming import FOLDER, Incoming, select_incoming
from lakehouse.landing.keys import LandingObject, hour_partition
from lakehouse.landing.left_out import LeftOut, group_by_reason, read_report, unknown_folder, write_report
from lakehouse.landing.listing import list_hour
from lakehouse.pipeline.lake import Lake
from lakehouse.pipeline.lineage.date_ranges import format_days
from lakehouse.pipeline.refresh import days_to_refresh, not_ingested
from lakehouse.runtime.instance import STREAM_TAG, lane_tags
from lakehouse.runtime.orphaned_runs import is_active
from lakehouse.serving.lookups.publish import declared_lookups, is_stale
from lakehouse.settings import get_settings

POLL_INTERVAL_SECONDS = 30
LISTED_PREFIX = "listed "
"""Prefix of a stream's name in the cursor of `incoming_files`, for the day on which all its files were last listed."""

CLOSED_HOURS_INTERVAL_SECONDS = 300
MIN_CLOSED_OBJECTS = 10_000
"""Objects of a stream from which a run is requested. Reading this many takes about ten seconds."""


@dg.sensor(
    name="incoming_files",
    job_name=BRONZE,
    minimum_interval_seconds=POLL_INTERVAL_SECONDS,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Ingest new objects under incoming/ into bronze. They are found by listing, from a cursor in storage's clock"
    " with room for skew. With LAKEHOUSE_INCOMING=queue they are found by S3's messages, and listed once a day.",
)
def incoming_files(context: dg.SensorEvaluationContext, lake: LakeResource) -> Iterator[dg.RunRequest | dg.SkipReason]:
    """Request the bronze partitions of files that bronze has not ingested."""
    cursor: dict[str, str] = json.loads(context.cursor or "{}")
    requests, today = 0, datetime.now(UTC).date().isoformat()
    queued = _queued_files(context)
    left_out: dict[str, list[LeftOut]] = {}
    for stream in lake.lake.streams.values():
        if _must_wait(context.instance, stream.name, (BRONZE, BATCH)):
            continue
        with isolate_errors(context, stream.name):
            since = datetime.fromisoformat(cursor[stream.name]) if stream.name in cursor else None
            is_listed = queued is None or cursor.get(LISTED_PREFIX + stream.name) != today
            if is_listed:
                incoming = select_incoming(lake.lake.objects, stream.name)
                left_out[stream.name] = group_by_reason(stream.name, incoming.left_out)
                files = not_ingested(lake.lake, stream, incoming.files, since)
            else:
                incoming, files = Incoming(), (queued or {}).get(stream.name, [])
            if files:
                requests += 1
                yield _bronze_request(stream, files)
            elif is_listed:
                # The cursor passes files only once bronze holds them, so a run that fails or dies is requested again.
                cursor |= {stream.name: _newest_arrival(incoming, since), LISTED_PREFIX + stream.name: today}
    context.update_cursor(json.dumps(cursor))
    report = _report_left_out(context, lake.lake, left_out)
    if not requests:
        yield dg.SkipReason(" ".join(["No new files under incoming/.", *(f"{entry.summary}." for entry in report)]))


@dg.sensor(
    name="late_data",
    job_name=REFRESH,
    minimum_interval_seconds=POLL_INTERVAL_SECONDS,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Compute silver, gold and serving of the days whose bronze is newer, or whose contract or SQL"
    " has changed since, found from metadata alone; and look-ups that are older than their file or tables.",
)
def late_data(context: dg.SensorEvaluationContext, lake: LakeResource) -> Iterator[dg.RunRequest | dg.SkipReason]:
    """Request the stale days of every stream, and the stale look-ups that these runs do not compute."""
    requests, requested = 0, set[str]()
    for stream in lake.lake.streams.values():
        if _must_wait(context.instance, stream.name, (REFRESH, BATCH)):
            continue
        with isolate_errors(context, stream.name):
            if days := days_to_refresh(lake.lake, stream):
                requests += 1
                requested.add(stream.name)
                context.log.info(f"{stream.name}: {format_days(days)}")
                tags = {**exact_tags(days), **lane_tags(REFRESH, stream.name)}
                yield dg.RunRequest(asset_selection=stream_asset_keys(lake.lake, stream), tags=tags)
    for request in _lookup_requests(context, lake.lake, requested):
        requests += 1
        yield request
    if not requests:
        yield dg.SkipReason("No day is stale.")


def _lookup_requests(
    context: dg.SensorEvaluationContext, lake: Lake, requested: Collection[str]
) -> Iterator[dg.RunRequest]:
    """Request the look-ups that are older than their file or tables, and whose streams no run computes."""
    for lookup in declared_lookups(lake).by_name.values():
        lanes = (lookup.asset_name, *lookup.streams)
        if any(name in requested or _must_wait(context.instance, name, (REFRESH, BATCH)) for name in lanes):
            continue
        with isolate_errors(context, lookup.asset_name):
            if is_stale(lake, lookup):
                context.log.info(f"The look-up {lookup.name}")
                tags = {**exact_tags([datetime.now(UTC).date()]), **lane_tags(REFRESH, lookup.asset_name)}
                yield dg.RunRequest(asset_selection=[key("serving", lookup.asset_name)], tags=tags)


@dg.sensor(
    name="closed_hours",
    job_name=BRONZE,
    minimum_interval_seconds=CLOSED_HOURS_INTERVAL_SECONDS,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Ingest today's small objects into bronze once their hours have closed, as soon as there are many,"
    " because the night's run would take long to read them all.",
)
def closed_hours(context: dg.SensorEvaluationContext, lake: LakeResource) -> Iterator[dg.RunRequest | dg.SkipReason]:
    """Request today's bronze partition of the streams of which many objects have landed since it was requested last."""
    cursor: dict[str, list[Any]] = json.loads(context.cursor or "{}")
    closed = (datetime.now(UTC) - SETTLING_TIME).replace(minute=0, second=0, microsecond=0)
    day = (closed - timedelta(hours=1)).date()
    requests = 0
    for stream in lake.lake.streams.values():
        with isolate_errors(context, stream.name):
            since, count = cursor.get(stream.name, ["", 0])
            if since <= (start := f"{day}T00:00:00+00:00"):  # the night's run does what is left of the day before
                since, count = start, 0
            count += _count_objects(lake.lake, stream, datetime.fromisoformat(since), closed)
            if count >= MIN_CLOSED_OBJECTS and not _must_wait(context.instance, stream.name, (BRONZE, BATCH)):
                requests += 1
                tags = {**exact_tags([day]), **lane_tags(BRONZE, stream.name), "lakehouse/files": str(count)}
                yield dg.RunRequest(asset_selection=[dg.AssetKey(["bronze", stream.name])], tags=tags)
                count = 0
            cursor[stream.name] = [closed.isoformat(), count]
    context.update_cursor(json.dumps(cursor))
    if not requests:
        yield dg.SkipReason("Few objects have landed in hours that have closed.")


def _count_objects(lake: Lake, stream: Stream, since: datetime, until: datetime) -> int:
    hours = range(int((until - since) / timedelta(hours=1)))
    names = (hour_partition(since + timedelta(hours=hour)) for hour in hours)
    return sum(len(list_hour(lake.objects, stream.name, name)) for name in names)


@dg.run_failure_sensor(
    name="run_failures",
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Log a failed run, and report it to the receivers of alerts.",
)
def run_failures(context: dg.RunFailureSensorContext) -> None:
    """Log a failed run and report it once, however often Dagster evaluates this for the run."""
    run = context.dagster_run
    context.log.error(f"Run {run.run_id} of {run.job_name} failed: {context.failure_event.message}")
    details = {
        "run_id": run.run_id,
        "job": run.job_name,
        "partitions": run.tags.get("lakehouse/partitions") or run.tags.get("dagster/partition"),
        "error": context.failure_event.message,
    }
    cause = failed_run(run.job_name, run.tags.get(STREAM_TAG), **details)
    report(get_settings(), f"run {run.run_id}", cause)


SENSORS = [incoming_files, late_data, closed_hours, landing_lag, run_failures]


def _bronze_request(stream: Stream, files: Sequence[LandingObject]) -> dg.RunRequest:
    days = sorted({file.day for file in files})
    return dg.RunRequest(
        asset_selection=[dg.AssetKey(["bronze", stream.name])],
        tags={**exact_tags(days), **lane_tags(BRONZE, stream.name), "lakehouse/files": str(len(files))},
    )


def _queued_files(context: dg.SensorEvaluationContext) -> dict[str, list[LandingObject]] | None:
    """List the new files that the queue has messages of, by stream; None without a queue, or when it can't be read."""
    if get_settings().incoming == "list":
        return None
    try:
        return arrivals().pending_files()
    except LakehouseError as error:
        context.log.error(f"{error} Files are listed instead.")
        return None


def _must_wait(instance: dg.DagsterInstance, name: str, jobs: tuple[str, ...]) -> bool:
    """Return whether a run of this stream or look-up is active, or failed so often that its back-off has not passed."""
    for job in jobs:
        tags = {} if job == BATCH else {STREAM_TAG: name}
        records = recent_runs(instance, job, tags)
        if any(is_active(instance, record.dagster_run) for record in records):
            return True
        if job != BATCH and datetime.now(UTC) < retry_time(records):
            return True
    return False


def _newest_arrival(incoming: Incoming, since: datetime | None) -> str:
    times = [file.arrived_at for file in incoming.files]
    return max([*times, since or datetime.fromtimestamp(0, UTC)]).isoformat()


def _report_left_out(
    context: dg.SensorEvaluationContext, lake: Lake, listed: Mapping[str, list[LeftOut]]
) -> list[LeftOut]:
    """Log and store what is left out: of the streams that were listed, of the others as before, and unknown folders."""
    folders = [folder for folder in lake.objects.folders(FOLDER) if _name_of(folder) not in lake.streams]
    before = [entry for entry in read_report(lake.objects) if entry.stream in lake.streams.keys() - listed.keys()]
    report = [
        *before,
        *chain.from_iterable(listed.values()),
        *(unknown_folder(folder, lake.streams) for folder in folders),
    ]
    for entry in report:
        context.log.warning(f"{entry.summary}. {', '.join(entry.objects)}")
    write_report(lake.objects, report)
    return report


def _name_of(folder: str) -> str:
    return folder.removeprefix(f"{FOLDER}/").strip("/")
