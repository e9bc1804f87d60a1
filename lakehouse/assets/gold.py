"""Gold assets: the daily aggregates of each stream, and all their numbers in long form."""

import time
from collections.abc import Iterable

import dagster as dg
import duckdb

from lakehouse.assets.partitions import run_days
from lakehouse.assets.reporting import numbers, preview, report, snapshot_text
from lakehouse.assets.resources import LakeResource
from lakehouse.assets.specs import Columns, attributes, columns_metadata, freshness, key, lake_asset
from lakehouse.contracts.streams import Stream
from lakehouse.engine.connection import scan_sql
from lakehouse.engine.filters import days_filter
from lakehouse.pipeline import gold


def gold_asset(stream: Stream, tables: Columns, days: dg.DailyPartitionsDefinition) -> dg.AssetsDefinition:
    """The daily aggregates of a stream: its `gold.sql` over silver."""
    name = f"{stream.name}_daily"

    @lake_asset(
        key=key("gold", name),
        ins={"silver": dg.AssetIn(key("silver", stream.name))},
        partitions_def=days,
        freshness_policy=freshness(stream, "gold"),
        **attributes(
            stream,
            "gold",
            f"What a day of {stream.name} adds up to.",
            ["iceberg", "duckdb"],
            tables[f"gold.{name}"],
            query="gold",
        ),
    )
    def asset(silver: duckdb.DuckDBPyRelation) -> duckdb.DuckDBPyRelation:
        return silver.query("silver", stream.sql("gold"))

    return asset


def metrics_asset(
    streams: Iterable[Stream], tables: Columns, days: dg.DailyPartitionsDefinition
) -> dg.AssetsDefinition:
    """Every number of every stream's daily aggregates, one a row."""
    asset_key = key("gold", "daily_metrics")
    table = tables[gold.DAILY_METRICS]

    @lake_asset(
        key=asset_key,
        deps=[dg.AssetDep(key("gold", f"{stream.name}_daily")) for stream in streams],
        partitions_def=days,
        group_name="metrics",
        owners=["team:lakehouse"],
        tags={"layer": "gold"},
        kinds={"iceberg", "duckdb"},
        description="All daily numbers of all streams in long form: date, stream, metric, value, dimensions.",
        metadata=columns_metadata(table),
    )
    def asset(context: dg.AssetExecutionContext, lake: LakeResource) -> dg.MaterializeResult[None]:
        started = time.monotonic()
        wanted = run_days(context)
        written = gold.write_metrics(lake.lake, wanted, run_id=context.run.run_id)
        done = {
            "snapshot_id": snapshot_text(written.commit.snapshot_id if written.commit else None),
            "seconds": round(time.monotonic() - started, 3),
        }
        partitions = {day: numbers(row, **done) for day, row in written.partitions.items()}
        if wanted:
            scan = scan_sql(lake.lake.tables.load(gold.DAILY_METRICS))
            newest = max(wanted)
            partitions[str(newest)]["preview"] = preview(
                lake.lake, f"from {scan} where {days_filter([newest], 'date_key')}"
            )
        report(context, asset_key, partitions)
        return dg.MaterializeResult()

    return asset
