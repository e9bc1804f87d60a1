"""Compute silver and quarantine: all bronze rows of an event date, cleaned by the contract's SQL and once per key.

Both are pure functions of bronze, so late data and re-runs need no special case. Days are computed in groups by the
lake's workers, so memory stays bounded whatever the range. See `day_groups` for how a group is computed.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from functools import partial

from pyiceberg.manifest import DataFile
from pyiceberg.table import Table

from lakehouse.contracts.streams import Stream
from lakehouse.engine.connection import copy_to_files, read_sql, scan_sql
from lakehouse.engine.filters import days_filter
from lakehouse.engine.workers import Workers
from lakehouse.pipeline import shadow_engine
from lakehouse.pipeline.cleaning import Cleaned, Group, clean_group, exceeds, passed_columns
from lakehouse.pipeline.commits import WriteResult, commit_days, commit_files, retry_on_conflict
from lakehouse.pipeline.cut_days import clean_in_pieces, pieces_of
from lakehouse.pipeline.day_groups import GroupTables
from lakehouse.pipeline.lake import Lake
from lakehouse.pipeline.ledger import Ledger
from lakehouse.pipeline.lineage.properties import days_with_held_rows
from lakehouse.pipeline.lineage.staleness import redefined_days
from lakehouse.storage.iceberg.commit import discarded_on_failure, upload
from lakehouse.storage.iceberg.manifests import select_files
from lakehouse.storage.iceberg.partitions import date_from_days, partition_position, partitions_filter
from lakehouse.storage.iceberg.snapshots import sequence_of

MAX_GROUP_ROWS = 500_000
MAX_GROUP_BYTES = 32 << 20
"""Days are grouped until their rows, or the bytes of their bronze files, exceed this. A larger day is a group of its own."""


@dataclass(frozen=True, slots=True)
class SilverResult:
    """The result of cleaning event dates: their ledgers, and the commits of silver and quarantine."""

    ledgers: Mapping[date, Ledger]
    silver: WriteResult
    quarantine: WriteResult

    @property
    def blocked(self) -> list[date]:
        """The partitions that the quality gate kept from being replaced."""
        return [day for day, ledger in self.ledgers.items() if ledger.blocked]


def clean_days(lake: Lake, stream: Stream, days: Sequence[date], *, run_id: str = "") -> SilverResult:
    """Compute silver and quarantine of these event dates from bronze and commit both.

    If a partition's share of valid rows is below the contract's threshold, the quality gate blocks its worst landing
    objects: their valid rows go to quarantine with that reason. A partition whose objects are all blocked is blocked:
    silver keeps what it held. Raises CommitConflictError when other writers keep committing to these partitions first.
    """
    return retry_on_conflict(lambda: _clean(lake, stream, sorted(set(days)), run_id))


def _clean(lake: Lake, stream: Stream, days: Sequence[date], run_id: str) -> SilverResult:
    tables = GroupTables(*(lake.tables.load(f"{layer}.{stream.name}") for layer in ("bronze", "silver", "quarantine")))
    reopened = _reopened_days(stream, tables.quarantine, days)
    sources = {f"bronze.{stream.name}": sequence_of(tables.bronze), **stream.definition.sources}
    packed = stream.packed("silver")
    by_group = [*_groups(tables.bronze, days)]
    read = [file for files in by_group for of_day in files.values() for file in of_day]
    passed = passed_columns(packed, sum(file.record_count for file in read))
    groups = [Group(packed, tables, files, passed) for files in by_group]
    workers = lake.workers(stream, lambda: sum(file.file_size_in_bytes for file in read))
    done = Cleaned()
    with discarded_on_failure(lake.connection) as uploaded:
        for part in _clean_groups(lake, workers, groups):
            done.add(part)
            uploaded += part.uploaded
        outcomes = _compare_engines(lake, workers, groups, done)
        early = _upload_missing(lake, tables.quarantine, done.quarantine, reopened)
        uploaded += early
    files = done.files
    ledgers = {day: files.ledgers.get(day, Ledger()) for day in days}
    counts = {day: ledger.as_counts() | shadow_engine.counted(outcomes, day) for day, ledger in ledgers.items()}
    replaced = [day for day in days if not ledgers[day].blocked]
    commit = partial(commit_days, lake, sources=sources, run_id=run_id, counts=counts)
    commit_quarantine = partial(commit, tables.quarantine, files.quarantine, done.quarantine, days)
    commit_silver = partial(commit, tables.silver, files.silver, done.silver, replaced)
    # A row must be in one of the two tables at every moment, also if the process dies between two commits. It only leaves
    # quarantine on reopened days. There, quarantine first gains what silver loses, and last loses what silver has gained.
    # It gains no row that it holds, because a run that dies between two commits may be the last one for a long time.
    if not reopened:
        quarantine = commit_quarantine()
        return SilverResult(ledgers, commit_silver(), quarantine)
    if early:
        commit_files(
            lake, tables.quarantine, early, partitions_filter("dt", sorted(reopened)), ledger={}, run_id=run_id
        )
    silver = commit_silver()
    return SilverResult(ledgers, silver, commit_quarantine())


def _reopened_days(stream: Stream, quarantine: Table, days: Sequence[date]) -> set[date]:
    """Select the days on which rows may leave quarantine: the contract has changed, or the gate had held rows."""
    return redefined_days(quarantine, stream.definition, days) | (days_with_held_rows(quarantine) & set(days))


def _upload_missing(lake: Lake, quarantine: Table, files: Sequence[DataFile], days: set[date]) -> list[DataFile]:
    """Upload those rows of new quarantine files, of these days, that quarantine does not hold."""
    position = partition_position(quarantine.spec(), "dt")
    urls = [file.file_path for file in files if date_from_days(file.partition[position]) in days]
    if not urls:
        return []
    held = f"select dt, _object, _row from {scan_sql(quarantine)} where {days_filter(sorted(days))}"
    select = f"from {read_sql(urls)} anti join ({held}) as held using (dt, _object, _row)"
    with lake.engine.scratch() as folder, lake.engine.cursor() as cursor:
        return upload(lake.connection, quarantine, copy_to_files(cursor, select, quarantine, folder, name="missing"))


def _clean_groups(lake: Lake, workers: Workers, groups: Sequence[Group]) -> Iterator[Cleaned]:
    """Clean groups, those in pieces that are too large for one worker."""
    pieces = [pieces_of(workers, group) for group in groups]
    yield from workers.spread(clean_group, [group for group, number in zip(groups, pieces, strict=True) if number == 1])
    for group, number in zip(groups, pieces, strict=True):
        if number > 1:
            yield from clean_in_pieces(workers, lake.connection, group, number)


def _compare_engines(
    lake: Lake, workers: Workers, groups: Sequence[Group], done: Cleaned
) -> dict[date, shadow_engine.Outcome]:
    """Clean a share of the days on the other engine too, each by itself, and compare silver and quarantine."""
    by_day = {day: group for group in groups for day in group.files}
    if not by_day:
        return {}
    tables = groups[0].tables
    days = shadow_engine.shadowed(lake, tables.bronze, by_day)

    def clean() -> list[shadow_engine.Written]:
        alone = [replace(by_day[day], files={day: by_day[day].files[day]}) for day in days]
        other = Cleaned()
        for part in _clean_groups(lake, lake.other_workers(workers), alone):
            other.add(part)
        return [(tables.silver, other.silver), (tables.quarantine, other.quarantine)]

    ours = [(tables.silver, done.silver), (tables.quarantine, done.quarantine)]
    return shadow_engine.compare(lake, days, ours, clean)


def _groups(bronze: Table, days: Sequence[date]) -> Iterator[dict[date, list[DataFile]]]:
    """Group the days that bronze has rows of, with their files, as its manifests list them."""
    files: dict[date, list[DataFile]] = {}
    position = partition_position(bronze.spec(), "dt")
    for data_file in select_files(bronze, partitions_filter("dt", days)):
        day = date_from_days(data_file.partition[position])
        files.setdefault(day, []).append(data_file)
    group: dict[date, list[DataFile]] = {}
    for day, of_day in sorted(files.items()):
        if group and exceeds([*group.values(), of_day], MAX_GROUP_ROWS, MAX_GROUP_BYTES):
            yield group
            group = {}
        group[day] = of_day
    if group:
        yield group
