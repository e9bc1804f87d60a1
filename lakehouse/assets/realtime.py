"""Realtime assets: the valid rows of the landing micro-batches, by hour of arrival."""

import dagster as dg

from lakehouse.assets.partitions import is_backfill
from lakehouse.assets.reporting import MaterializedPartitions, snapshot_text
from lakehouse.assets.specs import TableSpecs, attributes, computed_asset, key
from lakehouse.contracts.streams import Stream
from lakehouse.pipeline import realtime
from lakehouse.pipeline.ingest import describe_unreadable
from lakehouse.pipeline.lake import Lake


def realtime_asset(stream: Stream, tables: TableSpecs, hours: dg.HourlyPartitionsDefinition) -> dg.AssetsDefinition:
    """Define the realtime asset of a stream. A run appends what is new; a backfill replaces the partition."""

    def compute(context: dg.AssetExecutionContext, lake: Lake) -> MaterializedPartitions:
        result = realtime.ingest_hours(
            lake, stream, context.partition_keys, replace=is_backfill(context), run_id=context.run.run_id
        )
        if result.unreadable:
            context.log.warning(
                f"Left out, because storage can't return them: {describe_unreadable(result.unreadable)}"
            )
        snapshot = snapshot_text(result.snapshot_id)
        return MaterializedPartitions(
            {hour: {**counts, "snapshot_id": snapshot} for hour, counts in result.partitions.items()}
        )

    return computed_asset(
        key("realtime", stream.name),
        compute,
        deps=[key("landing", stream.name)],
        partitions_def=hours,
        **attributes(
            stream,
            "realtime",
            "Valid rows of the landing micro-batches, minutes after they landed; by hour of arrival.",
            ["iceberg", "duckdb"],
            tables[f"realtime.{stream.name}"],
            query="silver",
        ),
    )
