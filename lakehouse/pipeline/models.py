"""Compute models. Each day is computed by itself from the days that it reads.

So a day's rows are the same whether it is computed alone or with others, tonight or in a back-fill.
"""

from collections.abc import Sequence
from datetime import date

import duckdb

from lakehouse.engine.connection import copy_to_files
from lakehouse.errors import ModelError
from lakehouse.models.model import Model
from lakehouse.models.returned import show_returned
from lakehouse.pipeline.commits import WriteResult, commit_days, replace_table, retry_on_conflict
from lakehouse.pipeline.lake import Lake
from lakehouse.pipeline.model_days import day_sql, days_read
from lakehouse.pipeline.model_inputs import Source, open_inputs, sources_of_model
from lakehouse.storage.iceberg.commit import upload


def write_model(lake: Lake, model: Model, days: Sequence[date], *, run_id: str = "") -> WriteResult:
    """Replace the model's partitions of these days; of a model without partitions, the whole table.

    Raises ModelError if a row is of none of the days that it is computed for, or the SQL fails.
    """
    try:
        return (
            _write_days(lake, model, sorted({*days}), run_id)
            if model.is_partitioned
            else _write_all(lake, model, run_id)
        )
    except duckdb.IOException:
        raise
    except duckdb.Error as error:
        raise ModelError(f"{model.path}: {error}") from error


def _write_all(lake: Lake, model: Model, run_id: str) -> WriteResult:
    sources = sources_of_model(lake, model)
    with open_inputs(lake) as inputs:
        inputs.show(sources, None)
        show_returned(inputs.cursor, model)
        return replace_table(
            lake, model.name, model.select, cursor=inputs.cursor, sources=_versions(model, sources), run_id=run_id
        )


def _write_days(lake: Lake, model: Model, days: Sequence[date], run_id: str) -> WriteResult:
    if not days:
        return WriteResult(model.name, {})

    def attempt() -> WriteResult:
        table, sources = lake.tables.load(model.name), sources_of_model(lake, model)
        with lake.engine.scratch() as folder, open_inputs(lake) as inputs:
            files = []
            for day in days:
                inputs.show(sources, days_read(model, day))
                show_returned(inputs.cursor, model)
                select = day_sql(model, day)
                files += copy_to_files(inputs.cursor, select, table, folder, name=f"{day}", partition=(day,))
            added = upload(lake.connection, table, files)
            versions = _versions(model, sources)
            return commit_days(lake, table, files, added, days, sources=versions, run_id=run_id)

    return retry_on_conflict(attempt)


def _versions(model: Model, sources: Sequence[Source]) -> dict[str, int]:
    return {source.name: source.sequence for source in sources} | model.definition.sources
