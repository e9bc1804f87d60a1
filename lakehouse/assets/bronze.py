"""Bronze assets: every landed row as text, by day of arrival."""

import time

import dagster as dg

from lakehouse.assets.partitions import run_days
from lakehouse.assets.reporting import numbers, report, snapshot_text
from lakehouse.assets.resources import LakeResource
from lakehouse.assets.specs import Columns, attributes, freshness, key, lake_asset
from lakehouse.contracts.streams import Stream
from lakehouse.pipeline import bronze
from lakehouse.pipeline.lineage.date_ranges import format_days

BACKFILL_TAG = "dagster/backfill"


def bronze_asset(stream: Stream, tables: Columns, days: dg.DailyPartitionsDefinition) -> dg.AssetsDefinition:
    """The bronze asset of a stream. A run appends what is new; a back-fill replaces the partition."""
    asset_key = key("bronze", stream.name)

    @lake_asset(
        key=asset_key,
        deps=[dg.AssetDep(key("landing", stream.name))],
        partitions_def=days,
        freshness_policy=freshness(stream, "bronze"),
        **attributes(
            stream,
            "bronze",
            "Every landed row, all fields as text, with where it came from; by day of arrival.",
            ["iceberg", "duckdb"],
            tables[f"bronze.{stream.name}"],
        ),
    )
    def asset(context: dg.AssetExecutionContext, lake: LakeResource) -> dg.MaterializeResult[None]:
        started = time.monotonic()
        landed = bronze.ingest_days(
            lake.lake, stream, run_days(context), replace=BACKFILL_TAG in context.run.tags, run_id=context.run.run_id
        )
        seconds = time.monotonic() - started
        done = {"snapshot_id": snapshot_text(landed.snapshot_id), "seconds": round(seconds, 3)}
        report(context, asset_key, {str(day): numbers(row, **done) for day, row in landed.partitions.items()})
        rows = sum(row["rows"] for row in landed.partitions.values())
        context.log.info(
            f"{rows} rows landed in bronze.{stream.name}; event dates: {format_days(landed.event_dates) or 'none'}"
        )
        return dg.MaterializeResult(metadata={"event_dates": format_days(landed.event_dates)})

    return asset
