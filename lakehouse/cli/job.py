"""`job`: run one layer of a stream in this process, for Dagster in another one. See `assets.external_jobs`."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import date
from pathlib import Path
from typing import Annotated, Any

import typer

from lakehouse.cli.printing import print_json, print_text
from lakehouse.engine.spark import SUBMITTED
from lakehouse.errors import LakehouseError
from lakehouse.pipeline.lake import Lake
from lakehouse.pipeline.layer_jobs import LAYERS, JobLayer, LayerJob, job_from_json, run_job, to_json
from lakehouse.pipeline.lineage.date_ranges import parse_days
from lakehouse.settings import get_settings

SCRIPT = Path(__file__).parent / "spark_submit" / "lakehouse_job.py"

JOB = "job"
"""The name of the job among the extras of a Pipes session."""

RESULT = "result"
"""The name of its result in the one message that it reports."""

PIPES_PREFIX = "--dagster-pipes-"

Report = Callable[[Any], None]

Layer = Annotated[
    str | None, typer.Argument(help=f"The layer: {', '.join(LAYERS)}. Without it, Dagster Pipes says what to run.")
]
StreamName = Annotated[str | None, typer.Argument(metavar="STREAM")]
Days = Annotated[str | None, typer.Argument(help="Days such as 2025-11-20 or 2025-11-18..2025-11-20,2025-11-24.")]
Replace = Annotated[bool, typer.Option("--replace", help="Let bronze read all landing objects of the days again.")]
Script = Annotated[bool, typer.Option("--script", help="Print the path of the file for spark-submit, and run nothing.")]
Context = Annotated[str | None, typer.Option(f"{PIPES_PREFIX}context", hidden=True)]
Messages = Annotated[str | None, typer.Option(f"{PIPES_PREFIX}messages", hidden=True)]


def job(
    layer: Layer = None,
    stream: StreamName = None,
    days: Days = None,
    replace: Replace = False,
    script: Script = False,
    pipes_context: Context = None,
    pipes_messages: Messages = None,
) -> None:
    """Run a layer of a stream and commit it. Prints the result as JSON, or reports it to Dagster Pipes."""
    if script:
        print_text(str(SCRIPT))
        return
    settings = get_settings()
    if "PYSPARK_GATEWAY_PORT" in os.environ:  # set by spark-submit
        settings = settings.model_copy(update={"spark": SUBMITTED})
    if layer is None:
        with _pipes(from_arguments=pipes_context is not None) as (asked, report):
            report(to_json(run_job(Lake(settings), asked)))
        return
    print_json(to_json(run_job(Lake(settings), _job(layer, stream, days, replace))))


def _job(layer: str, stream: str | None, days: str | None, replace: bool) -> LayerJob:
    known: dict[str, JobLayer] = {name: name for name in LAYERS}
    if layer not in known:
        raise LakehouseError(f"There is no layer {layer!r} to run; there are {', '.join(LAYERS)}.")
    if stream is None or days is None:
        raise LakehouseError(f"Name a stream and days: lakehouse job {layer} STREAM {date.today()}")
    try:
        wanted = parse_days(days)
    except ValueError as error:
        raise LakehouseError(f"{days!r} are no days; write 2025-11-20 or 2025-11-18..2025-11-20.") from error
    return LayerJob(known[layer], stream, wanted, replace=replace)


@contextmanager
def _pipes(*, from_arguments: bool) -> Iterator[tuple[LayerJob, Report]]:
    """Open the session that Dagster Pipes describes in the environment or in arguments, by values or by objects in S3."""
    import dagster_pipes as pipes

    kind: Any = pipes.PipesCliArgsParamsLoader if from_arguments else pipes.PipesEnvVarParamsLoader
    loader: pipes.PipesParamsLoader = kind()
    if not loader.is_dagster_pipes_process():
        raise LakehouseError("Dagster Pipes did not start this process. Name a layer, a stream and days.")
    context, messages = loader.load_context_params(), loader.load_messages_params()
    reads: pipes.PipesContextLoader = pipes.PipesDefaultContextLoader()
    writes: pipes.PipesMessageWriter[Any] = pipes.PipesDefaultMessageWriter()
    if "bucket" in context:
        reads = pipes.PipesS3ContextLoader(client=_s3())
    if "bucket" in messages:
        writes = pipes.PipesS3MessageWriter(client=_s3(), interval=1)
    with pipes.open_dagster_pipes(context_loader=reads, message_writer=writes, params_loader=loader) as session:
        try:
            yield (
                job_from_json(session.get_extra(JOB)),
                lambda result: session.report_custom_message({RESULT: result}),
            )
        except LakehouseError as error:
            session.log.error(str(error))
            raise


def _s3() -> Any:
    from dagster_aws.s3 import S3Resource

    connection = Lake(get_settings()).connection
    return S3Resource(
        endpoint_url=connection.endpoint,
        region_name=connection.region,
        aws_access_key_id=connection.access_key_id,
        aws_secret_access_key=connection.secret_access_key,
        aws_session_token=connection.session_token,
    ).get_client()
