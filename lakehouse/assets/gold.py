"""Gold assets: the daily aggregates of each stream, and all their numbers in long form."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import date

import dagster as dg

from lakehouse.assets.external_jobs import layer_job, run_layer
from lakehouse.assets.partitions import run_days
from lakehouse.assets.reporting import MaterializedPartitions, from_write
from lakehouse.assets.specs import TableSpecs, attributes, columns_metadata, computed_asset, key
from lakehouse.contracts.streams import Stream
from lakehouse.engine.connection import bind
from lakehouse.pipeline import gold
from lakehouse.pipeline.column_lineage import ColumnLineage, sql_lineage
from lakehouse.pipeline.commits import WriteResult
from lakehouse.pipeline.lake import Lake
from lakehouse.pipeline.long_form import DAILY_METRICS
from lakehouse.pipeline.metric_forecasts import checked_days, unusual_days

FORECAST = "forecast"
"""The check of daily metrics against their forecasts."""

MAX_EXAMPLES = 20


def gold_asset(stream: Stream, tables: TableSpecs, days: dg.DailyPartitionsDefinition) -> dg.AssetsDefinition:
    """Define the daily aggregates of a stream, its `gold.sql` over silver."""
    name = f"{stream.name}_daily"

    def compute(context: dg.AssetExecutionContext, lake: Lake) -> MaterializedPartitions:
        job = layer_job(context, "gold", stream, run_days(context, stream.contract))
        result: WriteResult = run_layer(context, lake, job)
        return replace(from_write(result, preview_column="dt"), lineage=lineage())

    def lineage() -> ColumnLineage:
        silver = f"silver.{stream.name}"
        return sql_lineage(bind(stream.sql("gold"), {"silver": f"from {silver}"}), {silver: tables[silver].columns})

    return computed_asset(
        key("gold", name),
        compute,
        deps=[dg.AssetDep(key("silver", stream.name))],
        partitions_def=days,
        **attributes(
            stream,
            "gold",
            f"Daily aggregates of {stream.name}.",
            ["iceberg", "duckdb"],
            tables[f"gold.{name}"],
            query="gold",
        ),
    )


def metrics_asset(
    streams: Iterable[Stream], tables: TableSpecs, days: dg.DailyPartitionsDefinition
) -> dg.AssetsDefinition:
    """Define the asset of every number of every stream's daily aggregates, one a row."""

    def compute(context: dg.AssetExecutionContext, lake: Lake) -> MaterializedPartitions:
        days = run_days(context)
        result = gold.write_metrics(lake, days, run_id=context.run.run_id)
        return replace(from_write(result, preview_column="date_key"), checks=[_forecast_check(lake, days)])

    return computed_asset(
        key("gold", "daily_metrics"),
        compute,
        deps=[dg.AssetDep(key("gold", f"{stream.name}_daily")) for stream in streams],
        partitions_def=days,
        check_specs=[
            dg.AssetCheckSpec(
                FORECAST,
                asset=key("gold", "daily_metrics"),
                description="Each number of the last seven days is in the band of its forecast from the days before.",
            )
        ],
        group_name="metrics",
        owners=["team:lakehouse"],
        tags={"layer": "gold"},
        kinds={"iceberg", "duckdb"},
        description="All daily numbers of all streams in long form: date, stream, metric, value, dimensions.",
        metadata={**columns_metadata(tables[DAILY_METRICS]), "partition_column": "date_key"},
    )


def _forecast_check(lake: Lake, days: Sequence[date]) -> dg.AssetCheckResult:
    """Compare the numbers of the days that a run wrote with their forecasts. Older days than a week are left out."""
    checked = checked_days(days)
    unusual = unusual_days(lake, checked)
    return dg.AssetCheckResult(
        check_name=FORECAST,
        passed=not unusual,
        severity=dg.AssetCheckSeverity.WARN,
        metadata={
            "days": len(checked),
            "outside": len(unusual),
            "examples": "\n".join(map(str, unusual[:MAX_EXAMPLES])) or "none",
        },
    )
