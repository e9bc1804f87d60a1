"""Runs that this process executes itself, recorded in the lakehouse's Dagster history like any other."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from uuid import uuid4

import dagster as dg

from lakehouse.assets.partitions import exact_tags
from lakehouse.automation.jobs import BRONZE, REFRESH, stream_asset_keys
from lakehouse.contracts.streams import Stream
from lakehouse.errors import LakehouseError
from lakehouse.landing.keys import hour_partition
from lakehouse.pipeline.lake import Lake
from lakehouse.pipeline.lineage.refresh import days_to_refresh
from lakehouse.runtime.instance import environment, lane_tags, open_instance
from lakehouse.runtime.run_process import process_tag

_QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}


@dataclass(frozen=True, slots=True)
class RunOutcome:
    """How a run ended: its id, and what went wrong, in words, if it failed."""

    run_id: str
    problems: Sequence[str]

    @property
    def succeeded(self) -> bool:
        """Whether nothing went wrong."""
        return not self.problems


class Runner:
    """Executes jobs of the definitions in this process."""

    def __init__(self, lake: Lake) -> None:
        os.environ.update(environment(lake.settings))
        # Dagster and the definitions take seconds to import; only commands that run jobs pay for them.
        from lakehouse.automation.build import build_definitions

        self._lake = lake
        self._definitions = build_definitions(lake.settings)

    def run(self, job: str, tags: Mapping[str, str], keys: Sequence[dg.AssetKey] | None = None) -> RunOutcome:
        """Execute a job for the partitions that its tags name; a failed step is told, not raised."""
        run_id = str(uuid4())
        with open_instance(self._lake.settings) as history:
            done = self._definitions.resolve_job_def(job).execute_in_process(
                instance=history,
                asset_selection=list(keys) if keys is not None else None,
                run_id=run_id,
                tags={**tags, **process_tag(run_id)},
                run_config=_QUIET,
                raise_on_error=False,
            )
        problems = [_cause(event) for event in done.all_events if event.event_type == dg.DagsterEventType.STEP_FAILURE]
        if not done.success and not problems:
            problems = [f"run {done.run_id} failed"]
        return RunOutcome(done.run_id, problems)

    def land(self, stream: Stream, days: Sequence[date]) -> RunOutcome:
        """Bring what landed on these days into bronze."""
        return self.run(
            BRONZE, {**exact_tags(days), **lane_tags(BRONZE, stream.name)}, [dg.AssetKey(["bronze", stream.name])]
        )

    def refresh(self, stream: Stream) -> tuple[list[date], RunOutcome | None]:
        """Compute everything below bronze that is older than what it is made of; which days, and how it went."""
        days = days_to_refresh(self._lake, stream)
        if not days:
            return [], None
        tags = {**exact_tags(days), **lane_tags(REFRESH, stream.name)}
        return days, self.run(REFRESH, tags, stream_asset_keys(stream))


def current_hour() -> str:
    """The hourly partition of now."""
    return hour_partition(datetime.now(UTC))


def raise_on_failure(outcome: RunOutcome | None) -> None:
    """Raise LakehouseError with the first problem of a failed run."""
    if outcome is not None and not outcome.succeeded:
        raise LakehouseError(f"{outcome.problems[0]} (run {outcome.run_id})")


def _cause(event: dg.DagsterEvent) -> str:
    error = event.step_failure_data.error
    while error is not None and error.cause is not None:
        error = error.cause
    failure = event.step_failure_data.user_failure_data
    if failure is not None and failure.description:
        return failure.description
    if error is None:
        return f"step {event.step_key} failed"
    return error.message.strip().split("\n")[0]
