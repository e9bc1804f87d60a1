"""Run models: the eager ones when what they read has changed, the others when their time has come."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, date, datetime

import dagster as dg

from lakehouse.assets.models import asset_key
from lakehouse.assets.partitions import exact_tags
from lakehouse.assets.resources import LakeResource
from lakehouse.automation.backoff import recent_runs, retry_time
from lakehouse.automation.jobs import MODELS
from lakehouse.errors import LakehouseError
from lakehouse.models.model import Model, Models
from lakehouse.pipeline.lake import Lake
from lakehouse.pipeline.lineage.date_ranges import format_days
from lakehouse.pipeline.model_staleness import is_stale, stale_days
from lakehouse.runtime.instance import LANE_TAG
from lakehouse.runtime.orphaned_runs import is_active

POLL_INTERVAL_SECONDS = 30

REMEMBERED_RUNS = 50
"""How many of the newest runs decide how long a model waits after failures."""

ASKED_TAG = "lakehouse/models"
"""The tag that lists the stale models of a run."""


def models_sensor(models: Models) -> dg.SensorDefinition:
    """Build the sensor that requests a run of the stale eager models and of those that read them."""

    @dg.sensor(
        name="stale_models",
        job_name=MODELS,
        minimum_interval_seconds=POLL_INTERVAL_SECONDS,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Compute the days of models whose tables or SQL have changed, found from metadata alone.",
    )
    def stale_models(context: dg.SensorEvaluationContext, lake: LakeResource) -> dg.RunRequest | dg.SkipReason:
        records = recent_runs(context.instance, MODELS, {}, limit=REMEMBERED_RUNS)
        if any(is_active(context.instance, record.dagster_run) for record in records):
            return dg.SkipReason("A run of models is active.")
        eager = [model for model in models.by_name.values() if model.header.schedule == "eager"]
        waiting = {model.name for model in eager if _must_wait(context.instance, model, records)}
        stale = find_stale(lake.lake, (it for it in eager if it.name not in waiting), context.log.error)
        if not stale:
            return dg.SkipReason(f"Wait after failures: {', '.join(sorted(waiting))}." if waiting else "None is stale.")
        _log(context, stale)
        return request_run(models, stale)

    return stale_models


def models_schedules(models: Models) -> list[dg.ScheduleDefinition]:
    """Build the schedule of each model whose header has a cron expression."""
    return [_schedule(models, model) for model in models.by_name.values() if model.header.schedule != "eager"]


def _schedule(models: Models, model: Model) -> dg.ScheduleDefinition:
    @dg.schedule(
        name=f"model_{model.name.replace('.', '_')}",
        cron_schedule=model.header.schedule,
        job_name=MODELS,
        default_status=dg.DefaultScheduleStatus.RUNNING,
        description=f"Compute {model.name} where it is stale.",
    )
    def schedule(context: dg.ScheduleEvaluationContext, lake: LakeResource) -> dg.RunRequest | dg.SkipReason:
        stale = find_stale(lake.lake, [model], context.log.error)
        _log(context, stale)
        return request_run(models, stale) if stale else dg.SkipReason(f"{model.name} is not stale.")

    return schedule


def _must_wait(instance: dg.DagsterInstance, model: Model, records: Sequence[dg.RunRecord]) -> bool:
    """Return whether this model has failed so often in the newest runs that were asked for it that it has to wait."""
    asked = (record for record in records if model.name in record.dagster_run.tags.get(ASKED_TAG, "").split(","))
    return datetime.now(UTC) < retry_time([record for record in asked if not _others_failed(instance, model, record)])


def _others_failed(instance: dg.DagsterInstance, model: Model, record: dg.RunRecord) -> bool:
    """Return whether a run failed in which this model did not."""
    if record.dagster_run.status != dg.DagsterRunStatus.FAILURE:
        return False
    step = asset_key(model.name).to_python_identifier()
    return any(
        stats.status is not None and stats.status.value == "SUCCESS"
        for stats in instance.get_run_step_stats(record.dagster_run.run_id, [step])
    )


def find_stale(lake: Lake, models: Iterable[Model], report: Callable[[str], object]) -> dict[str, list[date]]:
    """Find the stale models, each with its stale days; one without partitions has none.

    A model that can't be judged is reported and left out, so that it holds up no other.
    """
    stale: dict[str, list[date]] = {}
    for model in models:
        try:
            days = stale_days(lake, model) if model.is_partitioned else []
            if days or (not model.is_partitioned and is_stale(lake, model)):
                stale[model.name] = days
        except LakehouseError as error:
            report(f"{model.name}: {error}")
    return stale


def request_run(models: Models, stale: Mapping[str, list[date]]) -> dg.RunRequest:
    """Request a run of these models and of the eager ones that read them. Each computes what is stale when its turn comes."""
    below = [model.name for model in models.below(stale) if model.header.schedule == "eager"]
    days = sorted({day for days in stale.values() for day in days}) or [datetime.now(UTC).date()]
    return dg.RunRequest(
        asset_selection=[asset_key(name) for name in dict.fromkeys([*stale, *below])],
        tags={**exact_tags(days), LANE_TAG: MODELS, ASKED_TAG: ",".join(stale)},
    )


def _log(context: dg.SensorEvaluationContext | dg.ScheduleEvaluationContext, stale: Mapping[str, list[date]]) -> None:
    for name, days in stale.items():
        context.log.info(f"{name}: {format_days(days) or 'whole'}")
