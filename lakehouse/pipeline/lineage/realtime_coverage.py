"""Which hours of realtime silver has taken, so that nobody need read them again. Metadata alone is read.

Bronze notes of each day of arrival up to which sequence number of realtime it has each landing object that realtime has rows
of. Silver of a day that was computed since bronze last changed there has the key of each of its valid rows. So it has all
keys of a file of realtime with such a number and such days: that file is covered. What can't be known is not.
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
from lakehouse.pipeline.lineage.properties import computed_from, defined_by, defined_since, seen_property, seen_realtime
from lakehouse.pipeline.lineage.retention import first_kept_day
from lakehouse.pipeline.lineage.staleness import last_changes, sequence_of
from lakehouse.storage.iceberg.catalog import qualified_name
from lakehouse.storage.iceberg.errors import UNAVAILABLE_ERRORS
from lakehouse.storage.iceberg.manifests import FileSummary, file_summaries, has_delete_files

log = logging.getLogger(__name__)

MIN_REALTIME_ROWS = 100_000
"""Rows of realtime; fewer are read sooner than it is found out which need not be."""


def is_large(realtime: Table) -> bool:
    """Whether the table holds enough rows to ask which of them silver has taken."""
    snapshot = realtime.current_snapshot()
    said = snapshot.summary.additional_properties if snapshot and snapshot.summary else {}
    return int(said.get("total-records") or 0) > MIN_REALTIME_ROWS


def uncovered_hours(
    stream: Stream, realtime: Table, bronze: Table, silver: Table, *, today: date | None = None
) -> Sequence[str] | None:
    """The hours of arrival of realtime, in order, in which there may be a key that silver does not have; None is all of them.

    Good for realtime and silver as they are here; of bronze any version does, a newer one knows more.
    """
    try:
        return _uncovered(stream, realtime, bronze, silver, first_kept_day(stream.contract, "silver", today))
    except (LakehouseError, OSError) as problem:
        log.info("all of %s is read: %s", qualified_name(realtime), problem)
        return None


def _uncovered(
    stream: Stream, realtime: Table, bronze: Table, silver: Table, first: date | None
) -> Sequence[str] | None:
    since = [defined_since(table, stream.definition) for table in (realtime, bronze)]
    if None in since or any(map(has_delete_files, (realtime, bronze, silver))):
        return None
    alike = max(hour for hour in since if hour is not None)
    known, open_days = seen_realtime(bronze, realtime), _not_taken(stream, bronze, silver)

    def is_covered(file: FileSummary) -> bool:
        hour = str(file.partition[0])
        return (
            hour > alike
            and file.sequence <= known.get(_day(file), 0)
            and file.days is not None
            and (first is None or file.days[0] >= first)
            and not _any_between(open_days, *file.days)
        )

    files = list(file_summaries(realtime))
    hours = {str(file.partition[0]) for file in files if not is_covered(file)}
    return None if hours and len(hours) == len({file.partition[0] for file in files}) else sorted(hours)


def _not_taken(stream: Stream, bronze: Table, silver: Table) -> list[date]:
    """The days of which bronze holds rows that silver was not computed from, by today's definition, in order."""
    touched = last_changes(bronze)
    read = computed_from(silver, qualified_name(bronze), touched)
    defined = computed_from(silver, stream.definition.source, touched)
    newest = sequence_of(bronze)
    # One that says it was computed from later commits than there are was computed from another table.
    return sorted(
        day
        for day, at in touched.items()
        if not at <= read.get(day, -1) <= newest or not stream.definition.matches(defined.get(day))
    )


def _any_between(days: Sequence[date], first: date, last: date) -> bool:
    at = bisect_left(days, first)
    return at < len(days) and days[at] <= last


def _day(file: FileSummary) -> date:
    return date.fromisoformat(file.partition[0][:10])


def record_definition(table: Table, stream: Stream) -> None:
    """Have the table say by which definition its rows are made, before any is made by another than it says.

    Raises CommitConflictError when that can't be said.
    """
    if defined_since(table, stream.definition) is not None:
        return
    said = dict(defined_by(stream.definition))
    if table.current_snapshot() is not None:
        said = {name: f"{number} {arrival_hour(datetime.now(UTC))}" for name, number in said.items()}
    try:
        _say(table, said)
    except CommitFailedException as problem:
        raise CommitConflictError(f"Another writer changed {qualified_name(table)} first; run it again.") from problem


def unseen_days(bronze: Table, realtime: Table, days: Iterable[date]) -> list[date]:
    """Those of these days of arrival of which realtime has files that bronze has not noted yet. Raises as `said_of` does."""
    known, wanted = seen_realtime(bronze, realtime), set(days)
    found = {_day(file) for file in file_summaries(realtime) if file.sequence > known.get(_day(file), 0)}
    return sorted(wanted & found)


def record_seen(bronze: Table, realtime: Table, days: Sequence[date]) -> None:
    """Have bronze say of these days what `seen_note` says, for who has nothing to commit. Where that fails, more is read."""
    if days:
        with suppress(CommitFailedException, *UNAVAILABLE_ERRORS):
            _say(bronze, seen_property(realtime, days, seen_realtime(bronze, realtime)))


def _say(table: Table, properties: Mapping[str, str]) -> None:
    with table.transaction() as transaction:
        transaction.set_properties(dict(properties))
