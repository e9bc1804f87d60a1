"""The IO manager for a user's own assets: it writes what an asset returns, and reads what an asset takes.

An asset `layer/name` is the table `layer.name`. Relations stay lazy and are written partition by partition, so memory is
bounded whatever the range. A missing table is created from the first rows written to it.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import Any

import dagster as dg
import duckdb
import pandas as pd
import pyarrow as pa
from pydantic import PrivateAttr

from lakehouse.assets.partitions import exact_days
from lakehouse.assets.reporting import from_write, materialization, preview_newest
from lakehouse.assets.resources import LakeResource
from lakehouse.engine.connection import describe, scan_sql
from lakehouse.engine.filters import days_filter
from lakehouse.errors import LakehouseError
from lakehouse.pipeline.commits import WriteResult, replace_days, replace_table
from lakehouse.pipeline.lake import Lake
from lakehouse.storage.iceberg.schema import TableSpec
from lakehouse.storage.iceberg.snapshots import sequence_of
from lakehouse.storage.iceberg.tables import NAMESPACES

AssetRows = duckdb.DuckDBPyRelation | pa.Table | pa.RecordBatchReader | pd.DataFrame
"""The types that an asset may return and take."""


@dataclass(slots=True)
class _Step:
    """A running step: the cursor that its inputs live on, and the sequence number of each table it read."""

    cursor: duckdb.DuckDBPyConnection
    sources: dict[str, int] = field(default_factory=dict)


class LakehouseIOManager(dg.ConfigurableIOManager):
    """Read and write assets as Iceberg tables of the lake.

    A partitioned asset has a column `dt` that holds the day. The asset's metadata `partition_column` names another one.
    """

    lake: dg.ResourceDependency[LakeResource]
    _steps: dict[tuple[str, str], "_Step"] = PrivateAttr(default_factory=dict)

    def load_input(self, context: dg.InputContext) -> AssetRows:
        """Read the upstream table in the type of the parameter's annotation, limited to the partitions needed.

        Raises LakehouseError if the upstream asset's key does not name a table.
        """
        lake = self.lake.lake
        name = _table_name(context.asset_key)
        table = lake.tables.load(name)
        step = self._steps.setdefault(_step_key(context), _Step(lake.engine.cursor()))
        step.sources[name] = sequence_of(table)
        select = f"select * from {scan_sql(table)}"
        if context.has_asset_partitions:
            select += f" where {_input_filter(context)}"
        return _convert(step.cursor.sql(select), context.dagster_type.typing_type)

    def handle_output(self, context: dg.OutputContext, obj: AssetRows | None) -> None:
        """Replace the asset's partitions with these rows, or the whole table of an asset without partitions.

        Raises LakehouseError if the rows or the asset's key can't become a table.
        """
        if obj is None:
            return
        lake = self.lake.lake
        started = time.monotonic()
        step = self._steps.pop(_step_key(context), None) or _Step(lake.engine.cursor())
        select, days = _select(step.cursor, obj, context), _output_days(context)
        name, column = _table_name(context.asset_key), _partition_column(context.definition_metadata)
        _ensure_table(lake, name, step.cursor, select, column if days is not None else None)
        if days is None:
            result = replace_table(lake, name, select, cursor=step.cursor, sources=step.sources, run_id=context.run_id)
        else:
            result = replace_days(
                lake, name, select, days, column=column, cursor=step.cursor, sources=step.sources, run_id=context.run_id
            )
        seconds = round(time.monotonic() - started, 3)
        _report(lake, context, result, column if days is not None else None, seconds)


def _table_name(asset_key: dg.AssetKey) -> str:
    if len(asset_key.path) != 2 or asset_key.path[0] not in NAMESPACES:
        raise LakehouseError(
            f"Asset {asset_key.to_user_string()} can't be stored as a table: "
            f"its key must be layer/name with layer one of {', '.join(NAMESPACES)}."
        )
    return ".".join(asset_key.path)


def _partition_column(metadata: Any) -> str:
    return str((metadata or {}).get("partition_column", "dt"))


def _step_key(context: dg.InputContext | dg.OutputContext) -> tuple[str, str]:
    return context.step_context.run_id, context.step_context.step.key


def _input_filter(context: dg.InputContext) -> str:
    keys = context.asset_partition_keys
    exact = exact_days(context.step_context.dagster_run.tags)
    column = _partition_column(context.upstream_output.definition_metadata if context.upstream_output else None)
    # A mapping that widens the range, such as a window of days, needs the days between the exact ones too.
    if exact is not None and len(keys) == _range_length(exact):
        return days_filter(exact, column)
    days = sorted(keys)
    return f"{column} between date '{days[0]}' and date '{days[-1]}'" if days else "false"


def _range_length(days: Sequence[date]) -> int:
    return (max(days) - min(days)).days + 1 if days else 0


def _convert(relation: duckdb.DuckDBPyRelation, annotation: Any) -> AssetRows:
    if annotation is pa.Table:
        return relation.to_arrow_table()
    if annotation is pa.RecordBatchReader:
        return relation.to_arrow_reader()
    if annotation is pd.DataFrame:
        return relation.df()
    return relation


def _select(cursor: duckdb.DuckDBPyConnection, rows: AssetRows, context: dg.OutputContext) -> str:
    """Return the SELECT that reads the returned rows on the cursor."""
    if isinstance(rows, duckdb.DuckDBPyRelation):
        return rows.sql_query()
    if isinstance(rows, pa.RecordBatchReader):
        rows = rows.read_all()
    if not isinstance(rows, pa.Table | pd.DataFrame):
        raise LakehouseError(
            f"Asset {context.asset_key.to_user_string()} returned a {type(rows).__name__}; return a DuckDB relation, "
            "an Arrow table or reader, or a pandas DataFrame."
        )
    cursor.register("returned", rows)
    return "from returned"


def _output_days(context: dg.OutputContext) -> list[date] | None:
    if not context.has_asset_partitions:
        return None
    exact = exact_days(context.step_context.dagster_run.tags)
    return exact if exact is not None else [date.fromisoformat(key) for key in context.asset_partition_keys]


def _ensure_table(lake: Lake, name: str, cursor: duckdb.DuckDBPyConnection, select: str, column: str | None) -> None:
    if lake.tables.exists(name):
        return
    columns = describe(cursor, select)
    if column is not None and column not in dict(columns):
        raise LakehouseError(f"{name} is partitioned, so its rows need a column {column!r} that holds their day.")
    lake.tables.ensure([TableSpec(name, columns, (column,) if column else ())])


def _report(lake: Lake, context: dg.OutputContext, result: WriteResult, column: str | None, seconds: float) -> None:
    """Attach the numbers of the commit to the materialization of each partition; `column` is None without partitions."""
    partitions = preview_newest(lake, from_write(result, preview_column=column))
    run_id = context.step_context.run_id
    is_exact = exact_days(context.step_context.dagster_run.tags) is not None
    if column is not None and not is_exact:
        context.step_context.set_data_version(context.asset_key, dg.DataVersion(run_id))
    for partition, counts in partitions.items():
        metadata = {**counts, "seconds": seconds}
        if column is None:
            context.add_output_metadata(metadata)
        elif is_exact:
            context.log_event(materialization(context.asset_key, partition, metadata, run_id))
        else:
            context.step_context.add_asset_metadata(metadata, asset_key=context.asset_key, partition_key=partition)
