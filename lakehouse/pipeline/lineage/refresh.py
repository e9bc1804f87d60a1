"""What to compute again below bronze, for each stream: the days on which some layer is older than what it is made of."""

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
"""How far apart the clocks of those who store objects may be."""


def days_to_refresh(lake: Lake, stream: Stream) -> list[date]:
    """The days that have to be computed again from silver down, in order: late data, history, and runs that died.

    Never a day before the first that silver keeps: what is left of it in bronze may be a part.
    """
    name, first = stream.name, first_kept_day(stream.contract, "silver")
    bronze, silver = lake.tables.load(f"bronze.{name}"), lake.tables.load(f"silver.{name}")
    days = set(stale_days(bronze, silver)) - _held_back(lake, stream)
    gold = lake.tables.load(f"gold.{name}_daily")
    days |= set(stale_days(silver, gold))
    days |= set(stale_days(gold, lake.tables.load(DAILY_METRICS)))
    days |= set(stale_days(silver, lake.tables.load(f"serving.{name}_alerts")))
    if features := stale_days(silver, lake.tables.load(f"serving.{name}_features")):
        days |= set(computable_days(lake, stream, features))
    return sorted(day for day in days if first is None or day >= first)


def _held_back(lake: Lake, stream: Stream) -> set[date]:
    """Days that the quality gate refused and whose bronze has not changed since: trying again would refuse them again."""
    bronze, quarantine = lake.tables.load(f"bronze.{stream.name}"), lake.tables.load(f"quarantine.{stream.name}")
    held = blocked_days(quarantine)
    if not held:
        return held
    touched, read = last_changes(bronze), computed_from(quarantine, f"bronze.{stream.name}", held)
    return {day for day in held if read.get(day, -1) >= touched.get(day, 0)}


def pending_files(lake: Lake, stream: Stream, since: datetime | None = None) -> list[LandingObject]:
    """Files under `incoming/` that bronze has not taken, of those that arrived since about then."""
    listed = list_incoming(lake.objects, stream.name, since=since - MAX_CLOCK_SKEW if since else None)
    if not listed:
        return []
    table = lake.tables.load(f"bronze.{stream.name}")
    held = ingested_objects(lake, table, sorted({one.day for one in listed}))
    return [one for one in listed if one.key not in held]
