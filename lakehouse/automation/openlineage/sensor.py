"""The sensor that tells the receiver of OpenLineage what runs have done, from the history, beside the runs."""

import time
from collections.abc import Iterator
from contextlib import closing
from typing import TYPE_CHECKING, Literal, get_args

import dagster as dg

from lakehouse.assets.resources import LakeResource
from lakehouse.errors import LakehouseError
from lakehouse.runtime.openlineage_progress import SENSOR, Progress
from lakehouse.settings import Settings, get_settings

if TYPE_CHECKING:
    from lakehouse.automation.openlineage.sender import Sender

POLL_INTERVAL_SECONDS = 10
MAX_SECONDS = 20.0
"""A tick sends for so long; the next one goes on."""

StatusChange = Literal[
    dg.DagsterEventType.RUN_START,
    dg.DagsterEventType.RUN_SUCCESS,
    dg.DagsterEventType.RUN_FAILURE,
    dg.DagsterEventType.RUN_CANCELED,
]

MAX_CHANGES = 500
"""Changes of each kind that a tick reads."""

STATUS_CHANGES: tuple[StatusChange, ...] = get_args(StatusChange)


def openlineage_sensors(settings: Settings) -> list[dg.SensorDefinition]:
    """Define the sensor if the settings name a receiver."""
    return [openlineage] if settings.openlineage else []


@dg.sensor(
    name=SENSOR,
    minimum_interval_seconds=POLL_INTERVAL_SECONDS,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Send events of OpenLineage about each run to LAKEHOUSE_OPENLINEAGE. Runs don't wait for it, and what"
    " the receiver does not take is sent again.",
)
def openlineage(context: dg.SensorEvaluationContext, lake: LakeResource) -> Iterator[dg.SkipReason]:
    """Send what runs have done since the last tick, oldest first. The first tick only notes where the history ends."""
    progress = Progress.parse(context.cursor)
    if progress is None:
        context.update_cursor(Progress(_newest(context.instance)).encode())
        yield dg.SkipReason("Events are sent of what runs do from now on.")
        return
    sent, error = _send(context, lake, progress)
    context.update_cursor(progress.encode())
    if error is not None:
        waiting = f"{len(progress.waiting):,} events have waited since {progress.waits_since}"
        context.log.warning(f"OpenLineage: {error}. {waiting}; they are sent again.")
    yield dg.SkipReason(f"{sent:,} events were sent, {len(progress.waiting):,} wait, {progress.lost:,} were lost.")


def _send(context: dg.SensorEvaluationContext, lake: LakeResource, progress: Progress) -> tuple[int, str | None]:
    """Send the changes of runs. Returns how many were sent, and why no more."""
    found, last = _read_after(context.instance, progress.first_id)
    if lost := progress.drop_lost(found, last):
        context.log.error(
            f"{lost:,} events of OpenLineage are lost: the history of their runs was pruned, or they could not be made."
        )
    changes = {number: found[number] for number in sorted(found) if not progress.is_sent(number)}
    sent, until = 0, time.monotonic() + MAX_SECONDS
    error: str | None = None
    if changes:
        try:
            with closing(_open(context, lake)) as sender:
                for number in [*changes]:
                    if time.monotonic() > until:
                        break
                    try:
                        sent += sender.send(changes[number].event_log_entry)
                    except LakehouseError:
                        raise
                    except Exception as failure:  # it waits, and holds up no other event
                        context.log.error("An event of OpenLineage could not be made.", exc_info=True)
                        error = f"{type(failure).__name__}: {failure}"
                        continue
                    progress.mark_sent(number)
                    del changes[number]
        except LakehouseError as failure:
            error = str(failure)
    progress.mark_waiting([*changes])
    return sent, error


def _open(context: dg.SensorEvaluationContext, lake: LakeResource) -> "Sender":
    try:
        from lakehouse.automation.openlineage.sender import Sender  # an extra, and only this sensor needs it
    except ImportError as error:
        raise LakehouseError(f"it needs {error.name}. Run: pip install 'lakehouse[openlineage]'") from error
    assert context.repository_def is not None
    return Sender(get_settings(), context.instance, lake.lake, context.repository_def.asset_graph)


def _newest(instance: dg.DagsterInstance) -> int:
    """Return the id of the newest change of a run's status."""
    newest = (instance.fetch_run_status_changes(kind, 1).records for kind in STATUS_CHANGES)
    return max((record.storage_id for records in newest for record in records), default=0)


def _read_after(instance: dg.DagsterInstance, after: int) -> tuple[dict[int, dg.EventLogRecord], int | None]:
    """Read the first changes of the status of runs after an id, by id, and up to which id they are all; None for the end."""
    found: dict[int, dg.EventLogRecord] = {}
    last: int | None = None
    for kind in STATUS_CHANGES:
        where = dg.RunStatusChangeRecordsFilter(kind, after_storage_id=after)
        result = instance.fetch_run_status_changes(where, MAX_CHANGES, ascending=True)
        found |= {record.storage_id: record for record in result.records}
        if result.has_more:
            end = max(record.storage_id for record in result.records)
            last = end if last is None else min(last, end)
    return {number: record for number, record in found.items() if last is None or number <= last}, last
