"""Runs that a command executes in its own process, recorded in the lakehouse's Dagster instance like any other."""

import logging
import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from uuid import uuid4

import dagster as dg

from lakehouse.assets.models import AGAIN_TAG, asset_key
from lakehouse.assets.partitions import exact_tags
from lakehouse.assets.specs import key
from lakehouse.automation.build import build_definitions
from lakehouse.automation.jobs import BRONZE, MODELS, REFRESH, stream_asset_keys
from lakehouse.automation.models import find_stale, request_run
from lakehouse.contracts.streams import Stream
from lakehouse.errors import LakehouseError
from lakehouse.pipeline.lake import Lake
from lakehouse.pipeline.refresh import days_to_refresh
from lakehouse.runtime.instance import environment, lane_tags, open_instance
from lakehouse.runtime.run_process import process_tag
from lakehouse.serving.lookups.declaration import Lookup
from lakehouse.serving.lookups.publish import declared_lookups, is_stale

log = logging.getLogger(__name__)

_QUIET_RUN_CONFIG = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}


@dataclass(frozen=True, slots=True)
class RunOutcome:
    """How a run ended: its id, and the error of each step that failed."""

    run_id: str
    errors: Sequence[str]

    @property
    def succeeded(self) -> bool:
        """Whether no step failed."""
        return not self.errors


class Runner:
    """Execute jobs of the definitions in this process."""

    def __init__(self, lake: Lake) -> None:
        os.environ.update(environment(lake.settings))
        self._lake = lake
        self._definitions = build_definitions(lake.settings)

    def run(self, job: str, tags: Mapping[str, str], keys: Sequence[dg.AssetKey] | None = None) -> RunOutcome:
        """Execute a job for the partitions that its tags name. Errors of steps are returned, not raised."""
        run_id = str(uuid4())
        with open_instance(self._lake.settings) as instance:
            result = self._definitions.resolve_job_def(job).execute_in_process(
                instance=instance,
                asset_selection=list(keys) if keys is not None else None,
                run_id=run_id,
                tags={**tags, **process_tag(run_id)},
                run_config=_QUIET_RUN_CONFIG,
                raise_on_error=False,
            )
        failures = (e for e in result.all_events if e.event_type == dg.DagsterEventType.STEP_FAILURE)
        errors = [_root_error(event) for event in failures]
        if not result.success and not errors:
            errors = [f"run {result.run_id} failed"]
        return RunOutcome(result.run_id, errors)

    def land(self, stream: Stream, days: Sequence[date]) -> RunOutcome:
        """Ingest the landing objects of these days of arrival into bronze."""
        return self.run(
            BRONZE, {**exact_tags(days), **lane_tags(BRONZE, stream.name)}, [dg.AssetKey(["bronze", stream.name])]
        )

    def refresh(self, stream: Stream) -> tuple[list[date], RunOutcome | None]:
        """Compute the stale days of every layer below bronze. Gives the days, and the outcome unless there were none."""
        days = days_to_refresh(self._lake, stream)
        if not days:
            return [], None
        tags = {**exact_tags(days), **lane_tags(REFRESH, stream.name)}
        return days, self.run(REFRESH, tags, stream_asset_keys(self._lake, stream))

    def refresh_models(self, names: Collection[str] | None = None) -> tuple[dict[str, list[date]], RunOutcome | None]:
        """Compute what is stale of these models and of those that read them, or of all.

        Gives the stale days by model, and the outcome unless there were none.
        """
        models = self._lake.models.models
        chosen = [model for model in models.by_name.values() if names is None or model.name in names]
        problems: list[str] = []
        stale = find_stale(self._lake, chosen, problems.append)
        if problems:
            raise LakehouseError("; ".join(problems))
        if not stale:
            return {}, None
        request = request_run(models, stale)
        return stale, self.run(MODELS, request.tags, request.asset_selection)

    def refresh_lookups(self) -> RunOutcome | None:
        """Compute the declared look-ups that are older than their file or tables. Gives the outcome unless there were none."""
        lookups = declared_lookups(self._lake).by_name.values()
        stale = [key("serving", lookup.asset_name) for lookup in lookups if self._is_stale(lookup)]
        return self.run(REFRESH, exact_tags([datetime.now(UTC).date()]), stale) if stale else None

    def _is_stale(self, lookup: Lookup) -> bool:
        try:
            return is_stale(self._lake, lookup)
        except LakehouseError as error:  # such as a table that is not there
            log.warning("The look-up %s is left out: %s", lookup.name, error)
            return False

    def compute_model(self, name: str, days: Sequence[date] | None) -> RunOutcome:
        """Compute these days of a model, or all of one without partitions, stale or not."""
        return self.run(MODELS, {**exact_tags(days), AGAIN_TAG: "true"} if days else {}, [asset_key(name)])


def raise_on_failure(outcome: RunOutcome | None) -> None:
    """Raise LakehouseError with the first error of a failed run."""
    if outcome is not None and not outcome.succeeded:
        raise LakehouseError(f"{outcome.errors[0]} (run {outcome.run_id})")


def _root_error(event: dg.DagsterEvent) -> str:
    """Describe why a step failed: by this package's own error, which says what to do, or else by the deepest cause."""
    error = event.step_failure_data.error
    while error is not None and error.cause is not None and not _is_own(error.message):
        error = error.cause
    failure = event.step_failure_data.user_failure_data
    if failure is not None and failure.description:
        return failure.description
    if error is None:
        return f"step {event.step_key} failed"
    message = error.message.strip().split("\n")[0]
    return message.partition(": ")[2] if _is_own(message) else message


def _is_own(message: str) -> bool:
    return message.startswith(f"{LakehouseError.__module__}.")
