"""Jobs: which assets run together. All streams of a tick are one run, in one process."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

import dagster as dg

from lakehouse.assets.audit import AUDIT_CHECK
from lakehouse.assets.models import EAGER, MODEL_TAG, SCHEDULED, asset_key
from lakehouse.assets.specs import key
from lakehouse.contracts.streams import Stream
from lakehouse.models.model import Model
from lakehouse.pipeline.lake import Lake
from lakehouse.pipeline.table_specs import anomaly_tables
from lakehouse.serving.lookups.publish import declared_lookups

if TYPE_CHECKING:
    # The type that `dg.define_asset_job` returns; Dagster 1.13 does not export it.
    from dagster._core.definitions.unresolved_asset_job_definition import UnresolvedAssetJobDefinition

REALTIME, BRONZE, REFRESH, BATCH, SERVING = "realtime", "bronze", "refresh", "batch_daily", "serving"
MAINTENANCE, AUDIT, WITHDRAW, MODELS = "maintenance", "audit_daily", "withdraw", "models"


def build_jobs() -> "list[UnresolvedAssetJobDefinition]":
    """Build the jobs that materialize assets."""
    layer = dg.AssetSelection.tag
    models = layer(MODEL_TAG, EAGER) | layer(MODEL_TAG, SCHEDULED)
    realtime, bronze = layer("layer", "realtime"), layer("layer", "bronze")
    cleaned = (layer("layer", "silver") | layer("layer", "quarantine")) - models
    gold, serving = layer("layer", "gold") - models, layer("layer", "serving") - models
    fresh = serving - dg.AssetSelection.tag("cadence", "daily")

    def job(name: str, selection: dg.AssetSelection, description: str) -> "UnresolvedAssetJobDefinition":
        # A process of its own would cost each step two to three seconds.
        return dg.define_asset_job(name, selection, description=description, executor_def=dg.in_process_executor)

    return [
        job(REALTIME, realtime, "Ingest the newest micro-batches of all streams into the realtime tables."),
        job(BRONZE, bronze, "Ingest landing objects of some days into bronze."),
        job(REFRESH, cleaned | gold | serving, "Compute silver, gold and serving of the days that changed."),
        job(BATCH, bronze | cleaned | gold | serving, "Compute whole days from landing to serving."),
        job(SERVING, fresh, "Export unified days and alerts of the days with new realtime rows."),
    ]


def models_job(models: Iterable[Model]) -> "UnresolvedAssetJobDefinition":
    """Build the job that computes models."""
    return dg.define_asset_job(
        MODELS,
        dg.AssetSelection.assets(*(asset_key(model.name) for model in models)),
        description="Compute what is stale of models, each after those that it reads.",
        executor_def=dg.in_process_executor,
    )


def audit_job(streams: Iterable[Stream]) -> "UnresolvedAssetJobDefinition":
    """Build the job that audits all streams."""
    return dg.define_asset_job(
        AUDIT,
        dg.AssetSelection.checks(*(dg.AssetCheckKey(key("landing", stream.name), AUDIT_CHECK) for stream in streams)),
        description="Compare every layer with its source, row by row.",
        executor_def=dg.in_process_executor,
    )


def stream_asset_keys(lake: Lake, stream: Stream) -> list[dg.AssetKey]:
    """List the assets of the job `refresh` for one stream, with the metrics and look-ups that streams share."""
    name = stream.name
    pairs = [
        ("silver", name),
        ("quarantine", name),
        ("gold", f"{name}_daily"),
        ("gold", "daily_metrics"),
        ("serving", f"unified_{name}"),
        ("serving", f"{name}_dashboard"),
    ]
    if stream.has_alerts:
        pairs.append(("serving", f"{name}_alerts"))
    pairs += [("serving", table.removeprefix("serving.")) for table in anomaly_tables(stream)]
    if stream.has_features:
        pairs += [("serving", f"{name}_features"), ("serving", f"{name}_lookup")]
    lookups = declared_lookups(lake).reading(name, map(".".join, pairs))
    pairs += [("serving", lookup.asset_name) for lookup in lookups]
    return [key(layer, asset) for layer, asset in pairs]
