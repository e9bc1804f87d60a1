"""Measure how far a stream's tables are behind what has landed, from listings and table metadata."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from lakehouse.contracts.streams import Stream
from lakehouse.landing.keys import LandingObject, arrival_hour, hour_partition
from lakehouse.landing.listing import hours_landed, list_hour
from lakehouse.pipeline.lake import Lake
from lakehouse.pipeline.refresh import pending_files
from lakehouse.storage.iceberg.manifests import newest_time
from lakehouse.storage.iceberg.partitions import partitions_filter

ONE_HOUR = timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class Lag:
    """The objects of a stream that landed lately, and those that are pending."""

    landed: Sequence[LandingObject]
    """Objects under `realtime/` of this hour and the one before, and pending files."""
    pending_objects: Sequence[LandingObject]
    """Objects under `realtime/` that arrived after the newest row of the realtime table."""
    pending_files: Sequence[LandingObject]
    """Files under `incoming/` that bronze has not ingested."""
    newest_in_bronze: datetime | None
    """When the newest of today's bronze rows arrived: only this shows files that bronze ingested at once."""

    def as_metrics(self, now: datetime) -> dict[str, float]:
        """Count pending objects, files and bytes, and the seconds for which the oldest has been pending."""
        pending = [*self.pending_objects, *self.pending_files]
        oldest = min((obj.arrived_at for obj in pending), default=now)
        return {
            "objects_waiting": len(self.pending_objects),
            "files_waiting": len(self.pending_files),
            "bytes_waiting": sum(obj.size for obj in pending),
            "seconds_waiting": round(max((now - oldest).total_seconds(), 0.0), 1),
        }


def measure_lag(
    lake: Lake, stream: Stream, now: datetime, *, files_since: datetime | None, list_files: bool = True
) -> Lag:
    """Measure a stream's lag at `now`, from a listing of two hours and table metadata.

    Files that arrived before about `files_since` are left out, and without `list_files` all files are.
    """
    times = now - ONE_HOUR, now
    landed = [obj for at in times for obj in list_hour(lake.objects, stream.name, hour_partition(at))]
    newest = None
    if landed:
        hours = partitions_filter("arrival_hour", map(arrival_hour, times))
        newest = newest_time(lake.tables.load(f"realtime.{stream.name}"), "_arrived_at", hours)
    today = partitions_filter("arrival_dt", [now.date()])
    files = pending_files(lake, stream, files_since) if list_files else []
    return Lag(
        landed=[*landed, *files],
        pending_objects=[obj for obj in landed if newest is None or obj.arrived_at > newest],
        pending_files=files,
        newest_in_bronze=newest_time(lake.tables.load(f"bronze.{stream.name}"), "_arrived_at", today),
    )


def newest_landed(lake: Lake, stream: Stream, now: datetime) -> datetime | None:
    """Return when the newest object under `realtime/` arrived, within the last week; None if none did.

    Of sections of shared objects only those that realtime holds are found, because each hour has many objects of others.
    """
    first = now - timedelta(days=7)
    hours = hours_landed(lake.objects, stream.name, first.date(), now.date(), shared=False)
    newest_hour = list_hour(lake.objects, stream.name, hours[-1]) if hours else []
    newest_row = newest_time(lake.tables.load(f"realtime.{stream.name}"), "_arrived_at")
    times = [*(obj.arrived_at for obj in newest_hour), *([newest_row] if newest_row and newest_row >= first else [])]
    return max(times, default=None)
