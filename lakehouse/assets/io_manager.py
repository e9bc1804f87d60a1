"""The IO manager: what an asset returns becomes its table's partitions; what an asset takes is read as its annotation says.

An asset `layer/name` is the table `layer.name`. Relations stay lazy and are written partition by partition, so memory is
bounded whatever the range. A table that is not there yet is made from the first thing written to it.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import Any

import dagster as dg
import duckdb
import pandas as pd
import pyarrow as pa
from pydantic import PrivateAttr

from lakehouse.assets.partitions import exact_days
from lakehouse.assets.reporting import DATA_VERSION, numbers, preview, snapshot_text
from lakehouse.assets.resources import LakeResource
from lakehouse.assets.specs import DEFINITION, SOURCE_KEPT_DAYS
from lakehouse.engine.connection import describe, scan_sql
from lakehouse.engine.filters import days_filter
from lakehouse.errors import LakehouseError
from lakehouse.pipeline.commits import WriteResult, replace_days, replace_table
from lakehouse.pipeline.lake import Lake
from lakehouse.pipeline.lineage.date_ranges import format_days
from lakehouse.pipeline.lineage.staleness import sequence_of
from lakehouse.storage.iceberg.schema import TableSpec
from lakehouse.storage.iceberg.tables import NAMESPACES

Rows = duckdb.DuckDBPyRelation | pa.Table | pa.RecordBatchReader | pd.DataFrame
"""What an asset may return, and take."""


@dataclass(slots=True)
class _Step:
    """A step under way: the cursor that its inputs live on, and which version of each table they are."""

    cursor: duckdb.DuckDBPyConnection
    sources: dict[str, int] = field(default_factory=dict)


class LakehouseIOManager(dg.ConfigurableIOManager):
    """Reads and writes assets as Iceberg tables of the lake.

    Partitioned assets have a column `dt` (or what the asset's metadata `partition_column` names) that holds the day.
    """

    lake: dg.ResourceDependency[LakeResource]
    _steps: dict[tuple[str, str], "_Step"] = PrivateAttr(default_factory=dict)

    def load_input(self, context: dg.InputContext) -> Rows:
        """The upstream table, of the partitions that this one is computed from, as the parameter's annotation says."""
        lake = self.lake.lake
        name = _table_name(context.asset_key)
        table = lake.tables.load(name)
        step = self._steps.setdefault(_step_key(context), _Step(lake.engine.cursor()))
        step.sources[name] = sequence_of(table)
        select = f"select * from {scan_sql(table)}"
        if context.has_asset_partitions:
            select += f" where {_wanted(context)}"
        return _as(step.cursor.sql(select), context.dagster_type.typing_type)

    def handle_output(self, context: dg.OutputContext, obj: Rows | None) -> None:
        """Replace the asset's partitions with these rows."""
        if obj is None:
            return
        lake = self.lake.lake
        started = time.monotonic()
        step = self._steps.pop(_step_key(context), None) or _Step(lake.engine.cursor())
        cursor, sources = step.cursor, step.sources | (context.definition_metadata or {}).get(DEFINITION, {})
        select, days = _opened(cursor, obj, context)
        name = _table_name(context.asset_key)
        column = str((context.definition_metadata or {}).get("partition_column", "dt"))
        _ensure(lake, name, cursor, select, column if days is not None else None)
        if days is not None and (known := _still_known(context, days)) != days:
            select, days = f"select * from ({select}) where {days_filter(known, column)}", known
            if not known:
                return
        if days is None:
            written = replace_table(lake, name, select, cursor=cursor, sources=sources, run_id=context.run_id)
        else:
            written = replace_days(
                lake, name, select, days, column=column, cursor=cursor, sources=sources, run_id=context.run_id
            )
        _report(lake, context, written, days, column, round(time.monotonic() - started, 3))


def _table_name(asset_key: dg.AssetKey) -> str:
    if len(asset_key.path) != 2 or asset_key.path[0] not in NAMESPACES:
        raise LakehouseError(
            f"Asset {asset_key.to_user_string()} is no table: its key must be layer/name with layer one of {', '.join(NAMESPACES)}."
        )
    return ".".join(asset_key.path)


def _step_key(context: dg.InputContext | dg.OutputContext) -> tuple[str, str]:
    return context.step_context.run_id, context.step_context.step.key


def _wanted(context: dg.InputContext) -> str:
    keys = context.asset_partition_keys
    exact = exact_days(context.step_context.dagster_run.tags)
    metadata = (context.upstream_output.definition_metadata if context.upstream_output else None) or {}
    column = str(metadata.get("partition_column", "dt"))
    if exact is not None and len(keys) == len(_run_range(exact)):
        return days_filter(exact, column)
    days = sorted(keys)
    return f"{column} between date '{days[0]}' and date '{days[-1]}'" if days else "false"


def _run_range(days: Sequence[date]) -> range:
    return range((max(days) - min(days)).days + 1) if days else range(0)


def _as(relation: duckdb.DuckDBPyRelation, wanted: Any) -> Rows:
    if wanted is pa.Table:
        return relation.to_arrow_table()
    if wanted is pa.RecordBatchReader:
        return relation.to_arrow_reader()
    if wanted is pd.DataFrame:
        return relation.df()
    return relation


def _opened(cursor: duckdb.DuckDBPyConnection, obj: Rows, context: dg.OutputContext) -> tuple[str, list[date] | None]:
    rows, days = obj, _days(context)
    if isinstance(rows, duckdb.DuckDBPyRelation):
        return rows.sql_query(), days
    if isinstance(rows, pa.RecordBatchReader):
        rows = rows.read_all()
    if not isinstance(rows, pa.Table | pd.DataFrame):
        raise LakehouseError(
            f"Asset {context.asset_key.to_user_string()} returned a {type(rows).__name__}; return a DuckDB relation, "
            "an Arrow table or reader, or a pandas DataFrame."
        )
    cursor.register("returned", rows)
    return "from returned", days


def _days(context: dg.OutputContext) -> list[date] | None:
    if not context.has_asset_partitions:
        return None
    exact = exact_days(context.step_context.dagster_run.tags)
    return exact if exact is not None else [date.fromisoformat(key) for key in context.asset_partition_keys]


def _still_known(context: dg.OutputContext, days: Sequence[date]) -> list[date]:
    """Those of the days that the asset's source still keeps: of others, what was computed in time stays."""
    kept = (context.definition_metadata or {}).get(SOURCE_KEPT_DAYS)
    first = datetime.now(UTC).date() - timedelta(days=int(kept)) if kept is not None else date.min
    if gone := [day for day in days if day < first]:
        context.log.warning(f"Not computed, for the source keeps no day before {first}: {format_days(gone)}")
    return [day for day in days if day >= first]


def _ensure(lake: Lake, name: str, cursor: duckdb.DuckDBPyConnection, select: str, column: str | None) -> None:
    if lake.tables.exists(name):
        return
    columns = describe(cursor, select)
    if column is not None and column not in dict(columns):
        raise LakehouseError(f"{name} is partitioned, so its rows need a column {column!r} that holds their day.")
    lake.tables.ensure([TableSpec(name, columns, (column,) if column else ())])


def _report(
    lake: Lake,
    context: dg.OutputContext,
    written: WriteResult,
    days: Sequence[date] | None,
    column: str,
    seconds: float,
) -> None:
    snapshot = snapshot_text(written.commit.snapshot_id if written.commit else None)
    rows = {
        partition: numbers(row, snapshot_id=snapshot, seconds=seconds) for partition, row in written.partitions.items()
    }
    if days is None:
        context.add_output_metadata(rows[""])
        return
    if days:
        scan = scan_sql(lake.tables.load(written.table))
        rows[str(max(days))]["preview"] = preview(lake, f"from {scan} where {days_filter([max(days)], column)}")
    run = context.step_context.run_id
    if exact_days(context.step_context.dagster_run.tags) is None:
        context.step_context.set_data_version(context.asset_key, dg.DataVersion(run))
        for partition, metadata in rows.items():
            context.step_context.add_asset_metadata(metadata, asset_key=context.asset_key, partition_key=partition)
    else:
        for partition, metadata in rows.items():
            context.log_event(
                dg.AssetMaterialization(
                    context.asset_key, partition=partition, metadata=metadata, tags={DATA_VERSION: run}
                )
            )
