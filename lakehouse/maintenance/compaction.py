"""Compaction: rewrite the many small files of a partition as few files of 128 to 512 MiB, most beneficial groups first.

Rewritten rows keep their sequence numbers, so nothing becomes stale. Compaction yields to writers: it skips partitions
that were written in the last minutes, and when a concurrent commit wins, it discards its own files.
"""

import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import count
from pathlib import Path

import pyarrow.parquet as pq
from pyiceberg.manifest import DataFile, ManifestEntry
from pyiceberg.table import Table
from pyiceberg.types import DateType

from lakehouse.contracts.sql import literal, quote
from lakehouse.engine.connection import columns_of, copy_to_files, describe
from lakehouse.errors import CommitConflictError, LakehouseError
from lakehouse.maintenance.file_changes import FileChanges
from lakehouse.pipeline.lake import Lake
from lakehouse.storage.iceberg.catalog import qualified_name
from lakehouse.storage.iceberg.commit import discard, upload
from lakehouse.storage.iceberg.manifests import has_delete_files, live_entries
from lakehouse.storage.iceberg.partitions import NewFile, PartitionValue, date_from_days
from lakehouse.storage.iceberg.replace import replace_files

SMALL_FILE_BYTES = 128 << 20
MAX_FILE_BYTES = 512 << 20
MIN_FILES = 4
"""A group of this many files is always worth rewriting."""

QUIET_PERIOD = timedelta(minutes=15)
"""Partitions written more recently are left to their writers."""

FILE_OPEN_COST_BYTES = 1 << 20
"""Bytes that could be rewritten in the time one more file costs every reader."""

MAX_GROUPS_PER_COMMIT = 64
MAX_BYTES_PER_COMMIT = 1 << 30
MERGE_THREADS = 4
"""Requesting small files takes longer than reading them. All threads share the engine's memory."""

MAX_ATTEMPTS = 3


@dataclass(slots=True)
class Budget:
    """Limit the work of one maintenance run. The next run does what this one leaves."""

    bytes: int = 16 << 30
    """Bytes that may still be rewritten."""
    seconds: float = 3600.0
    """Time after `started` from which no new work begins."""
    started: float = field(default_factory=time.monotonic)

    @property
    def is_left(self) -> bool:
        """Whether more work may begin."""
        return self.bytes > 0 and time.monotonic() - self.started < self.seconds

    def spend(self, size: int) -> None:
        """Subtract `size` bytes."""
        self.bytes -= size


@dataclass(frozen=True, slots=True)
class Group:
    """Small files of one partition that are merged into one."""

    partition: tuple[PartitionValue, ...]
    entries: tuple[ManifestEntry, ...]

    @property
    def files(self) -> list[DataFile]:
        """Data files of the group."""
        return [entry.data_file for entry in self.entries]

    @property
    def size(self) -> int:
        """Total bytes."""
        return sum(file.file_size_in_bytes for file in self.files)

    @property
    def sequence(self) -> int:
        """Sequence number of the newest rows."""
        return max(entry.sequence_number or 0 for entry in self.entries)

    @property
    def benefit(self) -> float:
        """Files saved per byte to read and write."""
        return (len(self.entries) - 1) / (self.size + FILE_OPEN_COST_BYTES * len(self.entries))

    @property
    def is_worth_it(self) -> bool:
        """Whether to rewrite the group: many files, or a few of which none holds most of the bytes.

        The second condition keeps the same rows from being rewritten every day.
        """
        return len(self.entries) >= MIN_FILES or (
            len(self.entries) > 1 and 2 * max(file.file_size_in_bytes for file in self.files) <= self.size
        )


def plan(table: Table, *, quiet: timedelta = QUIET_PERIOD, now: datetime | None = None) -> list[Group]:
    """Plan which files to merge. The groups that save most files per rewritten byte come first."""
    if has_delete_files(table):
        return []  # rewriting would bring back rows that another program deleted by position
    recent = _recent_snapshots(table, (now or datetime.now(UTC)) - quiet)
    by_partition: dict[tuple[PartitionValue, ...], list[ManifestEntry]] = defaultdict(list)
    for entry in live_entries(table):
        if entry.data_file.spec_id == table.spec().spec_id:
            by_partition[_values(table, entry.data_file)].append(entry)
    groups = [
        group
        for partition, entries in by_partition.items()
        if not any(entry.snapshot_id in recent for entry in entries)
        for group in _groups(partition, entries)
    ]
    return sorted((group for group in groups if group.is_worth_it), key=lambda group: -group.benefit)


