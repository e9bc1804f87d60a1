"""How far the layers are behind what has landed. What follows from it is not decided here."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from lakehouse.contracts.streams import Stream
from lakehouse.landing.keys import LandingObject, hour_partition
from lakehouse.landing.listing import hours_landed, list_hour
from lakehouse.pipeline.lake import Lake
from lakehouse.pipeline.lineage.refresh import pending_files
from lakehouse.pipeline.realtime import arrival_hour_of
from lakehouse.storage.iceberg.manifests import newest_time
from lakehouse.storage.iceberg.partitions import partitions_filter

LISTED_SPAN = timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class Lag:
    """What of a stream has landed lately, and what of it waits."""

    landed: Sequence[LandingObject]
    """Objects of this hour and the one before; files that wait."""
    waiting: Sequence[LandingObject]
    """Objects under `realtime/` that arrived after the newest row the realtime table holds."""
    files: Sequence[LandingObject]
    """Files under `incoming/` that bronze does not hold."""
    taken: datetime | None
    """When the newest of today's rows in bronze arrived: files that bronze took at once are seen by that alone."""

    def numbers(self, now: datetime) -> dict[str, float]:
        """The lag as numbers: objects and files that wait, their bytes, and the seconds the oldest has waited."""
        both = [*self.waiting, *self.files]
        oldest = min((one.arrived_at for one in both), default=now)
        return {
            "objects_waiting": len(self.waiting),
            "files_waiting": len(self.files),
            "bytes_waiting": sum(one.size for one in both),
            "seconds_waiting": round(max((now - oldest).total_seconds(), 0.0), 1),
        }


def measure_lag(
    lake: Lake, stream: Stream, now: datetime, *, files_since: datetime | None, list_files: bool = True
) -> Lag:
    """How far a stream's tables are behind its landing objects; from a listing of two hours and table metadata.

    Files are those that arrived since about `files_since`; none without `list_files`.
    """
    hours = sorted({hour_partition(now - LISTED_SPAN), hour_partition(now)})
    landed = [one for hour in hours for one in list_hour(lake.objects, stream.name, hour)]
    among_hours = partitions_filter("arrival_hour", [arrival_hour_of(hour) for hour in hours])
    held = newest_time(lake.tables.load(f"realtime.{stream.name}"), "_arrived_at", among_hours) if landed else None
    waiting = [one for one in landed if held is None or one.arrived_at > held]
    files = pending_files(lake, stream, files_since) if list_files else []
    taken = newest_time(
        lake.tables.load(f"bronze.{stream.name}"), "_arrived_at", partitions_filter("arrival_dt", [now.date()])
    )
    return Lag([*landed, *files], waiting, files, taken)


def newest_landed(lake: Lake, stream: Stream, now: datetime) -> datetime | None:
    """When the newest object under `realtime/` arrived, of the last week's; None when there is none."""
    today = now.date()
    hours = hours_landed(lake.objects, stream.name, today - timedelta(days=7), today)
    found = list_hour(lake.objects, stream.name, hours[-1]) if hours else []
    return max((one.arrived_at for one in found), default=None)
