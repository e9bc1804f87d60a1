"""Find which hours of realtime silver covers, so that a query need not read them. Only table metadata is read.

Bronze records, for each day of arrival, up to which commit of realtime it has each landing object that realtime has rows
of. Silver of a day that was computed since bronze last changed there has the key of each of the day's valid rows. So a
file of realtime from such a commit and with such days adds no key to silver: it is covered. Where this can't be known,
the file counts as uncovered.
"""

import logging
from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, date, datetime

from pyiceberg.exceptions import CommitFailedException
from pyiceberg.table import Table

from lakehouse.contracts.streams import Stream
from lakehouse.errors import CommitConflictError, LakehouseError
from lakehouse.landing.keys import arrival_hour
from lakehouse.pipeline.lineage.properties import (
    computed_from,
    days_with_held_rows,
    defined_by,
    defined_since,
    seen_property,
    seen_realtime,
)
from lakehouse.pipeline.lineage.retention import first_kept_day
from lakehouse.pipeline.lineage.staleness import last_changes
from lakehouse.storage.iceberg.catalog import qualified_name
from lakehouse.storage.iceberg.errors import UNAVAILABLE_ERRORS
from lakehouse.storage.iceberg.manifests import FileSummary, file_summaries, has_delete_files
from lakehouse.storage.iceberg.snapshots import sequence_of

log = logging.getLogger(__name__)

MIN_REALTIME_ROWS = 100_000
"""A smaller realtime table is read faster than its covered hours are found."""


def is_large(realtime: Table) -> bool:
    """Return whether the table has enough rows for its covered hours to be worth finding."""
    snapshot = realtime.current_snapshot()
    totals = snapshot.summary.additional_properties if snapshot and snapshot.summary else {}
    return int(totals.get("total-records") or 0) > MIN_REALTIME_ROWS


def uncovered_hours(
    stream: Stream, realtime: Table, bronze: Table, silver: Table, *, today: date | None = None
) -> Sequence[str] | None:
    """List the hours of arrival, in order, in which realtime may have a key that silver lacks; None for all hours.

    The answer holds for realtime and silver as they are loaded. Bronze may be of any version: a newer one covers more.
    """
    try:
        return _uncovered(stream, realtime, bronze, silver, first_kept_day(stream.contract, "silver", today))
    except (LakehouseError, OSError) as error:
        log.info("Reading all of %s, because its covered hours are unknown: %s", qualified_name(realtime), error)
        return None


def _uncovered(
    stream: Stream, realtime: Table, bronze: Table, silver: Table, first: date | None
) -> Sequence[str] | None:
    since = [defined_since(table, stream.definition) for table in (realtime, bronze)]
    if None in since or any(map(has_delete_files, (realtime, bronze, silver))):
        return None
    same_definition_after = max(hour for hour in since if hour is not None)
    seen, incomplete = seen_realtime(bronze, realtime), incomplete_days(stream, bronze, silver)

    def is_covered(file: FileSummary) -> bool:
        hour = str(file.partition[0])
        return (
            hour > same_definition_after
            and file.sequence <= seen.get(_arrival_day(file), 0)
            and file.days is not None
            and (first is None or file.days[0] >= first)
            and not _any_between(incomplete, *file.days)
        )

    files = list(file_summaries(realtime))
    hours = {str(file.partition[0]) for file in files if not is_covered(file)}
    return None if hours and len(hours) == len({file.partition[0] for file in files}) else sorted(hours)


def incomplete_days(stream: Stream, bronze: Table, silver: Table) -> list[date]:
    """List the event dates whose silver does not hold all of bronze by the current definition, in order."""
    changes = last_changes(bronze)
    read = computed_from(silver, bronze, changes)
    definitions = computed_from(silver, stream.definition.source, changes)
    newest, held = sequence_of(bronze), days_with_held_rows(silver)
    # A day computed from a later commit than bronze's newest was computed from another table of that name.
    return sorted(
        day
        for day, sequence in changes.items()
        if day in held
        or not sequence <= read.get(day, -1) <= newest
        or not stream.definition.matches(definitions.get(day))
    )


def _any_between(days: Sequence[date], first: date, last: date) -> bool:
    at = bisect_left(days, first)
    return at < len(days) and days[at] <= last


def _arrival_day(file: FileSummary) -> date:
    return date.fromisoformat(file.partition[0][:10])


def record_definition(table: Table, stream: Stream) -> None:
    """Record in the table which definition makes its rows, if it is not the recorded one. Do so before writing any.

    Raises CommitConflictError if another writer changed the table first.
    """
    if defined_since(table, stream.definition) is not None:
        return
    properties = defined_by(stream.definition)
    if table.current_snapshot() is not None:
        hour = arrival_hour(datetime.now(UTC))
        properties = {name: f"{number} {hour}" for name, number in properties.items()}
    try:
        _set_properties(table, properties)
    except CommitFailedException as error:
        raise CommitConflictError(f"Another writer changed {qualified_name(table)} first; run it again.") from error


def unseen_days(bronze: Table, realtime: Table, days: Iterable[date]) -> list[date]:
    """List the days of arrival on which realtime has files that bronze has not recorded as seen, of `days`, in order.

    Raises LakehouseError or OSError if realtime's manifests can't be read.
    """
    seen, wanted = seen_realtime(bronze, realtime), set(days)
    unseen = {day for file in file_summaries(realtime) if file.sequence > seen.get(day := _arrival_day(file), 0)}
    return sorted(wanted & unseen)


def record_seen(bronze: Table, realtime: Table, days: Sequence[date]) -> None:
    """Record in bronze, which has nothing else to commit, that it has all that realtime has of these days of arrival.

    Best effort: without the record queries read more of realtime, and the next run tries again.
    """
    if days:
        with suppress(CommitFailedException, *UNAVAILABLE_ERRORS):
            _set_properties(bronze, seen_property(realtime, days, seen_realtime(bronze, realtime)))


def _set_properties(table: Table, properties: Mapping[str, str]) -> None:
    with table.transaction() as transaction:
        transaction.set_properties(dict(properties))
