"""Serving assets: what people and programs read: unified days, features, alerts and dashboards."""

import time
from collections.abc import Iterable, Sequence
from datetime import date
from typing import Any

import dagster as dg

from lakehouse.assets.partitions import exact_days, run_days, window
from lakehouse.assets.reporting import numbers, report, snapshot_text
from lakehouse.assets.resources import LakeResource
from lakehouse.assets.specs import Columns, attributes, freshness, key, lake_asset
from lakehouse.contracts.streams import Stream
from lakehouse.pipeline import exports as serving
from lakehouse.pipeline.alerts import write_alerts
from lakehouse.pipeline.commits import WriteResult
from lakehouse.pipeline.features import FEATURE_WINDOW_DAYS, affected_days, write_features
from lakehouse.serving.lookups import publish as lookups
from lakehouse.serving.lookups.paths import CUSTOMER_STREAMS


def serving_assets(stream: Stream, tables: Columns, days: dg.DailyPartitionsDefinition) -> list[dg.AssetsDefinition]:
    """All serving assets of a stream."""
    common = _common(stream, days)
    return [
        _unified(stream, common),
        _alerts(stream, tables, common),
        _features(stream, tables, common),
        _dashboard(stream, common),
        _lookup(stream, common),
    ]


def customers_asset(streams: Iterable[Stream], days: dg.DailyPartitionsDefinition) -> dg.AssetsDefinition | None:
    """The look-up of customers, where there are the streams it is made of."""
    known = {stream.name: stream for stream in streams}
    if not lookups.has_customers([*known]):
        return None
    asset_key = key("serving", "customers_lookup")
    common = _common(known["retail"], days) | attributes(
        known["retail"],
        "serving",
        "What retail and orders together know of each customer over all time, for `GET /v1/customers/{id}`.",
        ["duckdb", "parquet", "s3"],
        cadence="daily",
    )

    @lake_asset(key=asset_key, deps=[key("silver", name) for name in CUSTOMER_STREAMS], **common)
    def asset(context: dg.AssetExecutionContext, lake: LakeResource) -> dg.MaterializeResult[None]:
        started = time.monotonic()
        done = lookups.refresh_customers(lake.lake)
        _report_lookup(context, asset_key, run_days(context, known["retail"].contract), done, started)
        return dg.MaterializeResult()

    return asset


def _common(stream: Stream, days: dg.DailyPartitionsDefinition) -> dict[str, Any]:
    return {
        "partitions_def": days,
        "freshness_policy": freshness(stream, "serving"),
    }


def _merged(stream: Stream) -> list[dg.AssetDep]:
    # Realtime is by hour of arrival, and a late row of any day may be in any hour.
    realtime = dg.AssetDep(key("realtime", stream.name), partition_mapping=dg.LastPartitionMapping())
    return [dg.AssetDep(key("silver", stream.name)), realtime]


def _unified(stream: Stream, common: dict[str, Any]) -> dg.AssetsDefinition:
    asset_key = key("serving", f"unified_{stream.name}")

    @lake_asset(
        key=asset_key,
        deps=_merged(stream),
        **common,
        **attributes(
            stream,
            "serving",
            "Silver merged with realtime by key, each event once: a view at every moment, and an object a day for other tools.",
            ["duckdb", "parquet", "s3"],
        ),
    )
    def asset(context: dg.AssetExecutionContext, lake: LakeResource) -> dg.MaterializeResult[None]:
        started = time.monotonic()
        days = run_days(context, stream.contract)
        exported = serving.export_unified(lake.lake, stream, days)
        seconds = round(time.monotonic() - started, 3)
        report(
            context,
            asset_key,
            {
                str(day): {"rows": one.rows, "bytes": one.bytes, "files": 1, "object": one.key, "seconds": seconds}
                for day, one in exported.items()
            },
        )
        return dg.MaterializeResult()

    return asset


def _alerts(stream: Stream, tables: Columns, common: dict[str, Any]) -> dg.AssetsDefinition:
    name = f"{stream.name}_alerts"
    asset_key = key("serving", name)

    @lake_asset(
        key=asset_key,
        deps=_merged(stream),
        **common,
        **attributes(
            stream,
            "serving",
            "What somebody should look at: the stream's `alerts.sql` over the unified view; a table, and a JSON object a day.",
            ["iceberg", "duckdb", "s3"],
            tables[f"serving.{name}"],
            query="alerts",
        ),
    )
    def asset(context: dg.AssetExecutionContext, lake: LakeResource) -> dg.MaterializeResult[None]:
        started = time.monotonic()
        written = write_alerts(lake.lake, stream, run_days(context, stream.contract), run_id=context.run.run_id)
        _report_written(context, asset_key, written, started)
        return dg.MaterializeResult()

    return asset


