"""Assets of models: tables that a project computes from others by a SELECT, with the checks of its header."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import date

import dagster as dg

from lakehouse.assets.partitions import exact_days, run_days, window
from lakehouse.assets.reporting import MaterializedPartitions, from_write
from lakehouse.assets.specs import Compute, columns_metadata, computed_asset, key
from lakehouse.errors import ModelError, SchemaChangeError
from lakehouse.models.model import Model
from lakehouse.pipeline.column_lineage import model_lineage
from lakehouse.pipeline.commits import WriteResult
from lakehouse.pipeline.lake import Lake
from lakehouse.pipeline.model_checks import evaluate_checks, list_checks
from lakehouse.pipeline.model_specs import CheckedModels, day_column
from lakehouse.pipeline.model_staleness import is_stale, stale_days
from lakehouse.pipeline.model_tables import ensure_table
from lakehouse.pipeline.models import write_model
from lakehouse.storage.iceberg.schema import TableSpec

MODEL_TAG = "model"
"""The tag of every model's asset, with one of these values."""
EAGER, SCHEDULED = "eager", "scheduled"

AGAIN_TAG = "lakehouse/again"
"""The tag of a run that computes its exact days, stale or not."""


def model_assets(
    checked: CheckedModels, tables: Mapping[str, TableSpec], days: dg.DailyPartitionsDefinition
) -> list[dg.AssetsDefinition]:
    """Define the asset of each model. `tables` are those of the streams."""
    specs = {**tables, **checked.specs}
    return [_model_asset(model, specs, days) for model in checked.models.by_name.values()]


def asset_key(name: str) -> dg.AssetKey:
    """Make the key of the asset of a table `layer.name`."""
    return key(*name.split("."))


def _model_asset(
    model: Model, specs: Mapping[str, TableSpec], days: dg.DailyPartitionsDefinition
) -> dg.AssetsDefinition:
    header, spec = model.header, specs[model.name]
    return computed_asset(
        asset_key(model.name),
        _compute_days(model, specs) if model.is_partitioned else _compute_all(model, specs),
        deps=[_dependency(model, specs[name]) for name in model.reads],
        partitions_def=days if model.is_partitioned else None,
        code_version=str(model.definition.number),
        description=header.description,
        group_name="models",
        owners=[header.owner if "@" in header.owner else f"team:{header.owner}"],
        tags={"layer": model.name.partition(".")[0], MODEL_TAG: EAGER if header.schedule == "eager" else SCHEDULED},
        kinds={"iceberg", "duckdb", "sql"},
        check_specs=[
            dg.AssetCheckSpec(
                check.name, asset=asset_key(model.name), description=check.description, blocking=check.blocking
            )
            for check in list_checks(model)
        ],
        metadata={**columns_metadata(spec), "sql": dg.MetadataValue.md(f"```sql\n{model.sql.strip()}\n```")},
    )


def _dependency(model: Model, source: TableSpec) -> dg.AssetDep:
    if not model.is_partitioned or day_column(source.partition_by) is None or not model.header.look_back:
        return dg.AssetDep(asset_key(source.name))
    return dg.AssetDep(asset_key(source.name), partition_mapping=window(model.header.look_back + 1))


def _compute_days(model: Model, specs: Mapping[str, TableSpec]) -> Compute:
    def compute(context: dg.AssetExecutionContext, lake: Lake) -> MaterializedPartitions:
        _ensure(lake, specs[model.name])
        lineage = model_lineage(model, specs)
        # A run of exact days may have changed what this model reads a moment ago, so what is stale is found now.
        is_planned = exact_days(context.run.tags) is not None and AGAIN_TAG not in context.run.tags
        dates = stale_days(lake, model) if is_planned else run_days(context)
        written = from_write(_write(context, lake, model, dates), preview_column="dt")
        return replace(written, checks=_check(lake, model, dates), lineage=lineage)

    return compute


def _compute_all(model: Model, specs: Mapping[str, TableSpec]) -> Compute:
    def compute(context: dg.AssetExecutionContext, lake: Lake) -> MaterializedPartitions:
        _ensure(lake, specs[model.name])
        lineage = model_lineage(model, specs)
        if exact_days(context.run.tags) is not None and not is_stale(lake, model):
            return MaterializedPartitions({}, checks=_check(lake, model, ()))
        written = from_write(_write(context, lake, model, ()))
        return replace(written, checks=_check(lake, model, ()), lineage=lineage)

    return compute


def _ensure(lake: Lake, spec: TableSpec) -> None:
    try:
        ensure_table(lake, spec)
    except SchemaChangeError as error:
        raise dg.Failure(str(error), allow_retries=False) from error


def _write(context: dg.AssetExecutionContext, lake: Lake, model: Model, days: Sequence[date]) -> WriteResult:
    try:
        return write_model(lake, model, days, run_id=context.run.run_id)
    except ModelError as error:  # the same SQL over the same rows fails again
        raise dg.Failure(str(error), allow_retries=False) from error


def _check(lake: Lake, model: Model, days: Sequence[date]) -> list[dg.AssetCheckResult]:
    return [
        dg.AssetCheckResult(
            check_name=result.check.name,
            passed=not result.violations,
            severity=dg.AssetCheckSeverity.ERROR,
            metadata={"violations": result.violations, "examples": "\n".join(result.examples) or "none"},
        )
        for result in evaluate_checks(lake, model, days)
    ]
