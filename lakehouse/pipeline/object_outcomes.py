"""Count the rows of landing objects: how many are valid, duplicate or rejected, and for which reasons."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date

from lakehouse.contracts.sql import quote
from lakehouse.contracts.streams import Stream
from lakehouse.engine.connection import scan_sql
from lakehouse.engine.filters import days_filter, objects_filter
from lakehouse.landing.keys import LandingObject
from lakehouse.pipeline.lake import Lake
from lakehouse.pipeline.lineage.retention import first_kept_day
from lakehouse.pipeline.object_duplicates import count_duplicates

MAX_REASONS = 3


@dataclass(frozen=True, slots=True)
class ObjectOutcome:
    """Numbers of rows of one landing object."""

    landed: int = 0
    rejected: int = 0
    reasons: tuple[str, ...] = ()
    """The most frequent reasons for rejected rows, at most MAX_REASONS."""
    expired: int = 0
    """Rows of days that silver no longer keeps."""
    duplicates: int = 0
    """Valid rows that silver does not have, because a later row has their key."""

    @property
    def valid(self) -> int:
        """Rows that the contract accepts, duplicates included."""
        return self.landed - self.rejected - self.expired


def object_outcomes(lake: Lake, stream: Stream, objects: Iterable[LandingObject]) -> dict[str, ObjectOutcome]:
    """Count the rows of these objects in bronze and quarantine, by key. Both must be up to date."""
    objects = list(objects)
    if not objects:
        return {}
    ours = objects_filter(sorted({obj.key for obj in objects}))
    arrived = days_filter(sorted({obj.day for obj in objects}), "arrival_dt")
    bronze_table, quarantine_table = (lake.tables.load(f"{layer}.{stream.name}") for layer in ("bronze", "quarantine"))
    bronze, quarantine = scan_sql(bronze_table), scan_sql(quarantine_table)
    first = first_kept_day(stream.contract, "silver") or date.min
    landed, expired, days = Counter[str](), Counter[str](), set[date]()
    with lake.engine.cursor() as cursor:
        for key, day, rows in cursor.execute(f"""
            select _object, dt, count(*)
            from {bronze}
            where {arrived} and {ours}
            group by _object, dt""").fetchall():
            landed[key] += rows
            if day < first:
                expired[key] += rows
            else:
                days.add(day)
        cursor.execute(
            f"create temp table rejected as {_rejected_sql(stream, bronze, quarantine, days_filter(sorted(days)), ours)}"
        )
        duplicates = count_duplicates(cursor, stream.contract, bronze_table, quarantine_table, days, ours)
        rejected = cursor.execute(f"""
            with totals as (select _object, count(*) as total from rejected group by _object),
            by_reason as (
              select _object, reason, count(*) as number
              from (select _object, unnest(reasons) as reason from rejected)
              group by _object, reason
            )
            select _object, total, list(reason order by number desc, reason)[:{MAX_REASONS}]
            from totals
            left join by_reason using (_object)
            group by _object, total""").fetchall()
    reasons = {key: (total, tuple(filter(None, texts))) for key, total, texts in rejected}
    return {
        key: ObjectOutcome(rows, *reasons.get(key, (0, ())), expired=expired[key], duplicates=duplicates.get(key, 0))
        for key, rows in landed.items()
    }


def _rejected_sql(stream: Stream, bronze: str, quarantine: str, days: str, ours: str) -> str:
    """Generate the SELECT of each row that is in quarantine, or equals one that is, because equal rows are there once."""
    fields = [*(quote(field.name) for field in stream.contract.fields), "_extra", "dt"]
    same = " and ".join(f"others.{name} is not distinct from kept.{name}" for name in fields)
    return f"""
            with refused as (select _object, _row, reasons from {quarantine} where {days}),
            texts as (select {", ".join(fields)}, _object, _row from {bronze} where {days} and _defect is null),
            kept as (select texts.*, reasons from texts join refused using (_object, _row)),
            others as (from texts anti join refused using (_object, _row) where {ours})
            select _object, _row, reasons from refused where {ours}
            union all
            select others._object, others._row, kept.reasons from others join kept on {same}"""
