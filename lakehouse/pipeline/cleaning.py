"""Clean groups of days on a worker, and upload their files. See `day_groups` for how a group is computed."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from itertools import chain

import duckdb
from pyiceberg.manifest import DataFile

from lakehouse.contracts.columns import passed_through
from lakehouse.contracts.streams import Stream
from lakehouse.engine.connection import DuckDB
from lakehouse.engine.reader import Stored
from lakehouse.pipeline.day_groups import DayGroup, GroupFiles, GroupTables, input_columns
from lakehouse.pipeline.in_memory_group import InMemoryGroup
from lakehouse.pipeline.spilling_group import SpillingGroup
from lakehouse.storage.iceberg.commit import Uploads

MAX_ROWS_IN_MEMORY = 2_000_000
MAX_BYTES_IN_MEMORY = 64 << 20
"""Files whose rows, or bytes, exceed this are not read into memory."""


MIN_ROWS_TO_PRUNE_COLUMNS = 50_000
"""With fewer rows, finding out which columns a stream's SQL passes through takes longer than computing all of them."""


@dataclass(frozen=True, slots=True)
class Group:
    """Days to clean together, with their bronze files."""

    stream: Stream
    tables: GroupTables
    files: Mapping[date, Sequence[Stored]]
    passed: Collection[str] = ()
    """Columns that the stream's SQL passes through; see `enrichment`."""
    piece: bool = False
    """Whether the files are a piece of their day; see `cut_days`."""

    @property
    def is_large(self) -> bool:
        """Whether the group is not read into memory. It is one day, because other groups are smaller."""
        return exceeds(self.files.values(), MAX_ROWS_IN_MEMORY, MAX_BYTES_IN_MEMORY)

    def on(self, engine: DuckDB, cursor: duckdb.DuckDBPyConnection) -> DayGroup:
        """Prepare the group on a cursor of a worker's database."""
        kind = SpillingGroup if self.is_large else InMemoryGroup
        return kind(
            engine.connection, cursor, self.stream, self.tables, self.files, passed=self.passed, piece=self.piece
        )


@dataclass(frozen=True, slots=True)
class Cleaned:
    """The files and ledgers of days, with what was uploaded for each table."""

    files: GroupFiles = field(default_factory=GroupFiles)
    silver: list[DataFile] = field(default_factory=list)
    quarantine: list[DataFile] = field(default_factory=list)

    @property
    def uploaded(self) -> list[DataFile]:
        """All uploaded files."""
        return [*self.silver, *self.quarantine]

    def add(self, other: "Cleaned") -> None:
        """Add what became of other days, or of other pieces of the same days."""
        self.files.add(other.files)
        self.silver.extend(other.silver)
        self.quarantine.extend(other.quarantine)


def passed_columns(stream: Stream, rows: int) -> Collection[str]:
    """Find the columns that a stream's SQL passes through, where a run has enough rows. Workers can't, without sqlglot."""
    if rows < MIN_ROWS_TO_PRUNE_COLUMNS:
        return ()
    return passed_through(stream.sql("silver"), "valid", tuple(input_columns(stream.contract)))


def clean_group(engine: DuckDB, group: Group) -> Cleaned:
    """Clean a group, and upload its files."""
    with engine.scratch() as folder:
        # Temporary tables live and die with the cursor.
        with engine.cursor() as cursor:
            files = group.on(engine, cursor).write(folder)
        return upload_files(engine, group, files)


def upload_files(engine: DuckDB, group: Group, files: GroupFiles) -> Cleaned:
    """Upload the files of a group."""
    connection, tables = engine.connection, group.tables
    with Uploads(connection, tables.quarantine) as quarantine, Uploads(connection, tables.silver) as silver:
        quarantine.add(files.quarantine)
        silver.add(files.silver)
        return Cleaned(files, silver.result(), quarantine.result())


def exceeds(files: Iterable[Sequence[Stored]], rows: int, size: int) -> bool:
    """Return whether files have more rows, or more bytes, than these."""
    every = [*chain.from_iterable(files)]
    return sum(file.record_count for file in every) > rows or sum(file.file_size_in_bytes for file in every) > size
