"""Name a layer's run in plain data, run it, and turn its result into JSON: for runs in processes on other machines."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any, Literal, get_args

import msgspec

from lakehouse.contracts.streams import Stream
from lakehouse.errors import LakehouseError
from lakehouse.landing.listing import list_days
from lakehouse.pipeline.alerts import write_alerts
from lakehouse.pipeline.bronze import ingest_days
from lakehouse.pipeline.commits import WriteResult
from lakehouse.pipeline.computed_days import size_of_days
from lakehouse.pipeline.exports import ExportedObject, export_unified
from lakehouse.pipeline.features import write_features
from lakehouse.pipeline.gold import write_daily
from lakehouse.pipeline.ingest import IngestResult
from lakehouse.pipeline.lake import Lake
from lakehouse.pipeline.silver import SilverResult, clean_days

JobLayer = Literal["bronze", "silver", "gold", "features", "alerts", "unified"]

LAYERS: tuple[JobLayer, ...] = get_args(JobLayer)


@dataclass(frozen=True, slots=True)
class LayerJob:
    """The run of one layer of a stream over some days: of arrival in bronze, of the event in others."""

    layer: JobLayer
    stream: str
    days: Sequence[date]
    run_id: str = ""
    replace: bool = False
    """Whether bronze reads all landing objects of the days again."""


@dataclass(frozen=True, slots=True)
class _Layer:
    """How a layer is run, the type of its result, and the tables that it writes."""

    run: Callable[[Lake, Stream, LayerJob], Any]
    result: Any
    tables: tuple[str, ...]


_LAYERS: Mapping[JobLayer, _Layer] = {
    "bronze": _Layer(
        lambda lake, stream, job: ingest_days(lake, stream, job.days, replace=job.replace, run_id=job.run_id),
        IngestResult[date],
        ("bronze.{}",),
    ),
    "silver": _Layer(
        lambda lake, stream, job: clean_days(lake, stream, job.days, run_id=job.run_id),
        SilverResult,
        ("silver.{}", "quarantine.{}"),
    ),
    "gold": _Layer(
        lambda lake, stream, job: write_daily(lake, stream, job.days, run_id=job.run_id),
        WriteResult,
        ("gold.{}_daily",),
    ),
    "features": _Layer(
        lambda lake, stream, job: write_features(lake, stream, job.days, run_id=job.run_id),
        WriteResult,
        ("serving.{}_features",),
    ),
    "alerts": _Layer(
        lambda lake, stream, job: write_alerts(lake, stream, job.days, run_id=job.run_id),
        WriteResult,
        ("serving.{}_alerts",),
    ),
    "unified": _Layer(lambda lake, stream, job: export_unified(lake, stream, job.days), dict[date, ExportedObject], ()),
}


def run_job(lake: Lake, job: LayerJob) -> Any:
    """Run a layer of a stream; returns what its function returns. Raises UnknownStreamError."""
    return _LAYERS[job.layer].run(lake, lake.stream(job.stream), job)


def job_size(lake: Lake, job: LayerJob) -> int:
    """Sum up the bytes that a job reads: of landing objects for bronze, of bronze for silver, of silver for others."""
    if job.layer == "bronze":
        listed = list_days(lake.objects, job.stream, min(job.days), max(job.days)) if job.days else {}
        return sum(obj.size for day in job.days for obj in listed.get(day, ()))
    source = "bronze" if job.layer == "silver" else "silver"
    return size_of_days(lake.tables.load(f"{source}.{job.stream}"), job.days)


def tables_of(job: LayerJob) -> list[str]:
    """List the tables that a job writes."""
    return [name.format(job.stream) for name in _LAYERS[job.layer].tables]


def to_json(value: Any) -> Any:
    """Turn a job or its result into what JSON can hold."""
    return msgspec.to_builtins(value, str_keys=True)


def job_from_json(content: Any) -> LayerJob:
    """Read a job. Raises LakehouseError if it is none."""
    try:
        return msgspec.convert(content, LayerJob, str_keys=True)
    except msgspec.ValidationError as error:
        raise LakehouseError(f"The job can't be read: {error}.") from error


def result_from_json(job: LayerJob, content: Any) -> Any:
    """Read the result of a job. Raises LakehouseError if it is of another release."""
    try:
        return msgspec.convert(content, _LAYERS[job.layer].result, str_keys=True)
    except msgspec.ValidationError as error:
        raise LakehouseError(
            f"The result of the job can't be read ({error}). Install the same version of lakehouse on both machines."
        ) from error
