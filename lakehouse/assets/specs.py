"""What every asset carries: key, owner, group, tags, kinds, description, columns and freshness."""

from collections.abc import Callable, Iterable, Mapping
from datetime import timedelta
from typing import Any, cast

import dagster as dg

from lakehouse.contracts.streams import Query, Stream
from lakehouse.storage.iceberg.schema import TableSpec

RETRIES = dg.RetryPolicy(max_retries=3, delay=2, backoff=dg.Backoff.EXPONENTIAL, jitter=dg.Jitter.PLUS_MINUS)
BATCH_SLACK = timedelta(hours=26)
"""A daily layer is late when a day and two hours have passed without a run."""

SOURCE_KEPT_DAYS = "lakehouse/source_kept_days"
"""Metadata of an asset whose source is kept for so many days: what it made of older ones is not computed again."""

DEFINITION = "lakehouse/definition"
"""Metadata of an asset that says by which version of its SQL it is computed, noted with what it makes as a source is."""

Columns = Mapping[str, TableSpec]
"""The tables' specs by name."""


def key(layer: str, name: str) -> dg.AssetKey:
    """The key of an asset: `layer/name`."""
    return dg.AssetKey([layer, name])


def lake_asset(**arguments: Any) -> Callable[[Callable[..., Any]], dg.AssetsDefinition]:
    """`dg.asset` with what all assets share: a range is one run, and a failure is tried again with back-off."""
    made = dg.asset(backfill_policy=dg.BackfillPolicy.single_run(), retry_policy=RETRIES, **arguments)
    return cast("Callable[[Callable[..., Any]], dg.AssetsDefinition]", made)


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
    """The arguments that every asset of a stream has, whatever makes it; `query` is the SQL of the stream that does."""
    return {
        "code_version": stream.definition_of(query).version if query else None,
        "description": description,
        "group_name": stream.name,
        "owners": [f"team:{stream.contract.owner}"],
        "tags": {"layer": layer, **dict.fromkeys(stream.contract.tags, ""), **tags},
        "kinds": set(kinds),
        "metadata": columns_metadata(table)
        | {"contract": f"{stream.name} {stream.contract.version}"}
        | ({DEFINITION: stream.definition_of("gold").sources} if layer == "gold" else {})
        | ({SOURCE_KEPT_DAYS: kept} if layer == "gold" and (kept := stream.contract.retention.silver) else {}),
    }


def freshness(stream: Stream, layer: str) -> dg.FreshnessPolicy:
    """How old an asset's newest materialization may be: by the contract for what runs all day, a day for batches."""
    sla = stream.contract.freshness or timedelta(minutes=15)
    window = max(sla, timedelta(minutes=15)) if layer in ("landing", "realtime") else max(sla, BATCH_SLACK)
    return dg.FreshnessPolicy.time_window(fail_window=window)


def columns_metadata(table: TableSpec | None) -> dict[str, Any]:
    """The table's name and columns as Dagster shows them."""
    if table is None:
        return {}
    columns = [
        dg.TableColumn(name, sql_type.lower(), description=table.descriptions.get(name))
        for name, sql_type in table.columns
    ]
    return {"dagster/table_name": table.name, "dagster/column_schema": dg.TableSchema(columns=columns)}
