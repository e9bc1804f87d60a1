"""The sensor that watches landing: it reports the lag of every stream, and the hours in which objects have landed."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import dagster as dg

from lakehouse.assets.resources import LakeResource, arrivals
from lakehouse.assets.specs import key
from lakehouse.contracts.streams import Stream
from lakehouse.errors import LakehouseError
from lakehouse.landing.keys import hour_partition
from lakehouse.pipeline.lag import Lag, measure_lag, newest_landed
from lakehouse.pipeline.lake import Lake
from lakehouse.settings import get_settings
from lakehouse.sources.kinesis import status as kinesis

POLL_INTERVAL_SECONDS = 300
IDLE_OBSERVATION_INTERVAL = timedelta(hours=1)
"""Between two observations of an idle stream, because observations every five minutes would fill Dagster's history."""

FILE_LOOK_BACK_TIME = timedelta(days=1)
"""Pending files are searched among those that arrived within this time."""

AssetEvent = dg.AssetObservation | dg.AssetMaterialization


@dataclass(slots=True)
class _StreamCursor:
    """The sensor's cursor of one stream. The field names are stored in Dagster's instance."""

    newest: str | None = None
    """When the newest object landed, as of the last tick."""
    told_at: str | None = None
    """When the stream was last observed."""
    was_quiet: bool = False
    """Whether the stream was idle: no object pending and none landed."""


@dg.sensor(
    name="landing_lag",
    minimum_interval_seconds=POLL_INTERVAL_SECONDS,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Observe how old each stream's newest landing object is and how many are pending; mark landed hours.",
)
def landing_lag(context: dg.SensorEvaluationContext, lake: LakeResource) -> dg.SensorResult:
    """Observe every stream's landing asset."""
    now = datetime.now(UTC)
    cursors: dict[str, Any] = json.loads(context.cursor or "{}")
    queue_depth = _queue_depth(context)
    events: list[AssetEvent] = []
    for stream in lake.lake.streams.values():
        cursor = _StreamCursor(**cursors.get(stream.name, {}))
        with isolate_errors(context, stream.name):
            events += _observe(lake.lake, stream, cursor, now, queue_depth)
        cursors[stream.name] = asdict(cursor)
    return dg.SensorResult(asset_events=events, cursor=json.dumps(cursors))


@contextmanager
def isolate_errors(context: dg.SensorEvaluationContext, name: str) -> Iterator[None]:
    """Log an error of one stream or look-up, so that it holds up no other; the next tick tries again."""
    try:
        yield
    except Exception:
        context.log.exception(f"{name} is left out of this tick; the others go on.")


def _observe(
    lake: Lake, stream: Stream, cursor: _StreamCursor, now: datetime, queue_depth: dict[str, float]
) -> Iterator[AssetEvent]:
    """Return the stream's events since the last tick, and move its cursor."""
    before = datetime.fromisoformat(cursor.newest) if cursor.newest else newest_landed(lake, stream, now)
    lag = measure_lag(
        lake, stream, now, files_since=now - FILE_LOOK_BACK_TIME, list_files=get_settings().incoming == "list"
    )
    newest = max(
        [*(landed.arrived_at for landed in lag.landed), *filter(None, (before, lag.newest_in_bronze))], default=None
    )
    since = before if cursor.newest else None
    numbers = lag.as_metrics(now) | _kinesis_numbers(stream) | queue_depth
    if newest is not None:
        numbers["newest_object_age_seconds"] = round((now - newest).total_seconds(), 1)
    is_idle = newest == since and not any(numbers[name] for name in ("objects_waiting", "files_waiting"))
    # Dagster judges freshness by materializations, and landing happens outside Dagster.
    yield from _landed_hours(stream, lag, newest, since)
    is_due = cursor.told_at is None or now - datetime.fromisoformat(cursor.told_at) >= IDLE_OBSERVATION_INTERVAL
    if not is_idle or not cursor.was_quiet or is_due:
        yield dg.AssetObservation(key("landing", stream.name), metadata=numbers)
        cursor.told_at = now.isoformat()
    cursor.was_quiet = is_idle
    cursor.newest = newest.isoformat() if newest else None


def _landed_hours(
    stream: Stream, lag: Lag, newest: datetime | None, since: datetime | None
) -> Iterator[dg.AssetMaterialization]:
    """Return a materialization of each hour in which an object has landed since then."""
    sizes_by_hour: dict[str, list[int]] = {}
    for landed in lag.landed:
        if since is None or landed.arrived_at > since:
            sizes_by_hour.setdefault(landed.hour, []).append(landed.size)
    if lag.newest_in_bronze is not None and (since is None or lag.newest_in_bronze > since):
        sizes_by_hour.setdefault(hour_partition(lag.newest_in_bronze), [])
    for hour, sizes in sorted(sizes_by_hour.items()):
        yield dg.AssetMaterialization(
            key("landing", stream.name),
            partition=hour,
            metadata={"objects": len(sizes), "bytes": sum(sizes), "newest": str(newest)},
        )


def _kinesis_numbers(stream: Stream) -> dict[str, float]:
    """Return how far the reader of the stream's Kinesis stream is behind; empty without one."""
    settings = get_settings()
    for status in kinesis.read_statuses(settings):
        if status.stream == stream.name and status.stream in settings.kinesis:
            numbers: dict[str, float] = {"kinesis_is_read": int(status.is_current and status.error is None)}
            if status.is_current and status.behind_ms is not None:
                numbers["kinesis_behind_seconds"] = status.behind_ms / 1000
            return numbers
    return {}


def _queue_depth(context: dg.SensorEvaluationContext) -> dict[str, float]:
    """Measure how many messages the queue of new files holds, over all streams. Empty without a queue."""
    if get_settings().incoming == "list":
        return {}
    try:
        return {f"queue_messages_{state}": count for state, count in arrivals().inbox.depth().items()}
    except LakehouseError as error:
        context.log.error(str(error))
        return {}
