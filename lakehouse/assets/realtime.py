"""Realtime assets: the valid rows of the landing micro-batches, by hour of arrival."""

import time

import dagster as dg

from lakehouse.assets.bronze import BACKFILL_TAG
from lakehouse.assets.reporting import numbers, report, snapshot_text
from lakehouse.assets.resources import LakeResource
from lakehouse.assets.specs import Columns, attributes, freshness, key, lake_asset
from lakehouse.contracts.streams import Stream
from lakehouse.pipeline import realtime


def realtime_asset(stream: Stream, tables: Columns, hours: dg.HourlyPartitionsDefinition) -> dg.AssetsDefinition:
    """The realtime asset of a stream. A run appends what is new; a back-fill replaces the partition."""
    asset_key = key("realtime", stream.name)

    @lake_asset(
        key=asset_key,
        deps=[key("landing", stream.name)],
        partitions_def=hours,
        freshness_policy=freshness(stream, "realtime"),
        **attributes(
            stream,
            "realtime",
            "Valid rows of the landing micro-batches, minutes after they landed; by hour of arrival.",
            ["iceberg", "duckdb"],
            tables[f"realtime.{stream.name}"],
            query="silver",
        ),
    )
    def asset(context: dg.AssetExecutionContext, lake: LakeResource) -> dg.MaterializeResult[None]:
        started = time.monotonic()
        fresh = realtime.ingest_hours(
            lake.lake,
            stream,
            context.partition_keys,
            replace=BACKFILL_TAG in context.run.tags,
            run_id=context.run.run_id,
        )
        done = {
            "snapshot_id": snapshot_text(fresh.snapshot_id),
            "seconds": round(time.monotonic() - started, 3),
        }
        report(context, asset_key, {hour: numbers(row, **done) for hour, row in fresh.partitions.items()})
        return dg.MaterializeResult()

    return asset
