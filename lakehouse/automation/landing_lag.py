"""The sensor that watches what lands: the lag of every stream as numbers, and which hours have got something new."""

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import dagster as dg

from lakehouse.assets.resources import LakeResource, arrivals
from lakehouse.assets.specs import key
from lakehouse.contracts.streams import Stream
from lakehouse.errors import LakehouseError
from lakehouse.landing.keys import hour_partition
from lakehouse.pipeline.lake import Lake
from lakehouse.pipeline.lineage.lag import Lag, measure_lag, newest_landed
from lakehouse.settings import get_settings
from lakehouse.sources.kinesis import status as kinesis

EVERY = 300
QUIET = timedelta(hours=1)
"""Between two observations of a stream of which nothing waits and nothing lands: else they alone would fill the history."""

FILES = timedelta(days=1)
"""Files that wait are looked for among those that arrived since."""

Event = dg.AssetObservation | dg.AssetMaterialization


@dataclass(slots=True)
class _Seen:
    """What the last look at a stream has told."""

    newest: str | None = None
    told_at: str | None = None
    was_quiet: bool = False


@dg.sensor(
    name="landing_lag",
    minimum_interval_seconds=EVERY,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Tells of each stream how old its newest landing object is and what waits, and marks hours as landed.",
)
def landing_lag(context: dg.SensorEvaluationContext, lake: LakeResource) -> dg.SensorResult:
    """Observe every stream's landing asset."""
    now = datetime.now(UTC)
    cursor: dict[str, Any] = json.loads(context.cursor or "{}")
    shared = _queue(context)
    events: list[Event] = []
    for stream in lake.lake.streams.values():
        seen = _Seen(**cursor.get(stream.name, {}))
        events += _look(lake.lake, stream, seen, now, shared)
        cursor[stream.name] = asdict(seen)
    return dg.SensorResult(asset_events=events, cursor=json.dumps(cursor))


def _look(lake: Lake, stream: Stream, seen: _Seen, now: datetime, shared: dict[str, float]) -> Iterator[Event]:
    before = datetime.fromisoformat(seen.newest) if seen.newest else newest_landed(lake, stream, now)
    lag = measure_lag(lake, stream, now, files_since=now - FILES, list_files=get_settings().incoming == "list")
    newest = max([*(one.arrived_at for one in lag.landed), *filter(None, (before, lag.newest_in_bronze))], default=None)
    since = before if seen.newest else None
    numbers = lag.as_metrics(now) | _kinesis(stream) | shared
    if newest is not None:
        numbers["newest_object_age_seconds"] = round((now - newest).total_seconds(), 1)
    is_quiet = newest == since and not any(numbers[name] for name in ("objects_waiting", "files_waiting"))
    # Freshness is judged by materializations; nothing else makes any of what is outside Dagster.
    yield from _landed(stream, lag, newest, since)
    is_due = seen.told_at is None or now - datetime.fromisoformat(seen.told_at) >= QUIET
    if not is_quiet or not seen.was_quiet or is_due:
        yield dg.AssetObservation(key("landing", stream.name), metadata=numbers)
        seen.told_at = now.isoformat()
    seen.was_quiet = is_quiet
    seen.newest = newest.isoformat() if newest else None


def _landed(stream: Stream, lag: Lag, newest: datetime | None, since: datetime | None) -> Iterator[Event]:
    """A materialization of each hour in which something has landed since."""
    fresh: dict[str, list[int]] = {}
    for one in lag.landed:
        if since is None or one.arrived_at > since:
            fresh.setdefault(one.hour, []).append(one.size)
    if lag.newest_in_bronze is not None and (since is None or lag.newest_in_bronze > since):
        fresh.setdefault(hour_partition(lag.newest_in_bronze), [])
    for hour, sizes in sorted(fresh.items()):
        yield dg.AssetMaterialization(
            key("landing", stream.name),
            partition=hour,
            metadata={"objects": len(sizes), "bytes": sum(sizes), "newest": str(newest)},
        )


def _kinesis(stream: Stream) -> dict[str, float]:
    """How far the reading of the stream's Kinesis stream is behind; nothing when there is none or nobody reads it."""
    for status in kinesis.read_statuses(get_settings()):
        if status.stream == stream.name and status.stream in get_settings().kinesis:
            told = {"kinesis_is_read": int(status.is_current and status.error is None)}
            behind = {} if status.behind_ms is None else {"kinesis_behind_seconds": status.behind_ms / 1000}
            return told | (behind if status.is_current else {})
    return {}


def _queue(context: dg.SensorEvaluationContext) -> dict[str, float]:
    """How much the queue of new files holds, for all streams together; nothing when there is none."""
    if get_settings().incoming == "list":
        return {}
    try:
        return {f"queue_messages_{what}": count for what, count in arrivals().inbox.depth().items()}
    except LakehouseError as problem:
        context.log.error(str(problem))
        return {}
