"""Make the events of OpenLineage of a run: that it started, completed, failed or was aborted."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from importlib.metadata import version
from typing import Any
from uuid import UUID

import dagster as dg
from openlineage.client.event_v2 import Job, Run, RunEvent, RunState
from openlineage.client.facet_v2 import (
    JobFacet,
    RunFacet,
    error_message_run,
    job_type_job,
    nominal_time_run,
    processing_engine_run,
    set_producer,
)

from lakehouse.assets.partitions import exact_days
from lakehouse.automation.openlineage.datasets import AssetDatasets

PRODUCER = "https://pypi.org/project/lakehouse"
set_producer(PRODUCER)  # of the facets

STATES: Mapping[dg.DagsterEventType, RunState] = {
    dg.DagsterEventType.RUN_START: RunState.START,
    dg.DagsterEventType.RUN_SUCCESS: RunState.COMPLETE,
    dg.DagsterEventType.RUN_FAILURE: RunState.FAIL,
    dg.DagsterEventType.RUN_CANCELED: RunState.ABORT,
}

REPORTED = {
    dg.DagsterEventType.ASSET_MATERIALIZATION,
    dg.DagsterEventType.ASSET_CHECK_EVALUATION,
    dg.DagsterEventType.STEP_FAILURE,
}

PAGE_EVENTS = 1_000
PARTITION_TAG = "dagster/partition"
RANGE_TAGS = ("dagster/asset_partition_range_start", "dagster/asset_partition_range_end")

Written = dict[dg.AssetKey, dict[str, dict[str, Any]]]
"""By asset and partition, the metadata of the newest materialization."""


@dataclass(slots=True)
class _Report:
    """The outcome of a run so far, from its events."""

    written: Written = field(default_factory=dict)
    checks: dict[dg.AssetKey, dict[str, dg.AssetCheckEvaluation]] = field(default_factory=dict)
    errors: list[str] = field(default_factory=list)


def make_event(instance: dg.DagsterInstance, datasets: AssetDatasets, entry: dg.EventLogEntry) -> RunEvent | None:
    """Make the event for a change of a run's status; None if the run is gone from the history."""
    run = instance.get_run_by_id(entry.run_id)
    if run is None or entry.dagster_event is None:
        return None
    state = STATES[entry.dagster_event.event_type]
    report = _Report() if state == RunState.START else _read(instance, entry.run_id)
    facets: dict[str, RunFacet] = {
        "processing_engine": processing_engine_run.ProcessingEngineRunFacet(
            version=dg.__version__, name="dagster", openlineageAdapterVersion=version("lakehouse")
        )
    }
    if (nominal := _nominal_time(run.tags, report.written)) is not None:
        facets["nominalTime"] = nominal
    if state == RunState.FAIL:
        message = "; ".join(report.errors) or entry.dagster_event.message or "The run failed."
        facets["errorMessage"] = error_message_run.ErrorMessageRunFacet(message, programmingLanguage="PYTHON")
    read = {key: [*checks.values()] for key, checks in report.checks.items()}
    read = {**{key: [] for key in datasets.parents(report.written)}, **read}
    kind = job_type_job.JobTypeJobFacet(processingType="BATCH", integration="DAGSTER", jobType="JOB")
    job_facets: dict[str, JobFacet] = {"jobType": kind}
    return RunEvent(
        eventTime=datetime.fromtimestamp(entry.timestamp, UTC).isoformat(),
        producer=PRODUCER,
        eventType=state,
        run=Run(str(UUID(entry.run_id)), facets),
        job=Job(datasets.namespace, run.job_name, job_facets),
        inputs=[datasets.input(key, checks) for key, checks in read.items()],
        outputs=[datasets.output(key, written) for key, written in sorted(report.written.items())],
    )


def _read(instance: dg.DagsterInstance, run_id: str) -> _Report:
    report = _Report()
    for entry in _entries(instance, run_id):
        event = entry.dagster_event
        if event is None:
            continue
        if event.event_type == dg.DagsterEventType.ASSET_MATERIALIZATION:
            materialization = event.step_materialization_data.materialization
            metadata = {name: value.value for name, value in materialization.metadata.items()}
            report.written.setdefault(materialization.asset_key, {})[materialization.partition or ""] = metadata
        elif event.event_type == dg.DagsterEventType.ASSET_CHECK_EVALUATION:
            check = event.asset_check_evaluation_data
            report.checks.setdefault(check.asset_key, {})[check.check_name] = check
        elif event.event_type == dg.DagsterEventType.STEP_FAILURE:
            error = event.step_failure_data.error
            report.errors.append(f"{event.step_key}: {error.message.strip() if error else event.message}")
    return report


def _entries(instance: dg.DagsterInstance, run_id: str) -> Iterator[dg.EventLogEntry]:
    cursor, has_more = None, True
    while has_more:
        page = instance.get_records_for_run(run_id, cursor, REPORTED, PAGE_EVENTS)
        yield from (record.event_log_entry for record in page.records)
        cursor, has_more = page.cursor, page.has_more


def _nominal_time(tags: Mapping[str, str], written: Written) -> RunFacet | None:
    """Return the time that a run's data is of: that of its partitions."""
    partitions = _partitions_of(tags) or sorted({name for of in written.values() for name in of if name})
    times = [span for name in partitions if (span := _span(name)) is not None]
    if not times:
        return None
    start, end = min(start for start, _ in times), max(end for _, end in times)
    return nominal_time_run.NominalTimeRunFacet(start.isoformat(), end.isoformat())


def _partitions_of(tags: Mapping[str, str]) -> Sequence[str]:
    if (days := exact_days(tags)) is not None:
        return [day.isoformat() for day in days]
    return [tags[name] for name in (PARTITION_TAG, *RANGE_TAGS) if name in tags]


def _span(partition: str) -> tuple[datetime, datetime] | None:
    """Return the start and end of a day, or an hour, in UTC; None for a partition of another kind."""
    for form, length in (("%Y-%m-%d", timedelta(days=1)), ("%Y-%m-%d-%H:%M", timedelta(hours=1))):
        try:
            start = datetime.strptime(partition, form).replace(tzinfo=UTC)
        except ValueError:
            continue
        return start, start + length
    return None
