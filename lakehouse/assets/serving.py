"""Serving assets: unified days, alerts, features, dashboards and look-ups, for people and programs to read."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import date
from typing import Any

import dagster as dg

from lakehouse.assets.external_jobs import layer_job, run_layer
from lakehouse.assets.partitions import exact_days, run_days, window
from lakehouse.assets.reporting import MaterializedPartitions, from_write
from lakehouse.assets.specs import TableSpecs, attributes, computed_asset, key
from lakehouse.contracts.streams import Stream
from lakehouse.errors import LookupFileError
from lakehouse.pipeline import exports
from lakehouse.pipeline.features import FEATURE_WINDOW_DAYS, affected_days
from lakehouse.pipeline.lake import Lake
from lakehouse.pipeline.view_names import HEALTH_VIEW
from lakehouse.serving.lookups import publish as lookups
from lakehouse.serving.lookups.declaration import Lookup


def serving_assets(stream: Stream, tables: TableSpecs, days: dg.DailyPartitionsDefinition) -> list[dg.AssetsDefinition]:
    """Define all serving assets of a stream. Alerts, features and their look-up need an SQL file."""
    return [
        _unified(stream, days),
        *([_alerts(stream, tables, days)] if stream.has_alerts else []),
        *([_features(stream, tables, days)] if stream.has_features else []),
        _dashboard(stream, days),
        *([_lookup(stream, days)] if stream.has_features else []),
    ]


def declared_lookup_asset(
    lookup: Lookup, streams: Mapping[str, Stream], days: dg.DailyPartitionsDefinition
) -> dg.AssetsDefinition:
    """Define the asset of a declared look-up. It belongs to the first stream that it reads, if it reads one."""
    owner = streams[lookup.streams[0]] if lookup.streams else None

    def compute(context: dg.AssetExecutionContext, lake: Lake) -> MaterializedPartitions:
        try:
            result = lookups.refresh_declared(lake, lookup)
        except LookupFileError as error:
            raise dg.Failure(str(error), allow_retries=False) from error
        return _from_refresh(result, run_days(context, owner.contract if owner else None))

    kinds = ["duckdb", "parquet", "s3"]
    spec = (
        attributes(owner, "serving", lookup.description, kinds, cadence="daily")
        if owner
        else {
            "description": lookup.description,
            "group_name": "lookups",
            "owners": ["team:lakehouse"],
            "tags": {"layer": "serving", "cadence": "daily"},
            "kinds": {*kinds},
        }
    )
    deps = dict.fromkeys(source for table in lookup.tables for source in _sources(table.name, streams))
    return computed_asset(
        key("serving", lookup.asset_name),
        compute,
        deps=[_dependency(*source) for source in deps],
        partitions_def=days,
        **spec,
    )


def _sources(name: str, streams: Iterable[str]) -> Iterable[tuple[str, str]]:
    """Yield the layer and name of each asset behind a table or view."""
    layer, _, short = name.partition(".")
    if name == HEALTH_VIEW:
        return [(layer, stream) for stream in streams for layer in ("silver", "quarantine")]
    if layer == "serving" and short.removesuffix("_current") in streams:
        return [(layer, f"unified_{short.removesuffix('_current')}")]
    return [(layer, short)]


def _dependency(layer: str, name: str) -> dg.AssetDep:
    # Realtime is by hour of arrival, and a late row of any day may be in any hour.
    mapping = dg.LastPartitionMapping() if layer == "realtime" else None
    return dg.AssetDep(key(layer, name), partition_mapping=mapping)


def _unified_sources(stream: Stream) -> list[dg.AssetDep]:
    # Realtime is by hour of arrival, and a late row of any day may be in any hour.
    realtime = dg.AssetDep(key("realtime", stream.name), partition_mapping=dg.LastPartitionMapping())
    return [dg.AssetDep(key("silver", stream.name)), realtime]


def _unified(stream: Stream, days: dg.DailyPartitionsDefinition) -> dg.AssetsDefinition:
    def compute(context: dg.AssetExecutionContext, lake: Lake) -> MaterializedPartitions:
        job = layer_job(context, "unified", stream, run_days(context, stream.contract))
        objects: dict[date, exports.ExportedObject] = run_layer(context, lake, job)
        return MaterializedPartitions(
            {
                day: {"rows": exported.rows, "bytes": exported.bytes, "files": 1, "object": exported.key}
                for day, exported in objects.items()
            }
        )

    return computed_asset(
        key("serving", f"unified_{stream.name}"),
        compute,
        deps=_unified_sources(stream),
        partitions_def=days,
        **attributes(
            stream,
            "serving",
            "Silver merged with realtime by key, each event once: a view that is always current, and an object a day for"
            " other tools.",
            ["duckdb", "parquet", "s3"],
        ),
    )


def _alerts(stream: Stream, tables: TableSpecs, days: dg.DailyPartitionsDefinition) -> dg.AssetsDefinition:
    name = f"{stream.name}_alerts"

    def compute(context: dg.AssetExecutionContext, lake: Lake) -> MaterializedPartitions:
        job = layer_job(context, "alerts", stream, run_days(context, stream.contract))
        return from_write(run_layer(context, lake, job))

    return computed_asset(
        key("serving", name),
        compute,
        deps=_unified_sources(stream),
        partitions_def=days,
        **attributes(
            stream,
            "serving",
            "Events that need attention: the stream's `alerts.sql` over the unified view; a table, and a JSON object a day.",
            ["iceberg", "duckdb", "s3"],
            tables[f"serving.{name}"],
            query="alerts",
        ),
    )


def _features(stream: Stream, tables: TableSpecs, days: dg.DailyPartitionsDefinition) -> dg.AssetsDefinition:
    name = f"{stream.name}_features"

    def compute(context: dg.AssetExecutionContext, lake: Lake) -> MaterializedPartitions:
        dates = run_days(context, stream.contract)
        if exact_days(context.run.tags) is not None:
            # A day's late data changes the features of the days whose window it is in, too.
            dates = affected_days(lake, stream, dates)
        return from_write(run_layer(context, lake, layer_job(context, "features", stream, dates)))

    return computed_asset(
        key("serving", name),
        compute,
        deps=[dg.AssetDep(key("silver", stream.name), partition_mapping=window(FEATURE_WINDOW_DAYS))],
        partitions_def=days,
        **attributes(
            stream,
            "serving",
            "Machine-learning features of each entity at the end of a day, over that day, 7 and 30 days.",
            ["iceberg", "duckdb"],
            tables[f"serving.{name}"],
            query="features",
            cadence="daily",
        ),
    )


def _dashboard(stream: Stream, days: dg.DailyPartitionsDefinition) -> dg.AssetsDefinition:
    def compute(context: dg.AssetExecutionContext, lake: Lake) -> MaterializedPartitions:
        metrics, features = exports.export_dashboard(lake, stream), exports.export_features(lake, stream)
        metadata = {
            "rows": metrics.rows,
            "bytes": metrics.bytes + features.bytes,
            "files": 2,
            "objects": f"{metrics.key}, {features.key}",
        }
        return _on_every_day(run_days(context, stream.contract), metadata)

    return computed_asset(
        key("serving", f"{stream.name}_dashboard"),
        compute,
        deps=[
            key("gold", f"{stream.name}_daily"),
            *([key("serving", f"{stream.name}_features")] if stream.has_features else []),
        ],
        partitions_def=days,
        **attributes(
            stream,
            "serving",
            "Daily metrics and newest features as one Parquet object each, for dashboards and notebooks.",
            ["duckdb", "parquet", "s3"],
            cadence="daily",
        ),
    )


def _lookup(stream: Stream, days: dg.DailyPartitionsDefinition) -> dg.AssetsDefinition:
    def compute(context: dg.AssetExecutionContext, lake: Lake) -> MaterializedPartitions:
        return _from_refresh(lookups.refresh_entities(lake, stream), run_days(context, stream.contract))

    return computed_asset(
        key("serving", f"{stream.name}_lookup"),
        compute,
        deps=[key("serving", f"{stream.name}_features")],
        partitions_def=days,
        **attributes(
            stream,
            "serving",
            "Each entity's newest features by its id, for `GET /v1/entities/{stream}/{id}`.",
            ["duckdb", "parquet", "s3"],
            cadence="daily",
        ),
    )


def _from_refresh(result: lookups.RefreshResult, days: Sequence[date]) -> MaterializedPartitions:
    metadata = {
        "rows": result.entities,
        "changed": result.changed,
        "bytes": result.version.size,
        "files": 1,
        "object": result.version.key,
    }
    return _on_every_day(days, metadata)


def _on_every_day(days: Sequence[date], metadata: dict[str, Any]) -> MaterializedPartitions:
    """Report the same on every day of the run, because one object holds all days."""
    return MaterializedPartitions(dict.fromkeys(days, metadata))