def _features(stream: Stream, tables: Columns, common: dict[str, Any]) -> dg.AssetsDefinition:
    name = f"{stream.name}_features"

    asset_key = key("serving", name)

    @lake_asset(
        key=asset_key,
        deps=[dg.AssetDep(key("silver", stream.name), partition_mapping=window(FEATURE_WINDOW_DAYS))],
        **common,
        **attributes(
            stream,
            "serving",
            "What is known of each entity at the end of a day, over that day, 7 and 30 days, for machine learning.",
            ["iceberg", "duckdb"],
            tables[f"serving.{name}"],
            query="features",
            cadence="daily",
        ),
    )
    def asset(context: dg.AssetExecutionContext, lake: LakeResource) -> dg.MaterializeResult[None]:
        started = time.monotonic()
        days = run_days(context, stream.contract)
        if exact_days(context.run.tags) is not None:
            # Late data of a day changes what was known on the 29 days after it, too.
            days = affected_days(lake.lake, stream, days)
        written = write_features(lake.lake, stream, days, run_id=context.run.run_id)
        _report_written(context, asset_key, written, started)
        return dg.MaterializeResult()

    return asset


def _dashboard(stream: Stream, common: dict[str, Any]) -> dg.AssetsDefinition:
    asset_key = key("serving", f"{stream.name}_dashboard")

    @lake_asset(
        key=asset_key,
        deps=[key("gold", f"{stream.name}_daily"), key("serving", f"{stream.name}_features")],
        **common,
        **attributes(
            stream,
            "serving",
            "Daily metrics and newest features as one Parquet object each, for dashboards and notebooks.",
            ["duckdb", "parquet", "s3"],
            cadence="daily",
        ),
    )
    def asset(context: dg.AssetExecutionContext, lake: LakeResource) -> dg.MaterializeResult[None]:
        started = time.monotonic()
        days: list[date] = run_days(context, stream.contract)
        metrics, features = serving.export_dashboard(lake.lake, stream), serving.export_features(lake.lake, stream)
        said = {
            "rows": metrics.rows,
            "bytes": metrics.bytes + features.bytes,
            "files": 2,
            "objects": f"{metrics.key}, {features.key}",
            "seconds": round(time.monotonic() - started, 3),
        }
        report(context, asset_key, {str(day): said for day in days})
        return dg.MaterializeResult()

    return asset


def _lookup(stream: Stream, common: dict[str, Any]) -> dg.AssetsDefinition:
    asset_key = key("serving", f"{stream.name}_lookup")

    @lake_asset(
        key=asset_key,
        deps=[key("serving", f"{stream.name}_features")],
        **common,
        **attributes(
            stream,
            "serving",
            "Each entity's newest features by its id, for `GET /v1/entities/{stream}/{id}`.",
            ["duckdb", "parquet", "s3"],
            cadence="daily",
        ),
    )
    def asset(context: dg.AssetExecutionContext, lake: LakeResource) -> dg.MaterializeResult[None]:
        started = time.monotonic()
        done = lookups.refresh_entities(lake.lake, stream)
        _report_lookup(context, asset_key, run_days(context, stream.contract), done, started)
        return dg.MaterializeResult()

    return asset


def _report_lookup(
    context: dg.AssetExecutionContext,
    asset_key: dg.AssetKey,
    days: Sequence[date],
    done: lookups.RefreshResult,
    started: float,
) -> None:
    said = {
        "rows": done.entities,
        "changed": done.changed,
        "bytes": done.published.size,
        "files": 1,
        "object": done.published.key,
        "seconds": round(time.monotonic() - started, 3),
    }
    report(context, asset_key, {str(day): said for day in days})


def _report_written(
    context: dg.AssetExecutionContext, asset_key: dg.AssetKey, written: WriteResult, started: float
) -> None:
    done = {
        "snapshot_id": snapshot_text(written.commit.snapshot_id if written.commit else None),
        "seconds": round(time.monotonic() - started, 3),
    }
    report(context, asset_key, {day: numbers(row, **done) for day, row in written.partitions.items()})
