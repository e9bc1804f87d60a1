"""The keys, attributes, freshness and factory that the assets of every layer share."""

import time
from collections.abc import Callable, Iterable, Mapping
from datetime import timedelta
from typing import Any

import dagster as dg

from lakehouse.assets.reporting import MaterializedPartitions, preview_newest, report_partitions
from lakehouse.assets.resources import LakeResource
from lakehouse.contracts.default_sql import Query
from lakehouse.contracts.streams import Stream
from lakehouse.pipeline.lake import Lake
from lakehouse.storage.iceberg.schema import TableSpec

RETRIES = dg.RetryPolicy(max_retries=3, delay=2, backoff=dg.Backoff.EXPONENTIAL, jitter=dg.Jitter.PLUS_MINUS)
MIN_FRESHNESS = timedelta(minutes=15)
BATCH_FRESHNESS = timedelta(hours=26)
"""A daily layer is late when a day and two hours have passed without a run."""

TableSpecs = Mapping[str, TableSpec]
"""The specs of the tables by name."""

Compute = Callable[[dg.AssetExecutionContext, Lake], MaterializedPartitions]


def key(layer: str, name: str) -> dg.AssetKey:
    """Make the key of an asset, `layer/name`."""
    return dg.AssetKey([layer, name])


def computed_asset(asset_key: dg.AssetKey, compute: Compute, **spec: Any) -> dg.AssetsDefinition:
    """Define an asset that `compute` materializes; `spec` are further arguments of `dg.asset`.

    A range of partitions is one run, and a failure is retried with exponential back-off.
    """

    def asset(context: dg.AssetExecutionContext, lake: LakeResource) -> dg.MaterializeResult:  # type: ignore[type-arg]  # Dagster knows the class alone
        started = time.monotonic()
        materialized = compute(context, lake.lake)
        seconds = round(time.monotonic() - started, 3)
        report_partitions(context, asset_key, preview_newest(lake.lake, materialized), seconds)
        return dg.MaterializeResult(metadata=materialized.metadata, check_results=materialized.checks)

    decorate = dg.asset(key=asset_key, backfill_policy=dg.BackfillPolicy.single_run(), retry_policy=RETRIES, **spec)
    definition: dg.AssetsDefinition = decorate(asset)
    return definition


def attributes(
    stream: Stream,
    layer: str,
    description: str,
    kinds: Iterable[str],
    table: TableSpec | None = None,
    *,
    query: Query | None = None,
    **tags: str,
) -> dict[str, Any]:
    """Return the arguments that every asset and asset spec of a stream has.

    `query` names the SQL of the stream that computes the asset, whose version becomes the asset's code version.
    """
    return {
        "code_version": stream.definition_of(query).version if query else None,
        "description": description,
        "group_name": stream.name,
        "owners": [f"team:{stream.contract.owner}"],
        "tags": {"layer": layer, **dict.fromkeys(stream.contract.tags, ""), **tags},
        "kinds": set(kinds),
        "metadata": columns_metadata(table) | {"contract": f"{stream.name} {stream.contract.version}"},
        "freshness_policy": _freshness_policy(stream, layer),
    }


def _freshness_policy(stream: Stream, layer: str) -> dg.FreshnessPolicy:
    """Return how old the newest materialization may be: landing and realtime by the contract, the daily layers a day."""
    sla = stream.contract.freshness or MIN_FRESHNESS
    least = MIN_FRESHNESS if layer in ("landing", "realtime") else BATCH_FRESHNESS
    return dg.FreshnessPolicy.time_window(fail_window=max(sla, least))


def columns_metadata(table: TableSpec | None) -> dict[str, Any]:
    """Describe the table's name and columns in the form that the Dagster page shows."""
    if table is None:
        return {}
    columns = [
        dg.TableColumn(name, sql_type.lower(), description=table.descriptions.get(name))
        for name, sql_type in table.columns
    ]
    return {"dagster/table_name": table.name, "dagster/column_schema": dg.TableSchema(columns=columns)}
