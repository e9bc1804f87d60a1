"""Jobs: which assets run together. All streams of a tick are one run, in one process."""

from typing import TYPE_CHECKING

import dagster as dg

from lakehouse.contracts.streams import Stream
from lakehouse.serving.lookups.paths import CUSTOMER_STREAMS

if TYPE_CHECKING:
    from dagster._core.definitions.unresolved_asset_job_definition import UnresolvedAssetJobDefinition

STREAM_TAG = "lakehouse/stream"

REALTIME, BRONZE, REFRESH, BATCH, SERVING = "realtime", "bronze", "refresh", "batch_daily", "serving"
MAINTENANCE = "maintenance"


def build_jobs() -> "list[UnresolvedAssetJobDefinition]":
    """Every job of the lakehouse."""
    layer = dg.AssetSelection.tag
    realtime, bronze = layer("layer", "realtime"), layer("layer", "bronze")
    cleaned = layer("layer", "silver") | layer("layer", "quarantine")
    gold, serving = layer("layer", "gold"), layer("layer", "serving")
    fresh = serving - dg.AssetSelection.tag("cadence", "daily")

    def job(name: str, selection: dg.AssetSelection, description: str) -> "UnresolvedAssetJobDefinition":
        # A process a step would cost two to three seconds each.
        return dg.define_asset_job(name, selection, description=description, executor_def=dg.in_process_executor)

    return [
        job(REALTIME, realtime, "The newest micro-batches of all streams into the realtime tables."),
        job(BRONZE, bronze, "What has landed on some days into bronze."),
        job(REFRESH, cleaned | gold | serving, "Everything below bronze, for the days that changed."),
        job(BATCH, bronze | cleaned | gold | serving, "A whole day from landing to serving."),
        job(SERVING, fresh, "Unified days and alerts, for the days that realtime touched."),
    ]


def stream_asset_keys(stream: Stream) -> list[dg.AssetKey]:
    """The assets of `refresh` that are one stream's, and the metrics that all share."""
    name = stream.name
    pairs = [
        ("silver", name),
        ("quarantine", name),
        ("gold", f"{name}_daily"),
        ("gold", "daily_metrics"),
        ("serving", f"unified_{name}"),
        ("serving", f"{name}_alerts"),
        ("serving", f"{name}_features"),
        ("serving", f"{name}_dashboard"),
        ("serving", f"{name}_lookup"),
    ]
    if name in CUSTOMER_STREAMS:
        pairs.append(("serving", "customers_lookup"))
    return [dg.AssetKey(list(pair)) for pair in pairs]
