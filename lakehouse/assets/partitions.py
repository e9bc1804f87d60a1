"""Which partitions there are, and which of them a run is about."""

from collections.abc import Mapping, Sequence
from datetime import date, timedelta

import dagster as dg

from lakehouse.contracts.model import Contract
from lakehouse.pipeline.lineage import date_ranges as day_sets
from lakehouse.pipeline.lineage.retention import first_kept_day

EXACT_TAG = "lakehouse/partitions"
"""A run about days with gaps between them names them here; Dagster itself knows ranges only."""

_DEFER_TAG = "dagster/defer_asset_events"
_RANGE_START, _RANGE_END = "dagster/asset_partition_range_start", "dagster/asset_partition_range_end"


def daily(start: date) -> dg.DailyPartitionsDefinition:
    """Days in UTC from `start` to tomorrow, for an event may be dated up to a day after its arrival."""
    return dg.DailyPartitionsDefinition(start_date=start.isoformat(), end_offset=2, timezone="UTC")


def hourly(start: date) -> dg.HourlyPartitionsDefinition:
    """Hours in UTC from `start` to the current one."""
    return dg.HourlyPartitionsDefinition(start_date=f"{start}-00:00", end_offset=1, timezone="UTC")


def window(days: int) -> dg.TimeWindowPartitionMapping:
    """A partition that is computed from itself and the days before it, `days` in all."""
    return dg.TimeWindowPartitionMapping(
        start_offset=1 - days, end_offset=0, allow_nonexistent_upstream_partitions=True
    )


def exact_tags(days: Sequence[date]) -> dict[str, str]:
    """The tags of one run about just these days, however they lie."""
    return {
        _RANGE_START: min(days).isoformat(),
        _RANGE_END: max(days).isoformat(),
        EXACT_TAG: day_sets.format_days(days),
        # Dagster would say of every day of the range that it was materialized; we say it of those that were.
        _DEFER_TAG: "true",
    }


def exact_days(tags: Mapping[str, str]) -> list[date] | None:
    """The days that a run's tags name one by one; None for a run as Dagster knows it."""
    text = tags.get(EXACT_TAG)
    return None if text is None else day_sets.parse_days(text)


def run_days(context: dg.AssetExecutionContext, contract: Contract | None = None) -> list[date]:
    """The days that this run is about; those before the stream's history starts are no partitions of it, and those
    before the first that silver keeps are not computed again, for bronze may hold a part of them only.
    """
    days = exact_days(context.run.tags)
    kept = (first_kept_day(contract, "silver") if contract else None) or date.min
    if days is None:
        wanted = [date.fromisoformat(key) for key in context.partition_keys]
        if gone := [day for day in wanted if day < kept]:
            context.log.warning(f"Not computed, for silver keeps no day before {kept}: {day_sets.format_days(gone)}")
        return [day for day in wanted if day >= kept]
    start = max(contract.history_start if contract else date.min, kept)
    return [day for day in days if day >= start]


def day_range(first: date, last: date) -> list[date]:
    """All days from `first` to `last`."""
    return [first + timedelta(days=n) for n in range((last - first).days + 1)]
