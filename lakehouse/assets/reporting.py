"""What a materialization says of itself: its numbers as numbers, and a few rows as a preview."""

from collections.abc import Mapping, Sequence
from typing import Any

import dagster as dg

from lakehouse.assets.partitions import exact_days
from lakehouse.pipeline.lake import Lake

DATA_VERSION = "dagster/data_version"
"""The tag by which a materialization that is reported says which data it made. Each run makes data of its own: what is made of
it is then out of date, for Dagster can't see from code and versions alone that something has landed."""

PREVIEW_ROWS = 5
PREVIEW_CELL = 40


def report(context: dg.AssetExecutionContext, key: dg.AssetKey, partitions: Mapping[str, Mapping[str, Any]]) -> None:
    """Give each partition's materialization its metadata; report the materialization too where Dagster does not:
    in a run about exact days, and of an asset that was made along with the one asked for.
    """
    run = context.run.run_id
    if exact_days(context.run.tags) is None and key in context.selected_asset_keys:
        context.set_data_version(key, dg.DataVersion(run))
        for partition, metadata in partitions.items():
            context.add_asset_metadata(dict(metadata), asset_key=key, partition_key=partition)
        return
    for partition, metadata in partitions.items():
        context.log_event(
            dg.AssetMaterialization(key, partition=partition, metadata=dict(metadata), tags={DATA_VERSION: run})
        )


def numbers(row: Mapping[str, Any], **more: Any) -> dict[str, Any]:
    """A partition's counts as metadata, so that the page plots them."""
    return {**row, **more}


def snapshot_text(snapshot_id: int | None) -> dg.MetadataValue[Any]:
    """A snapshot id as text: as a number it would lose its last digits in a browser."""
    return dg.MetadataValue.text(str(snapshot_id) if snapshot_id is not None else "none")


def preview(lake: Lake, select: str) -> dg.MetadataValue[Any]:
    """The first rows of a SELECT as a Markdown table."""
    with lake.engine.cursor() as cursor:
        result = cursor.execute(f"select * from ({select}) limit {PREVIEW_ROWS}")
        columns = [column[0] for column in result.description or []]
        return dg.MetadataValue.md(_table(columns, result.fetchall()))


def _table(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    lines = ["| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
    return "\n".join(lines + ["| " + " | ".join(map(_cell, row)) + " |" for row in rows])


def _cell(value: object) -> str:
    text = str("" if value is None else value).replace("|", "\\|").replace("\n", " ")
    return text if len(text) <= PREVIEW_CELL else text[: PREVIEW_CELL - 1] + "…"
