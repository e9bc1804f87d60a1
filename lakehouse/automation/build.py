"""Build the Dagster definitions of a lakehouse: assets, checks, jobs, schedules, sensors and resources."""

import dagster as dg

from lakehouse.assets.audit import audit_check
from lakehouse.assets.graph import build_assets
from lakehouse.assets.io_manager import LakehouseIOManager
from lakehouse.assets.resources import LakeResource, LakeS3Resource
from lakehouse.automation.auditing import audit_job, audit_schedule
from lakehouse.automation.jobs import build_jobs
from lakehouse.automation.maintenance import maintenance
from lakehouse.automation.schedules import SCHEDULES
from lakehouse.automation.sensors import SENSORS
from lakehouse.contracts.streams import discover
from lakehouse.settings import Settings


def build_definitions(settings: Settings) -> dg.Definitions:
    """The definitions of the lakehouse that these settings describe."""
    lake = LakeResource()
    streams = discover(settings.streams)
    return dg.Definitions(
        assets=build_assets(streams, settings.realtime_start),
        asset_checks=[audit_check(stream) for stream in streams.values()],
        jobs=[*build_jobs(), maintenance, audit_job(streams.values())],
        schedules=[*SCHEDULES, audit_schedule(streams.values())],
        sensors=SENSORS,
        # A process a step would cost two to three seconds each; a run is a process of its own already.
        executor=dg.in_process_executor,
        resources={"lake": lake, "s3": LakeS3Resource(), "io_manager": LakehouseIOManager(lake=lake)},
    )
