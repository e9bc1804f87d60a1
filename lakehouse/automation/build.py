"""Build the Dagster definitions of a lakehouse: assets, checks, jobs, schedules, sensors and resources."""

import logging
from collections.abc import Sequence

import dagster as dg

from lakehouse.assets.audit import audit_check
from lakehouse.assets.graph import build_assets
from lakehouse.assets.io_manager import LakehouseIOManager
from lakehouse.assets.resources import LakeResource, LakeS3Resource
from lakehouse.automation.jobs import audit_job, build_jobs, models_job
from lakehouse.automation.maintenance import maintenance
from lakehouse.automation.models import models_schedules, models_sensor
from lakehouse.automation.openlineage.sensor import openlineage_sensors
from lakehouse.automation.project_assets import problems_of, with_project_assets
from lakehouse.automation.schedules import SCHEDULES, audit_schedule
from lakehouse.automation.sensors import SENSORS
from lakehouse.automation.withdraw import withdraw
from lakehouse.contracts.streams import discover
from lakehouse.pipeline.model_specs import find_models
from lakehouse.serving.lookups.declaration import discover_lookups
from lakehouse.settings import Settings

log = logging.getLogger(__name__)


def build_definitions(settings: Settings) -> dg.Definitions:
    """Build the definitions of the lakehouse that these settings describe, with those of the project's own files.

    A file of the project that is wrong is left out and logged. Raises ContractError if a stream is invalid.
    """
    lake = LakeResource()
    streams = discover(settings.streams, examples=settings.examples)
    resources = {"lake": lake, "s3": LakeS3Resource(), "io_manager": LakehouseIOManager(lake=lake)}
    checked = find_models(settings.models, streams.values())
    lookups = discover_lookups(settings.lookups, streams, checked.models.by_name)
    assets = build_assets(streams, settings.realtime_start, checked, lookups.by_name.values())
    executor, problems = dg.in_process_executor, (*checked.models.problems, *lookups.problems)
    if not streams:  # a new project; jobs need assets of every layer
        return _with_project(dg.Definitions(assets=assets, resources=resources, executor=executor), settings, problems)
    models = checked.models.by_name.values()
    definitions = dg.Definitions(
        assets=assets,
        asset_checks=[audit_check(stream) for stream in streams.values()],
        jobs=[
            *build_jobs(),
            maintenance,
            withdraw,
            audit_job(streams.values()),
            *([models_job(models)] if models else []),
        ],
        schedules=[*SCHEDULES, audit_schedule(streams.values()), *models_schedules(checked.models)],
        sensors=[
            *SENSORS,
            *([models_sensor(checked.models)] if models else []),
            *openlineage_sensors(settings),
        ],
        # A process of its own would cost each step two to three seconds, and a run is a process already.
        executor=executor,
        resources=resources,
    )
    return _with_project(definitions, settings, problems)


def _with_project(definitions: dg.Definitions, settings: Settings, others: Sequence[str]) -> dg.Definitions:
    definitions = with_project_assets(definitions, settings.assets, others)
    if problems := problems_of(definitions):
        log.error("Left out: %s", "; ".join(problems))
    return definitions
