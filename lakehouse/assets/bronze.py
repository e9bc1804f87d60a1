"""Bronze assets: every landed row as text, by day of arrival."""

from datetime import date

import dagster as dg

from lakehouse.assets.external_jobs import layer_job, run_layer
from lakehouse.assets.partitions import is_backfill, run_days
from lakehouse.assets.reporting import MaterializedPartitions, snapshot_text
from lakehouse.assets.specs import TableSpecs, attributes, computed_asset, key
from lakehouse.contracts.streams import Stream
from lakehouse.pipeline import bronze
from lakehouse.pipeline.file_columns import describe_columns, file_columns
from lakehouse.pipeline.ingest import IngestResult, describe_unreadable
from lakehouse.pipeline.lake import Lake
from lakehouse.pipeline.lineage.date_ranges import format_days
from lakehouse.pipeline.lineage.retention import retention_days
from lakehouse.pipeline.withdrawal_log import describe_withdrawn, newest_records


def bronze_asset(stream: Stream, tables: TableSpecs, days: dg.DailyPartitionsDefinition) -> dg.AssetsDefinition:
    """Define the bronze asset of a stream. A run appends what is new; a backfill replaces the partition."""

    def compute(context: dg.AssetExecutionContext, lake: Lake) -> MaterializedPartitions:
        job = layer_job(context, "bronze", stream, run_days(context), replace=is_backfill(context))
        result: IngestResult[date] = run_layer(context, lake, job)
        rows = sum(counts["rows"] for counts in result.partitions.values())
        event_dates = format_days(result.event_dates)
        context.log.info(f"Ingested {rows} rows into bronze.{stream.name}; event dates: {event_dates or 'none'}")
        if expired := sum(counts.get(bronze.EXPIRED, 0) for counts in result.partitions.values()):
            kept = retention_days(stream.contract, "silver")
            context.log.warning(f"{expired} rows are older than silver keeps ({kept} days). Only bronze has them.")
        if result.unreadable:
            context.log.warning(
                f"Left out, because storage can't return them: {describe_unreadable(result.unreadable)}"
            )
        unknown = describe_columns(file_columns(lake, stream, list(result.partitions), "arrival_dt"))
        snapshot = snapshot_text(result.snapshot_id)
        return MaterializedPartitions(
            {day: {**counts, "snapshot_id": snapshot} for day, counts in result.partitions.items()},
            metadata={
                "event_dates": event_dates,
                "unknown_columns": unknown,
                "unreadable_objects": describe_unreadable(result.unreadable) or "none",
                "withdrawn_objects": describe_withdrawn(newest_records(lake.objects, stream.name)),
            },
        )

    return computed_asset(
        key("bronze", stream.name),
        compute,
        deps=[dg.AssetDep(key("landing", stream.name))],
        partitions_def=days,
        **attributes(
            stream,
            "bronze",
            "Every landed row, all fields as text, with where it came from; by day of arrival.",
            ["iceberg", "duckdb"],
            tables[f"bronze.{stream.name}"],
        ),
    )
