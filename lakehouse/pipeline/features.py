"""Compute each entity's features: what was known of it at the end of a day, from silver of the 30 days up to it."""

from collections.abc import Iterable, Sequence
from datetime import date, timedelta
from functools import partial

from pyiceberg.table import Table

from lakehouse.contracts.streams import Stream
from lakehouse.engine.connection import bind, scan_sql
from lakehouse.engine.filters import days_filter
from lakehouse.pipeline.commits import WriteResult
from lakehouse.pipeline.computed_days import compute_days
from lakehouse.pipeline.lake import Lake
from lakehouse.pipeline.lineage.retention import first_kept_day
from lakehouse.storage.iceberg.snapshots import sequence_of

FEATURE_WINDOW_DAYS = 30
"""How many days of silver the features of a day read, the day itself included."""

WINDOWS_SQL = f"""select
  as_of,
  as_of - days_before as dt,
  days_before < 1 as in_1d,
  days_before < 7 as in_7d
from (
  select
    days.dt as as_of,
    cast(unnest(range({FEATURE_WINDOW_DAYS})) as integer) as days_before
  from days
)"""
"""The input `windows` of `features.sql`: for each day to compute, the days whose events count, and in which windows."""


def write_features(lake: Lake, stream: Stream, days: Sequence[date], *, run_id: str = "") -> WriteResult:
    """Replace `serving.{stream}_features` of these days with every entity's features as of each of them."""
    silver = lake.tables.load(f"silver.{stream.name}")
    sources = {f"silver.{stream.name}": sequence_of(silver), **stream.definition_of("features").sources}
    return compute_days(
        lake, stream, f"serving.{stream.name}_features", partial(features_sql, stream, silver), days,
        reads=(silver, _windows_of(days)), sources=sources, run_id=run_id,
    )  # fmt: skip


def features_sql(stream: Stream, silver: Table, days: Sequence[date]) -> str:
    """Generate the SELECT of every entity's features as of these days."""
    return features_of_sql(stream, f"select * from {scan_sql(silver)}", days)


def features_of_sql(stream: Stream, silver: str, days: Sequence[date]) -> str:
    """Generate the SELECT of every entity's features as of these days, from the SELECT of silver."""
    values = ", ".join(f"(date '{day}')" for day in days)
    inputs = {
        "events": f"{silver} where {days_filter(_windows_of(days))}",
        "days": f"select * from (values {values}) as days(dt)" if days else "select null::date as dt limit 0",
        "windows": WINDOWS_SQL,
    }
    return bind(stream.sql("features"), inputs)


def _windows_of(days: Iterable[date]) -> list[date]:
    """List the days of silver that the features of these days read, in order."""
    return sorted({read for day in days for read in feature_window(day)})


def feature_window(day: date) -> list[date]:
    """List the days of silver that the features of `day` read, newest first."""
    return [day - timedelta(days=back) for back in range(FEATURE_WINDOW_DAYS)]


def affected_days(lake: Lake, stream: Stream, changed: Sequence[date]) -> list[date]:
    """List the days whose features a change of silver affects.

    These are the changed days themselves, and each later day within the window that already has features.
    """
    later = {
        day
        for day in _days_with_features(lake, stream)
        for moved in changed
        if 0 < (day - moved).days < FEATURE_WINDOW_DAYS
    }
    return computable_days(lake, stream, later | set(changed))


def computable_days(lake: Lake, stream: Stream, days: Iterable[date]) -> list[date]:
    """Select the days whose features can be computed in full, or that have none yet, in order.

    Once silver has dropped part of a day's window, the features that the day already has are the better ones.
    """
    first = first_kept_day(stream.contract, "silver")
    if first is None:
        return sorted(days)
    existing = _days_with_features(lake, stream)
    return sorted(day for day in days if feature_window(day)[-1] >= first or day not in existing)


def _days_with_features(lake: Lake, stream: Stream) -> set[date]:
    scan = scan_sql(lake.tables.load(f"serving.{stream.name}_features"))
    with lake.engine.cursor() as cursor:
        return {day for (day,) in cursor.execute(f"select distinct dt from {scan}").fetchall()}
