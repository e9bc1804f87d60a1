"""Find what a stream's next runs have to do: days to compute again below bronze, and files that bronze has not ingested."""

from datetime import date, datetime, timedelta

from lakehouse.contracts.streams import Stream
from lakehouse.landing.keys import LandingObject
from lakehouse.landing.listing import list_incoming
from lakehouse.pipeline.bronze import ingested_objects
from lakehouse.pipeline.features import computable_days
from lakehouse.pipeline.gold import DAILY_METRICS
from lakehouse.pipeline.lake import Lake
from lakehouse.pipeline.lineage.properties import blocked_days, computed_from
from lakehouse.pipeline.lineage.retention import first_kept_day
from lakehouse.pipeline.lineage.staleness import last_changes, stale_days

MAX_CLOCK_SKEW = timedelta(minutes=15)
"""How far apart the clocks of programs that store objects may be."""


def days_to_refresh(lake: Lake, stream: Stream) -> list[date]:
    """List the event dates whose silver, gold or serving data predates its source, in order.

    That covers late data, loaded history and runs that died. Days before the first that silver keeps are left out,
    because bronze may hold only part of their rows.
    """
    name = stream.name
    bronze, silver = lake.tables.load(f"bronze.{name}"), lake.tables.load(f"silver.{name}")
    gold = lake.tables.load(f"gold.{name}_daily")
    days = set(stale_days(bronze, silver)) - _still_blocked(lake, stream)
    days |= set(stale_days(silver, gold))
    days |= set(stale_days(gold, lake.tables.load(DAILY_METRICS)))
    days |= set(stale_days(silver, lake.tables.load(f"serving.{name}_alerts")))
    if features := stale_days(silver, lake.tables.load(f"serving.{name}_features")):
        days |= set(computable_days(lake, stream, features))
    first = first_kept_day(stream.contract, "silver")
    return sorted(day for day in days if first is None or day >= first)


def _still_blocked(lake: Lake, stream: Stream) -> set[date]:
    """List the days that the quality gate would block again, because their bronze has not changed since it did."""
    bronze, quarantine = lake.tables.load(f"bronze.{stream.name}"), lake.tables.load(f"quarantine.{stream.name}")
    blocked = blocked_days(quarantine)
    if not blocked:
        return blocked
    changes, read = last_changes(bronze), computed_from(quarantine, f"bronze.{stream.name}", blocked)
    return {day for day in blocked if read.get(day, -1) >= changes.get(day, 0)}


def pending_files(lake: Lake, stream: Stream, since: datetime | None = None) -> list[LandingObject]:
    """List the files under `incoming/` that bronze has not ingested.

    With `since`, files that arrived before about then are left out.
    """
    listed = list_incoming(lake.objects, stream.name, since=since - MAX_CLOCK_SKEW if since else None)
    if not listed:
        return []
    table = lake.tables.load(f"bronze.{stream.name}")
    ingested = ingested_objects(lake, table, sorted({file.day for file in listed}))
    return [file for file in listed if file.key not in ingested]
