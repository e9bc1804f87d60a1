"""Compaction: the many small files of a partition become few of 128 to 512 MiB, those first where it helps most.

The rows keep their sequence numbers, so nothing is computed again because of it. It gives way: partitions written a
moment ago are left alone, and where a writer was first its work stands and ours is thrown away.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
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
from lakehouse.maintenance.budget import Budget
from lakehouse.pipeline.lake import Lake
from lakehouse.storage.iceberg.commit import discard, upload
from lakehouse.storage.iceberg.data_file import NewFile, Value
from lakehouse.storage.iceberg.manifests import has_deletes
from lakehouse.storage.iceberg.replace import live_entries, replace_files
from lakehouse.storage.iceberg.snapshots import EPOCH

SMALL = 128 << 20
LARGE = 512 << 20
MANY = 4
QUIET = timedelta(minutes=15)
"""A partition that was written since is its writers'."""

OPENING = 1 << 20
"""Bytes that could be rewritten in the time that one more file costs whoever reads them."""

GROUPS_A_COMMIT = 64
BYTES_A_COMMIT = 1 << 30
MERGED_AT_ONCE = 4
"""Small files take longer to ask for than to read. The engine's memory is one for all."""

ATTEMPTS = 3


@dataclass(frozen=True, slots=True)
class Group:
    """Small files of one partition that become one."""

    partition: tuple[Value, ...]
    entries: tuple[ManifestEntry, ...]

    @property
    def files(self) -> list[DataFile]:
        """The files."""
        return [entry.data_file for entry in self.entries]

    @property
    def size(self) -> int:
        """Bytes of all of them."""
        return sum(file.file_size_in_bytes for file in self.files)

    @property
    def sequence(self) -> int:
        """The sequence number of the newest rows among them."""
        return max(entry.sequence_number or 0 for entry in self.entries)

    @property
    def benefit(self) -> float:
        """Files less, for what has to be read and written."""
        return (len(self.entries) - 1) / (self.size + OPENING * len(self.entries))

    @property
    def is_worth_it(self) -> bool:
        """Many files; or few of which none holds most of the bytes, so that the same rows are not rewritten daily."""
        return len(self.entries) >= MANY or (
            len(self.entries) > 1 and 2 * max(file.file_size_in_bytes for file in self.files) <= self.size
        )


@dataclass(frozen=True, slots=True)
class Compacted:
    """What compaction did to a table; `skipped` files were left because a writer was first."""

    table: str
    files_before: int = 0
    files_after: int = 0
    bytes: int = 0
    skipped: int = 0


def plan(table: Table, *, quiet: timedelta = QUIET, now: datetime | None = None) -> list[Group]:
    """The groups of files to put together, those first that save most files for the bytes to be rewritten."""
    if has_deletes(table):
        return []  # rows that another program deleted by position would come back
    recent = _recent_snapshots(table, (now or datetime.now(UTC)) - quiet)
    by_partition: dict[tuple[Value, ...], list[ManifestEntry]] = defaultdict(list)
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


def compact(lake: Lake, name: str, budget: Budget, *, quiet: timedelta = QUIET, dry_run: bool = False) -> Compacted:
    """Compact a table as far as the budget goes. Raises LakehouseError when the new files would not hold the same rows."""
    before = after = size = 0
    for _ in range(ATTEMPTS):
        table = lake.tables.load(name)
        lost = 0
        for batch in _batches(plan(table, quiet=quiet), budget):
            count, took = sum(len(group.entries) for group in batch), sum(group.size for group in batch)
            if not dry_run and not _rewrite(lake, name, batch):
                lost += count
                continue
            before, after, size = before + count, after + len(batch), size + took
        if not lost:
            break
    return Compacted(name, before, after, size, lost)


def _batches(groups: Iterable[Group], budget: Budget) -> Iterator[list[Group]]:
    batch: list[Group] = []
    for group in groups:
        if not budget.is_left:
            break
        budget.spend(group.size)
        batch.append(group)
        if len(batch) == GROUPS_A_COMMIT or sum(one.size for one in batch) >= BYTES_A_COMMIT:
            yield batch
            batch = []
    if batch:
        yield batch


def _rewrite(lake: Lake, name: str, batch: Sequence[Group]) -> bool:
    """Whether the batch was committed; False when one of its partitions was replaced meanwhile."""
    table = lake.tables.load(name)
    with lake.engine.scratch() as folder:
        with ThreadPoolExecutor(MERGED_AT_ONCE, thread_name_prefix="compact") as pool:
            names = (f"g{number}" for number in count())
            files = list(pool.map(partial(_merged, lake, table, folder), batch, names))
        added = upload(lake.connection, table, files)
        sequences = {data_file: group.sequence for data_file, group in zip(added, batch, strict=True)}
        try:
            replace_files(table, sequences, [file for group in batch for file in group.files])
        except CommitConflictError:
            discard(lake.connection, added)
            return False
    return True


def _merged(lake: Lake, table: Table, folder: Path, group: Group, name: str) -> NewFile:
    paths = ", ".join(literal(file.file_path) for file in group.files)
    scan = f"read_parquet([{paths}], union_by_name = true, hive_partitioning = false)"
    with lake.engine.cursor() as cursor:
        present = {column for column, _ in describe(cursor, f"from {scan}")}
        # A column that the table gained later is in the newer files only, a decimal may have had fewer digits.
        columns = ", ".join(
            f"{quote(column) if column in present else 'null'}::{sql_type} as {quote(column)}"
            for column, sql_type in columns_of(table)
        )
        found = copy_to_files(
            cursor, f"select {columns} from {scan}", table, folder, name=name, partition=group.partition
        )
    rows = sum(pq.read_metadata(file.path).num_rows for file in found)
    expected = sum(file.record_count for file in group.files)
    if rows != expected or not found:
        raise LakehouseError(
            f"{'.'.join(table.name())}: files of partition {group.partition} hold {rows} rows where their manifest says "
            f"{expected}; nothing was changed. `lakehouse audit` says what is wrong."
        )
    return found[0]


def _groups(partition: tuple[Value, ...], entries: Iterable[ManifestEntry]) -> Iterator[Group]:
    held: list[ManifestEntry] = []
    size = 0
    small = (entry for entry in entries if entry.data_file.file_size_in_bytes < SMALL)
    for entry in sorted(small, key=lambda entry: (entry.sequence_number or 0, entry.data_file.file_path)):
        if size + entry.data_file.file_size_in_bytes > LARGE:
            yield Group(partition, tuple(held))
            held, size = [], 0
        held.append(entry)
        size += entry.data_file.file_size_in_bytes
    if held:
        yield Group(partition, tuple(held))


def _recent_snapshots(table: Table, since: datetime) -> set[int]:
    moment = since.timestamp() * 1000
    return {snapshot.snapshot_id for snapshot in table.metadata.snapshots if snapshot.timestamp_ms > moment}


def _values(table: Table, data_file: DataFile) -> tuple[Value, ...]:
    """The partition's values as they are written in Python; Iceberg keeps a date as a number of days."""
    found: list[Value] = []
    for position, field in enumerate(table.spec().fields):
        value = data_file.partition[position]
        is_date = isinstance(table.schema().find_field(field.source_id).field_type, DateType)
        found.append(EPOCH + timedelta(days=value) if is_date else value)
    return tuple(found)
