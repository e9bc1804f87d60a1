"""Assets of a stream's anomalies and of the detectors' states: both come from one run over silver."""

import time
from collections.abc import Iterator

import dagster as dg

from lakehouse.assets.partitions import exact_days, run_days
from lakehouse.assets.reporting import from_write, preview_newest, report_partitions
from lakehouse.assets.resources import LakeResource
from lakehouse.assets.specs import RETRIES, TableSpecs, attributes, key
from lakehouse.contracts.streams import Stream
from lakehouse.pipeline.anomalies import write_anomalies
from lakehouse.pipeline.table_specs import anomaly_tables

DESCRIPTIONS = (
    "Anomalies in the series of the contract's measure, with expected value, band and what contributes to each.",
    "The states of the detectors after each day, from which the next day goes on.",
)


def anomaly_assets(stream: Stream, tables: TableSpecs, days: dg.DailyPartitionsDefinition) -> dg.AssetsDefinition:
    """Define the assets of a stream's anomalies. A day goes on from the states after the day before."""
    names = anomaly_tables(stream)
    keys = [key(*name.split(".")) for name in names]

    def spec(number: int) -> dg.AssetSpec:
        given = attributes(
            stream, "serving", DESCRIPTIONS[number], ["iceberg", "duckdb"], tables[names[number]], cadence="daily"
        )
        version = {"code_version": stream.anomaly_definition.version}
        deps = [key("silver", stream.name)]
        return dg.AssetSpec(keys[number], deps=deps, partitions_def=days, **given | version)

    @dg.multi_asset(
        name=f"anomalies__{stream.name}",
        specs=[spec(0), spec(1)],
        backfill_policy=dg.BackfillPolicy.single_run(),
        retry_policy=RETRIES,
        # One of the two may be asked for; both are computed and committed all the same.
        can_subset=True,
    )
    def assets(context: dg.AssetExecutionContext, lake: LakeResource) -> Iterator[dg.MaterializeResult[None]]:
        started = time.monotonic()
        dates = run_days(context, stream.contract)
        # Only a run of exact days may write other days than it was asked for.
        cascade = exact_days(context.run.tags) is not None
        result = write_anomalies(lake.lake, stream, dates, cascade=cascade, run_id=context.run.run_id)
        seconds = round(time.monotonic() - started, 3)
        for asset_key, written in zip(keys, (result.anomalies, result.states), strict=True):
            report_partitions(context, asset_key, preview_newest(lake.lake, from_write(written)), seconds)
        for asset_key in keys:
            if asset_key in context.selected_asset_keys:
                yield dg.MaterializeResult(asset_key=asset_key)

    return assets
