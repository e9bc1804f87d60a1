"""Run layers where Spark is, by Dagster Pipes: a process elsewhere runs `lakehouse job`, and reports its result here.

The process commits to the tables. This one reports materializations, checks and metadata, as for runs of its own.
"""

import sys
import warnings
from collections.abc import Callable, Mapping
from copy import deepcopy
from typing import Any
from uuid import uuid4

import dagster as dg

from lakehouse.assets.resources import LakeS3Resource
from lakehouse.contracts.streams import Stream
from lakehouse.errors import EngineError
from lakehouse.pipeline.lake import Lake
from lakehouse.pipeline.layer_jobs import JobLayer, LayerJob, job_size, result_from_json, run_job, tables_of, to_json
from lakehouse.settings import PIPES, PipesSettings
from lakehouse.sources.aws import aws_client

FOLDER = "dagster/pipes"
"""The folder of the lake's bucket in which jobs find their context and leave their messages."""

JOB, RESULT = "job", "result"

COMMAND = (sys.executable, "-P", "-m", "lakehouse", "job")

Launch = Callable[[dg.AssetExecutionContext, PipesSettings, Lake, Mapping[str, Any]], dg.PipesClientCompletedInvocation]


def run_layer(context: dg.AssetExecutionContext, lake: Lake, job: LayerJob) -> Any:
    """Run a layer here, or elsewhere if its stream's engine is Spark by Pipes and the run is large.

    Raises EngineError if the job reports no result.
    """
    if not _runs_elsewhere(lake, job):
        return run_job(lake, job)
    settings = lake.settings.pipes
    context.log.info(f"{job.layer} of {job.stream} runs by {settings.client}: {len(job.days)} days")
    with warnings.catch_warnings():
        # Of Dagster 1.13's clients about themselves.
        warnings.filterwarnings("ignore", category=dg.PreviewWarning, message=".*expected_writer_count")
        warnings.filterwarnings("ignore", category=DeprecationWarning, message=r"AssetExecutionContext\.")
        done = LAUNCHERS[settings.client](context, settings, lake, {JOB: to_json(job)})
    for table in tables_of(job):  # because the job has marked them in its own home
        lake.changes("tables").mark(table)
    results = [message[RESULT] for message in done.get_custom_messages() if RESULT in message]
    if not results:
        raise EngineError(f"The job by {settings.client} ended without a result; its log says why.")
    return result_from_json(job, results[-1])


def layer_job(
    context: dg.AssetExecutionContext, layer: JobLayer, stream: Stream, days: Any, *, replace: bool = False
) -> LayerJob:
    """Describe the run of a layer by the step of a Dagster run."""
    return LayerJob(layer, stream.name, list(days), context.run.run_id, replace)


def _runs_elsewhere(lake: Lake, job: LayerJob) -> bool:
    settings = lake.settings
    engine = lake.stream(job.stream).contract.engine or settings.engine
    return engine == "spark" and settings.spark == PIPES and job_size(lake, job) >= settings.spark_from_mb << 20


def _in_subprocess(
    context: dg.AssetExecutionContext, settings: PipesSettings, lake: Lake, extras: Mapping[str, Any]
) -> dg.PipesClientCompletedInvocation:
    command = settings.command or COMMAND
    client = dg.PipesSubprocessClient(env={"LAKEHOUSE_SPARK": "local[*]", **settings.env})
    return client.run(context=context, extras=extras, command=list(command))


def _on_aws(service: str, client_name: str) -> Launch:
    def launch(
        context: dg.AssetExecutionContext, settings: PipesSettings, lake: Lake, extras: Mapping[str, Any]
    ) -> dg.PipesClientCompletedInvocation:
        from dagster_aws import pipes  # takes a second, and few runs need it

        from lakehouse.assets.pipes_messages import LakeMessageReader

        s3, folder = LakeS3Resource().get_client(), f"{FOLDER}/{uuid4().hex}"
        client = getattr(pipes, client_name)(
            client=aws_client(lake.settings, service),
            context_injector=pipes.PipesS3ContextInjector(
                bucket=lake.objects.bucket, client=s3, key_prefix=f"{folder}/"
            ),
            message_reader=LakeMessageReader(lake.objects, s3, folder),
        )
        done: dg.PipesClientCompletedInvocation = client.run(
            context=context, start_job_run_params=deepcopy(settings.params), extras=dict(extras)
        )
        return done

    return launch


LAUNCHERS: Mapping[str, Launch] = {
    "subprocess": _in_subprocess,
    "emr-serverless": _on_aws("emr-serverless", "PipesEMRServerlessClient"),
    "emr-containers": _on_aws("emr-containers", "PipesEMRContainersClient"),
    "glue": _on_aws("glue", "PipesGlueClient"),
}
"""How a job is started, by the name of its client in LAKEHOUSE_PIPES."""
