"""The whole asset graph of a lakehouse, built from its streams. Tests build the same graph from other streams."""

from collections.abc import Iterable, Mapping
from datetime import date

import dagster as dg

from lakehouse.assets.anomalies import anomaly_assets
from lakehouse.assets.bootstrap import bootstrap
from lakehouse.assets.bronze import bronze_asset
from lakehouse.assets.gold import gold_asset, metrics_asset
from lakehouse.assets.landing import landing_asset
from lakehouse.assets.models import model_assets
from lakehouse.assets.partitions import daily, hourly
from lakehouse.assets.realtime import realtime_asset
from lakehouse.assets.serving import declared_lookup_asset, serving_assets
from lakehouse.assets.silver import silver_assets
from lakehouse.contracts.model import DEFAULT_HISTORY_START
from lakehouse.contracts.streams import Stream
from lakehouse.pipeline.model_specs import CheckedModels
from lakehouse.pipeline.table_specs import table_specs
from lakehouse.serving.lookups.declaration import Lookup


def build_assets(
    streams: Mapping[str, Stream],
    realtime_start: date,
    models: CheckedModels | None = None,
    lookups: Iterable[Lookup] = (),
) -> list[dg.AssetsDefinition | dg.AssetSpec]:
    """Build every asset of these streams, models and declared look-ups; hourly partitions start on `realtime_start`."""
    tables = {spec.name: spec for spec in table_specs(streams.values())}
    # All streams share one daily definition, because a job can't hold assets of different ones.
    days = daily(min((stream.contract.history_start for stream in streams.values()), default=DEFAULT_HISTORY_START))
    hours = hourly(realtime_start)
    assets: list[dg.AssetsDefinition | dg.AssetSpec] = [bootstrap, metrics_asset(streams.values(), tables, days)]
    assets += [declared_lookup_asset(lookup, streams, days) for lookup in lookups]
    for stream in streams.values():
        assets += [
            landing_asset(stream, hours),
            realtime_asset(stream, tables, hours),
            bronze_asset(stream, tables, days),
            silver_assets(stream, tables, days),
            gold_asset(stream, tables, days),
            *serving_assets(stream, tables, days),
            *([anomaly_assets(stream, tables, days)] if stream.contract.anomaly else []),
        ]
    return [*assets, *model_assets(models or CheckedModels(), tables, days)]
