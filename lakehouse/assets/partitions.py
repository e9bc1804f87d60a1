"""Which partitions the assets have, and which of them a run materializes."""

from collections.abc import Mapping, Sequence
from datetime import date

import dagster as dg

from lakehouse.contracts.model import Contract
from lakehouse.pipeline.lineage.date_ranges import format_days, parse_days
from lakehouse.pipeline.lineage.retention import first_kept_day

EXACT_TAG = "lakehouse/partitions"
"""The exact days of a run. Dagster knows ranges only, and these days may have gaps."""

BACKFILL_TAG = "dagster/backfill"
_DEFER_TAG = "dagster/defer_asset_events"
_RANGE_START, _RANGE_END = "dagster/asset_partition_range_start", "dagster/asset_partition_range_end"


def daily(start: date) -> dg.DailyPartitionsDefinition:
    """Partition by day in UTC, from `start` to tomorrow: an event may be dated up to a day after its arrival."""
    return dg.DailyPartitionsDefinition(start_date=start.isoformat(), end_offset=2, timezone="UTC")


def hourly(start: date) -> dg.HourlyPartitionsDefinition:
    """Partition by hour in UTC, from `start` to the current hour."""
    return dg.HourlyPartitionsDefinition(start_date=f"{start}-00:00", end_offset=1, timezone="UTC")


def window(days: int) -> dg.TimeWindowPartitionMapping:
    """Map a day to itself and the days before it, `days` in all."""
    return dg.TimeWindowPartitionMapping(
        start_offset=1 - days, end_offset=0, allow_nonexistent_upstream_partitions=True
    )


def exact_tags(days: Sequence[date]) -> dict[str, str]:
    """Make the tags of one run that materializes just these days, gaps or not."""
    return {
        _RANGE_START: min(days).isoformat(),
        _RANGE_END: max(days).isoformat(),
        EXACT_TAG: format_days(days),
        # Dagster would report every day of the range as materialized. The assets report the exact days instead.
        _DEFER_TAG: "true",
    }


def exact_days(tags: Mapping[str, str]) -> list[date] | None:
    """Read the exact days from a run's tags; None if the run has a partition or range of Dagster's."""
    text = tags.get(EXACT_TAG)
    return None if text is None else parse_days(text)


def run_days(context: dg.AssetExecutionContext, contract: Contract | None = None) -> list[date]:
    """List the days that the run materializes.

    With the stream's contract, days are left out that are not computed again because bronze may hold only a part of
    them: those before silver's retention. Exact days leave out those before the stream's history start as well.
    """
    days = exact_days(context.run.tags)
    first_kept = (first_kept_day(contract, "silver") if contract else None) or date.min
    if days is None:
        requested = [date.fromisoformat(key) for key in context.partition_keys]
        if expired := [day for day in requested if day < first_kept]:
            context.log.warning(f"Skipped {format_days(expired)}: silver keeps no day before {first_kept}.")
        return [day for day in requested if day >= first_kept]
    start = max(contract.history_start if contract else date.min, first_kept)
    return [day for day in days if day >= start]


def is_backfill(context: dg.AssetExecutionContext) -> bool:
    """Return whether the run belongs to a backfill, which replaces partitions where other runs append to them."""
    return BACKFILL_TAG in context.run.tags
