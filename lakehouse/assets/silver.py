"""Silver and quarantine assets: one run of the contract's cleaning gives both, and the checks that it was right."""

import time
from collections.abc import Iterator

import dagster as dg

from lakehouse.assets import checks
from lakehouse.assets.partitions import run_days
from lakehouse.assets.reporting import numbers, preview, report, snapshot_text
from lakehouse.assets.resources import LakeResource
from lakehouse.assets.specs import RETRIES, Columns, attributes, freshness, key
from lakehouse.contracts.streams import Stream
from lakehouse.engine.connection import scan_sql
from lakehouse.engine.filters import days_filter
from lakehouse.errors import QualityGateError
from lakehouse.pipeline import silver
from lakehouse.pipeline.lake import Lake
from lakehouse.pipeline.lineage.date_ranges import format_days

Outcome = dg.MaterializeResult[None] | dg.AssetCheckResult


def silver_assets(stream: Stream, tables: Columns, days: dg.DailyPartitionsDefinition) -> dg.AssetsDefinition:
    """The silver and quarantine assets of a stream, with the checks that its contract calls for."""
    silver_key, quarantine_key = key("silver", stream.name), key("quarantine", stream.name)
    # Any day of arrival may hold rows of any event date.
    on_bronze = dg.AssetDep(key("bronze", stream.name), partition_mapping=dg.AllPartitionMapping())

    def spec(layer: str, description: str) -> dg.AssetSpec:
        table = tables[f"{layer}.{stream.name}"]
        return dg.AssetSpec(
            key(layer, stream.name),
            deps=[on_bronze],
            partitions_def=days,
            freshness_policy=freshness(stream, layer),
            **attributes(stream, layer, description, ["iceberg", "duckdb"], table, query="silver"),
        )

    @dg.multi_asset(
        name=f"silver__{stream.name}",
        specs=[
            spec("silver", "Typed, valid and enriched events, once per key; by event date."),
            spec("quarantine", "What broke the contract: raw text, every reason, where it came from; by event date."),
        ],
        check_specs=checks.check_specs(stream.contract),
        backfill_policy=dg.BackfillPolicy.single_run(),
        retry_policy=RETRIES,
        # So that one of the two can be asked for; both are computed and committed all the same.
        can_subset=True,
    )
    def assets(context: dg.AssetExecutionContext, lake: LakeResource) -> Iterator[Outcome]:
        started = time.monotonic()
        wanted = run_days(context, stream.contract)
        cleaned = silver.clean_days(lake.lake, stream, wanted, run_id=context.run.run_id)
        seconds = round(time.monotonic() - started, 3)
        _report(context, lake.lake, stream, cleaned, seconds)
        for asset_key in (quarantine_key, silver_key):
            if asset_key in context.selected_asset_keys:
                yield dg.MaterializeResult(asset_key=asset_key)
        for result in checks.evaluate(lake.lake, stream, cleaned.ledgers):
            if dg.AssetCheckKey(silver_key, str(result.check_name)) in context.selected_asset_check_keys:
                yield result
        if cleaned.blocked:
            raise dg.Failure(str(_gate_error(stream, cleaned)), allow_retries=False)

    return assets


def _gate_error(stream: Stream, cleaned: silver.SilverResult) -> QualityGateError:
    worst = min((cleaned.ledgers[day].quality, day) for day in cleaned.blocked)
    return QualityGateError(
        f"silver/{stream.name} keeps its last good snapshot of {format_days(cleaned.blocked)}: under "
        f"{stream.contract.quality_threshold:.0%} of the rows are valid (worst: {worst[0]:.1%} on {worst[1]}). "
        f"`select * from quarantine.{stream.name}` says why."
    )


def _report(
    context: dg.AssetExecutionContext, lake: Lake, stream: Stream, cleaned: silver.SilverResult, seconds: float
) -> None:
    newest = max(cleaned.ledgers, default=None)
    for layer, written in (("silver", cleaned.silver), ("quarantine", cleaned.quarantine)):
        commit = written.commit
        partitions = {}
        for day, ledger in cleaned.ledgers.items():
            if (row := written.partitions.get(str(day))) is None:
                continue
            partitions[str(day)] = numbers(
                row,
                quality_score=round(ledger.quality, 6),
                snapshot_id=snapshot_text(commit.snapshot_id if commit else None),
                seconds=seconds,
            )
        if newest is not None and str(newest) in partitions:
            scan = scan_sql(lake.tables.load(f"{layer}.{stream.name}"))
            partitions[str(newest)]["preview"] = preview(lake, f"from {scan} where {days_filter([newest])}")
        report(context, key(layer, stream.name), partitions)