def compact(
    lake: Lake, name: str, budget: Budget, *, quiet: timedelta = QUIET_PERIOD, dry_run: bool = False
) -> FileChanges:
    """Compact a table as far as the budget allows.

    Raises LakehouseError if a rewritten file does not hold as many rows as its sources; the table is then unchanged.
    """
    removed = added = size = 0
    for _ in range(MAX_ATTEMPTS):
        table = lake.tables.load(name)
        skipped = 0
        for batch in _batches(plan(table, quiet=quiet), budget):
            files = sum(len(group.entries) for group in batch)
            if not dry_run and not _rewrite(lake, name, batch):
                skipped += files
                continue
            removed, added, size = removed + files, added + len(batch), size + sum(group.size for group in batch)
        if not skipped:
            break
    return FileChanges(name, removed=removed, added=added, bytes=size, skipped=skipped)


def _batches(groups: Iterable[Group], budget: Budget) -> Iterator[list[Group]]:
    batch: list[Group] = []
    for group in groups:
        if not budget.is_left:
            break
        budget.spend(group.size)
        batch.append(group)
        if len(batch) == MAX_GROUPS_PER_COMMIT or sum(group.size for group in batch) >= MAX_BYTES_PER_COMMIT:
            yield batch
            batch = []
    if batch:
        yield batch


def _rewrite(lake: Lake, name: str, batch: Sequence[Group]) -> bool:
    """Rewrite and commit a batch. Return False if a concurrent commit replaced one of its partitions."""
    table = lake.tables.load(name)
    with lake.engine.scratch() as folder:
        with ThreadPoolExecutor(MERGE_THREADS, thread_name_prefix="compact") as pool:
            names = (f"g{number}" for number in count())
            files = list(pool.map(partial(_merge, lake, table, folder), batch, names))
        added = upload(lake.connection, table, files)
        sequences = {data_file: group.sequence for data_file, group in zip(added, batch, strict=True)}
        try:
            replace_files(table, sequences, [file for group in batch for file in group.files])
        except CommitConflictError:
            discard(lake.connection, added)
            return False
    return True


def _merge(lake: Lake, table: Table, folder: Path, group: Group, name: str) -> NewFile:
    paths = ", ".join(literal(file.file_path) for file in group.files)
    scan = f"read_parquet([{paths}], union_by_name = true, hive_partitioning = false)"
    with lake.engine.cursor() as cursor:
        present = {column for column, _ in describe(cursor, f"from {scan}")}
        # Older files lack columns that were added later, and may hold decimals of a smaller precision.
        columns = ", ".join(
            f"{quote(column) if column in present else 'null'}::{sql_type} as {quote(column)}"
            for column, sql_type in columns_of(table)
        )
        merged = copy_to_files(
            cursor, f"select {columns} from {scan}", table, folder, name=name, partition=group.partition
        )
    rows = sum(pq.read_metadata(file.path).num_rows for file in merged)
    expected = sum(file.record_count for file in group.files)
    if rows != expected or not merged:
        raise LakehouseError(
            f"{qualified_name(table)}: the files of partition {group.partition} hold {rows} rows, but their manifest says "
            f"{expected}. Nothing was changed. Find out what is wrong with: lakehouse audit"
        )
    return merged[0]


def _groups(partition: tuple[PartitionValue, ...], entries: Iterable[ManifestEntry]) -> Iterator[Group]:
    members: list[ManifestEntry] = []
    size = 0
    small = (entry for entry in entries if entry.data_file.file_size_in_bytes < SMALL_FILE_BYTES)
    for entry in sorted(small, key=lambda entry: (entry.sequence_number or 0, entry.data_file.file_path)):
        if size + entry.data_file.file_size_in_bytes > MAX_FILE_BYTES:
            yield Group(partition, tuple(members))
            members, size = [], 0
        members.append(entry)
        size += entry.data_file.file_size_in_bytes
    if members:
        yield Group(partition, tuple(members))


def _recent_snapshots(table: Table, since: datetime) -> set[int]:
    since_ms = since.timestamp() * 1000
    return {snapshot.snapshot_id for snapshot in table.metadata.snapshots if snapshot.timestamp_ms > since_ms}


def _values(table: Table, data_file: DataFile) -> tuple[PartitionValue, ...]:
    """Return the partition values as Python values. Iceberg stores a date as a number of days."""
    values: list[PartitionValue] = []
    for position, part in enumerate(table.spec().fields):
        value = data_file.partition[position]
        is_date = isinstance(table.schema().find_field(part.source_id).field_type, DateType)
        values.append(date_from_days(value) if is_date else value)
    return tuple(values)
