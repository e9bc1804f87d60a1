"""Silver and quarantine assets: both come from one run of the contract's cleaning, with the checks of the result."""

import time
from collections.abc import Iterator, Sequence
from datetime import date
from typing import Any

import dagster as dg

from lakehouse.assets import checks
from lakehouse.assets.external_jobs import layer_job, run_layer
from lakehouse.assets.partitions import exact_days, run_days
from lakehouse.assets.reporting import (
    MaterializedPartitions,
    from_write,
    how_to_withdraw,
    preview_newest,
    report_partitions,
)
from lakehouse.assets.resources import LakeResource
from lakehouse.assets.specs import RETRIES, TableSpecs, attributes, key
from lakehouse.contracts.streams import Stream
from lakehouse.errors import QualityGateError
from lakehouse.pipeline import silver
from lakehouse.pipeline.commits import WriteResult
from lakehouse.pipeline.lake import Lake
from lakehouse.pipeline.ledger import Ledger
from lakehouse.pipeline.lineage.date_ranges import format_days
from lakehouse.pipeline.lineage.retention import first_kept_day
from lakehouse.pipeline.lineage.staleness import redefined_days
from lakehouse.pipeline.quality_gate import REMEDY, blocked_keys, describe_blocked
from lakehouse.pipeline.quarantine import move_redated_rows

SilverEvent = dg.MaterializeResult[None] | dg.AssetCheckResult


def silver_assets(stream: Stream, tables: TableSpecs, days: dg.DailyPartitionsDefinition) -> dg.AssetsDefinition:
    """Define the silver and quarantine assets of a stream, with the checks of its contract."""
    silver_key, quarantine_key = key("silver", stream.name), key("quarantine", stream.name)
    # Any day of arrival may hold rows of any event date.
    bronze = dg.AssetDep(key("bronze", stream.name), partition_mapping=dg.AllPartitionMapping())

    def spec(layer: str, description: str) -> dg.AssetSpec:
        table = tables[f"{layer}.{stream.name}"]
        return dg.AssetSpec(
            key(layer, stream.name),
            deps=[bronze],
            partitions_def=days,
            **attributes(stream, layer, description, ["iceberg", "duckdb"], table, query="silver"),
        )

    @dg.multi_asset(
        name=f"silver__{stream.name}",
        specs=[
            spec("silver", "Typed, valid and enriched events, once per key; by event date."),
            spec("quarantine", "Rejected rows: raw text, every reason, where they came from; by event date."),
        ],
        check_specs=checks.check_specs(stream.contract),
        backfill_policy=dg.BackfillPolicy.single_run(),
        retry_policy=RETRIES,
        # One of the two may be asked for; both are computed and committed all the same.
        can_subset=True,
    )
    def assets(context: dg.AssetExecutionContext, lake: LakeResource) -> Iterator[SilverEvent]:
        started = time.monotonic()
        dates = run_days(context, stream.contract)
        if exact_days(context.run.tags) is not None:
            dates = _with_redated(lake.lake, stream, dates, context.run.run_id)
        result: silver.SilverResult = run_layer(context, lake.lake, layer_job(context, "silver", stream, dates))
        seconds = round(time.monotonic() - started, 3)
        for asset_key, written in ((silver_key, result.silver), (quarantine_key, result.quarantine)):
            partitions = preview_newest(lake.lake, _materialized(result, written))
            report_partitions(context, asset_key, partitions, seconds)
        for asset_key in (quarantine_key, silver_key):
            if asset_key in context.selected_asset_keys:
                yield dg.MaterializeResult(asset_key=asset_key)
        for check in checks.evaluate(lake.lake, stream, result.ledgers):
            if dg.AssetCheckKey(silver_key, str(check.check_name)) in context.selected_asset_check_keys:
                yield check
        _report_gate(context, stream, result)

    return assets


def _with_redated(lake: Lake, stream: Stream, days: Sequence[date], run_id: str) -> list[date]:
    """Add the event dates between which a changed contract moves rows of bronze, so that no row is left out."""
    quarantine = lake.tables.load(f"quarantine.{stream.name}")
    if not redefined_days(quarantine, stream.definition, days):
        return list(days)
    first = first_kept_day(stream.contract, "silver") or date.min
    moved = [day for day in move_redated_rows(lake, stream, run_id=run_id) if day >= first]
    return sorted({*days, *moved})


def _materialized(result: silver.SilverResult, written: WriteResult) -> MaterializedPartitions:
    """Describe what was written of silver or quarantine, with what the quality gate says of each day."""
    base = from_write(written, preview_column="dt")
    quality = {str(day): _describe_quality(day, ledger) for day, ledger in result.ledgers.items()}
    return MaterializedPartitions(
        {day: {**metadata, **quality[day]} for day, metadata in base.partitions.items()}, preview_of=base.preview_of
    )


def _describe_quality(day: date, ledger: Ledger) -> dict[str, Any]:
    quality = {"quality_score": round(ledger.quality, 6)}
    if not (objects := {day: ledger.blocked_objects} if ledger.blocked_objects else {}):
        return quality
    return {**quality, "blocked_objects": describe_blocked(objects), **how_to_withdraw(blocked_keys(objects))}


def _report_gate(context: dg.AssetExecutionContext, stream: Stream, result: silver.SilverResult) -> None:
    """Log which objects the quality gate blocked. Raises Failure if it blocked a day."""
    if objects := {day: ledger.blocked_objects for day, ledger in result.ledgers.items() if ledger.blocked_objects}:
        context.log.warning(f"The quality gate blocked {describe_blocked(objects)}. {REMEDY}.")
    if result.blocked:
        raise dg.Failure(str(_gate_error(stream, result)), allow_retries=False)


def _gate_error(stream: Stream, result: silver.SilverResult) -> QualityGateError:
    quality, day = min((result.ledgers[day].quality, day) for day in result.blocked)
    objects = describe_blocked({day: result.ledgers[day].blocked_objects for day in result.blocked})
    return QualityGateError(
        f"The quality gate blocked silver/{stream.name} of {format_days(result.blocked)}: less than "
        f"{stream.contract.quality_threshold:.0%} of the rows are valid (worst: {quality:.1%} on {day}). "
        f"Silver keeps its last good snapshot. See the reasons with `select * from quarantine.{stream.name}`. "
        f"Blocked objects: {objects}. {REMEDY}."
    )
