"""Find what a stream's next runs have to do: days to compute again below bronze, and days and files to ingest into it."""

from collections.abc import Iterator, Sequence
from datetime import date, datetime, timedelta

from pyiceberg.table import Table

from lakehouse.contracts.default_sql import Query
from lakehouse.contracts.streams import Stream
from lakehouse.landing.keys import LandingObject
from lakehouse.landing.listing import days_landed, list_incoming, list_realtime_day
from lakehouse.pipeline.anomalies import stale_anomaly_days
from lakehouse.pipeline.bronze import ingested_objects, pending_days
from lakehouse.pipeline.features import computable_days
from lakehouse.pipeline.lake import Lake
from lakehouse.pipeline.lineage.properties import blocked_days, computed_from
from lakehouse.pipeline.lineage.retention import first_kept_day
from lakehouse.pipeline.lineage.staleness import last_changes, older_days, redefined_days, stale_days
from lakehouse.pipeline.long_form import DAILY_METRICS
from lakehouse.storage.iceberg.manifests import select_files
from lakehouse.storage.iceberg.partitions import date_from_days, partition_position, partitions_filter

MAX_CLOCK_SKEW = timedelta(minutes=15)
"""How far apart the clocks of programs that store objects may be."""

CLEANED_LAYERS = ("bronze", "silver", "quarantine")

COMPARED_DAYS = 7
"""How many of the newest days, and about how many of the others, `missed_days` compares with bronze object by object, whatever
bronze holds of them."""

SUSPECTS_AT_ONCE = 100
"""Days for which `missed_days` asks bronze at once, because each question reads the table's manifests."""


def days_to_refresh(lake: Lake, stream: Stream) -> list[date]:
    """List the event dates whose silver, gold or serving data predates its source or its definition, in order.

    That covers late data, loaded history, runs that died, and a changed contract or SQL file. Days that a run would skip
    are left out: those before the stream's history, and those before the first that silver keeps, because bronze may hold
    only part of their rows.
    """
    days = _stale_in_silver(lake, stream) | _stale_below_silver(lake, stream)
    first = max(stream.contract.history_start, first_kept_day(stream.contract, "silver") or date.min)
    return sorted(day for day in days if day >= first)


def _stale_in_silver(lake: Lake, stream: Stream) -> set[date]:
    bronze, silver, quarantine = (lake.tables.load(f"{layer}.{stream.name}") for layer in CLEANED_LAYERS)
    changes = last_changes(bronze)
    days: set[date] = set()
    for table in (silver, quarantine):
        days |= older_days(bronze, changes, table) | redefined_days(table, stream.definition, changes)
    return days - _still_blocked(lake, stream) if days else days


def _stale_below_silver(lake: Lake, stream: Stream) -> set[date]:
    name = stream.name
    silver, gold = lake.tables.load(f"silver.{name}"), lake.tables.load(f"gold.{name}_daily")
    changes = last_changes(silver)

    def stale(derived: Table, query: Query) -> set[date]:
        redefined = redefined_days(derived, stream.definition_of(query), changes)
        return older_days(silver, changes, derived) | redefined

    days = stale(gold, "gold") | set(stale_days(gold, lake.tables.load(DAILY_METRICS)))
    if stream.has_alerts:
        days |= stale(lake.tables.load(f"serving.{name}_alerts"), "alerts")
    if stream.contract.anomaly:
        days |= stale_anomaly_days(lake, stream)
    if stream.has_features and (features := stale(lake.tables.load(f"serving.{name}_features"), "features")):
        days |= set(computable_days(lake, stream, features))
    return days


def _still_blocked(lake: Lake, stream: Stream) -> set[date]:
    """List the days that the quality gate would block again: neither their bronze nor the contract has changed since."""
    bronze, quarantine = lake.tables.load(f"bronze.{stream.name}"), lake.tables.load(f"quarantine.{stream.name}")
    blocked = blocked_days(quarantine)
    if not blocked:
        return blocked
    changes, read = last_changes(bronze), computed_from(quarantine, bronze, blocked)
    unchanged = {day for day in blocked if read.get(day, -1) >= changes.get(day, 0)}
    return unchanged - redefined_days(quarantine, stream.definition, blocked)


def missed_days(lake: Lake, stream: Stream, last: date) -> Iterator[date]:
    """Yield the days of arrival up to `last` with objects that bronze has not ingested, oldest first.

    A listing of folders and bronze's manifests rule out most days: a day is taken as ingested if bronze has rows that
    arrived on it and rows that arrived on the day after, which only a later run can have ingested. The newest days, and
    those whose ingested objects retention has deleted, are compared object by object all the same. So are a few of the
    others, by turns, because an object may be put into the folder of an old day.
    """
    newest = last - timedelta(days=COMPARED_DAYS - 1)
    table = lake.tables.load(f"bronze.{stream.name}")
    landed = days_landed(lake.objects, stream.name, stream.contract.history_start, newest - timedelta(days=1))
    ingested = _days_of_arrival(table, landed)
    kept = first_kept_day(stream.contract, "landing", last) or date.min
    settled = [day for day in landed if day >= kept and {day, day + timedelta(days=1)} <= ingested]
    turns = max(1, -(-len(settled) // COMPARED_DAYS))
    skipped = set(settled) - set(settled[last.toordinal() % turns :: turns])
    suspects = [day for day in landed if day not in skipped]
    for start in range(0, len(suspects), SUSPECTS_AT_ONCE):
        group = suspects[start : start + SUSPECTS_AT_ONCE]
        keys = ingested_objects(lake, table, [day for day in group if day in ingested])
        for day in group:
            if any(obj.key not in keys for obj in list_realtime_day(lake.objects, stream.name, day)):
                yield day
    yield from pending_days(lake, stream, newest, last)


def _days_of_arrival(table: Table, landed: list[date]) -> set[date]:
    """Select the days on which rows of bronze arrived, of these days and those after each."""
    if not landed:
        return set()
    candidates = {day + timedelta(days=n) for day in landed for n in range(2)}
    position = partition_position(table.spec(), "arrival_dt")
    files = select_files(table, partitions_filter("arrival_dt", sorted(candidates)))
    return {date_from_days(file.partition[position]) for file in files}


def pending_files(lake: Lake, stream: Stream, since: datetime | None = None) -> list[LandingObject]:
    """List the files under `incoming/` that bronze has not ingested.

    With `since`, files that arrived before about then are left out.
    """
    return not_ingested(lake, stream, list_incoming(lake.objects, stream.name), since)


def not_ingested(
    lake: Lake, stream: Stream, listed: Sequence[LandingObject], since: datetime | None = None
) -> list[LandingObject]:
    """Select the listed files that bronze has not ingested. With `since`, as `pending_files`."""
    if since:
        listed = [file for file in listed if file.arrived_at >= since - MAX_CLOCK_SKEW]
    if not listed:
        return []
    table = lake.tables.load(f"bronze.{stream.name}")
    ingested = ingested_objects(lake, table, sorted({file.day for file in listed}))
    return [file for file in listed if file.key not in ingested]
