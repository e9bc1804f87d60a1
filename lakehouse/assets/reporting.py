"""Report the partitions that a run materialized: their counts as metadata, and a few rows as a preview."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import Any

import dagster as dg

from lakehouse.assets.partitions import exact_days
from lakehouse.engine.connection import scan_sql
from lakehouse.engine.filters import days_filter
from lakehouse.pipeline.column_lineage import ColumnLineage
from lakehouse.pipeline.commits import WriteResult
from lakehouse.pipeline.lake import Lake
from lakehouse.pipeline.quality_gate import withdraw_command

DATA_VERSION_TAG = "dagster/data_version"
"""The tag of the version of a reported materialization's data: the id of its run.

Dagster then knows that what is downstream is stale; from code versions alone it can't see that events have landed.
"""

PREVIEW_ROWS = 5
PREVIEW_CELL_CHARACTERS = 40


@dataclass(frozen=True, slots=True)
class MaterializedPartitions:
    """The partitions of one asset that a run wrote: metadata of each, by its key, and of all together."""

    partitions: Mapping[Any, Mapping[str, Any]]
    metadata: Mapping[str, Any] = field(default_factory=dict)
    preview_of: tuple[str, str] | None = None
    """The table of whose newest day a preview is shown, and the column that holds the day."""
    checks: Sequence[dg.AssetCheckResult] = ()
    lineage: ColumnLineage = field(default_factory=dict)
    """Of the table's columns; shown with the newest partition."""


def from_write(result: WriteResult, preview_column: str | None = None) -> MaterializedPartitions:
    """Describe the partitions of one commit; with `preview_column` the newest day is previewed."""
    snapshot = snapshot_text(result.commit.snapshot_id if result.commit else None)
    partitions = {partition: {**counts, "snapshot_id": snapshot} for partition, counts in result.partitions.items()}
    return MaterializedPartitions(
        partitions, preview_of=(result.table, preview_column) if preview_column is not None else None
    )


def preview_newest(lake: Lake, materialized: MaterializedPartitions) -> dict[str, dict[str, Any]]:
    """Return the metadata by partition; that of the newest one has a preview and the columns' lineage where asked for."""
    partitions = {str(partition): dict(metadata) for partition, metadata in materialized.partitions.items()}
    if partitions and materialized.lineage:
        partitions[max(partitions)]["dagster/column_lineage"] = _column_lineage(materialized.lineage)
    if materialized.preview_of is not None and partitions:
        table, column = materialized.preview_of
        newest = max(partitions)
        days = days_filter([date.fromisoformat(newest)], column)
        partitions[newest]["preview"] = _preview(lake, f"from {scan_sql(lake.tables.load(table))} where {days}")
    return partitions


def _column_lineage(lineage: ColumnLineage) -> dg.TableColumnLineage:
    """Return the lineage in the form that the Dagster page draws."""
    deps = {
        column: [dg.TableColumnDep(dg.AssetKey(table.split(".")), name) for table, name in sources]
        for column, sources in lineage.items()
    }
    return dg.TableColumnLineage(deps)


def report_partitions(
    context: dg.AssetExecutionContext,
    asset_key: dg.AssetKey,
    partitions: Mapping[str, Mapping[str, Any]],
    seconds: float,
) -> None:
    """Attach metadata to each partition's materialization.

    Two materializations Dagster does not report by itself, so they are reported here: those of a run about exact days,
    and of an asset that was computed along with the one asked for.
    """
    run_id = context.run.run_id
    is_reported_by_dagster = exact_days(context.run.tags) is None and asset_key in context.selected_asset_keys
    if is_reported_by_dagster:
        context.set_data_version(asset_key, dg.DataVersion(run_id))
    for partition, counts in partitions.items():
        metadata = {**counts, "seconds": seconds}
        if is_reported_by_dagster:
            context.add_asset_metadata(metadata, asset_key=asset_key, partition_key=partition or None)
        else:
            context.log_event(materialization(asset_key, partition, metadata, run_id))


def materialization(
    asset_key: dg.AssetKey, partition: str, metadata: Mapping[str, Any], run_id: str
) -> dg.AssetMaterialization:
    """Make the event that reports a partition whose data the run made; the partition "" is a whole table."""
    return dg.AssetMaterialization(
        asset_key, partition=partition or None, metadata=dict(metadata), tags={DATA_VERSION_TAG: run_id}
    )


def snapshot_text(snapshot_id: int | None) -> dg.MetadataValue[Any]:
    """Return a snapshot id as text, because as a number it would lose its last digits in a browser."""
    return dg.MetadataValue.text(str(snapshot_id) if snapshot_id is not None else "none")


def how_to_withdraw(keys: Sequence[str]) -> dict[str, Any]:
    """Return the metadata that says how to take these blocked objects out; empty without any."""
    if not keys:
        return {}
    commands = "\n".join(map(withdraw_command, keys))
    config = json.dumps({"ops": {"withdraw_objects": {"config": {"objects": [*keys]}}}}, indent=2)
    text = f"```sh\n{commands}\n```\nOr launch the job `withdraw` with this config:\n```json\n{config}\n```"
    return {"how_to_withdraw": dg.MetadataValue.md(text)}


def _preview(lake: Lake, select: str) -> dg.MetadataValue[Any]:
    """Show the first rows of a SELECT as a table of texts, which the Dagster page does not read as Markdown."""
    with lake.engine.cursor() as cursor:
        result = cursor.execute(f"select * from ({select}) limit {PREVIEW_ROWS}")
        columns = [column[0] for column in result.description or []]
        records = [dg.TableRecord(dict(zip(columns, map(_cell, row), strict=True))) for row in result.fetchall()]
    return dg.MetadataValue.table(records, dg.TableSchema([dg.TableColumn(column) for column in columns]))


def _cell(value: object) -> str:
    text = str("" if value is None else value)
    return text if len(text) <= PREVIEW_CELL_CHARACTERS else text[: PREVIEW_CELL_CHARACTERS - 1] + "…"
