"""Clean a group of days: type, validate and de-duplicate their bronze rows, and write silver and quarantine files.

Nearly all rows are valid and have a key that no other row of their day has. A group sets those apart as clean, and only
the rest, the suspects, are compared with each other. `in_memory_group` and `spilling_group` are the two ways to hold the
clean rows.
"""

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any, cast

import duckdb
import pyarrow.parquet as pq
from pyiceberg.table import Table

from lakehouse.contracts.model import Contract
from lakehouse.contracts.sql import clean_sql, latest_sql, literal, quarantine_sql, quote, raw_sql
from lakehouse.contracts.streams import Stream
from lakehouse.engine.connection import copy_to_files, read_sql, scan_sql
from lakehouse.engine.filters import days_filter
from lakehouse.engine.partition_writer import write_partitions
from lakehouse.engine.reader import Stored
from lakehouse.pipeline.file_names import FILE_COLUMN, file_sql
from lakehouse.pipeline.ledger import Ledger
from lakehouse.pipeline.open_rows import replaced_sql
from lakehouse.pipeline.quality_gate import BlockedObjects, ObjectRows, find_blocked
from lakehouse.storage.iceberg.partitions import NewFile
from lakehouse.storage.objects.connection import Connection


@dataclass(frozen=True, slots=True)
class GroupTables:
    """The stream's tables as loaded."""

    bronze: Table
    silver: Table
    quarantine: Table


@dataclass(frozen=True, slots=True)
class Held:
    """The outcome of the quality gate for the valid rows of blocked objects."""

    duplicates: Counter[date] = field(default_factory=Counter)
    kept: dict[date, int] = field(default_factory=dict)
    """How many rows silver keeps of the days on which all objects are blocked."""
    blocked: Collection[date] = ()
    """The days whose silver rows stay as they are."""


@dataclass(frozen=True, slots=True)
class Split:
    """How many rows of each day landed, are valid and are duplicates, and what the quality gate does."""

    landed: Mapping[date, int]
    valid: Mapping[date, int]
    duplicates: Mapping[date, int]
    objects: Mapping[date, BlockedObjects]
    held: Held
    any_broken: bool
    """Whether there are rows for quarantine."""


@dataclass(slots=True)
class GroupFiles:
    """The files that were written for some days, and the days' ledgers."""

    silver: list[NewFile] = field(default_factory=list)
    quarantine: list[NewFile] = field(default_factory=list)
    ledgers: dict[date, Ledger] = field(default_factory=dict)

    def add(self, group: "GroupFiles") -> None:
        """Add those of another group, or of another piece of the same days."""
        self.silver += group.silver
        self.quarantine += group.quarantine
        for day, ledger in group.ledgers.items():
            self.ledgers[day] = self.ledgers[day] + ledger if day in self.ledgers else ledger


class DayGroup(ABC):
    """Some days on a cursor of their own.

    The steps make these relations, each from the ones before it: `bronze`, `suspects` and `clean`, `candidates` (suspects
    that are valid), `latest` (the newest candidate of each key), `survivors` (clean rows and `latest`), `broken` (rows for
    quarantine). Where the quality gate blocks objects, `latest` and `survivors` are made without their rows.
    """

    def __init__(
        self,
        connection: Connection,
        cursor: duckdb.DuckDBPyConnection,
        stream: Stream,
        tables: GroupTables,
        files: Mapping[date, Sequence[Stored]],
        *,
        passed: Collection[str] = (),
        piece: bool = False,
    ) -> None:
        """Take all bronze files of the days, or with `piece` the files of a piece of each, which the gate has passed.

        `passed` are the columns that the stream's SQL passes through; see `enrichment`.
        """
        self.passed, self.piece = passed, piece
        self.connection, self.cursor, self.stream, self.contract = connection, cursor, stream, stream.contract
        self.tables, self.files, self.days = tables, files, list(files)
        self.keys = ", ".join(map(quote, self.contract.key))
        self.inputs = input_columns(self.contract)
        self.columns = [*self.inputs, "_object", "_row"]
        self.clean, self.candidates = "clean", "candidates"
        """The clean rows and candidates that the gate passes, as SQL."""

    @abstractmethod
    def _find_suspects(self) -> None:
        """Split bronze into clean rows and `suspects`."""

    @abstractmethod
    def _make_survivors(self) -> None:
        """Make `survivors` of the clean rows and `latest`."""

    @abstractmethod
    def _count_clean(self) -> dict[date, int]:
        """Count the clean rows of each day."""

    @abstractmethod
    def _write_silver(self, days: Sequence[date], folder: Path, name: str) -> list[NewFile]:
        """Write what the stream's SQL makes of the survivors of these days."""

    def write(self, folder: Path) -> GroupFiles:
        """Write the group's files under `folder` and count its ledgers."""
        split = self.split()
        held = split.held
        files = GroupFiles(
            silver=self._write_silver([day for day in self.days if day not in held.kept], folder / "silver", "group"),
            quarantine=self.write_quarantine(split, folder),
        )
        changed = [day for day in held.kept if day not in held.blocked]
        select = f"from kept where {days_filter(changed)}"
        files.silver += self._copy(select, self.tables.silver, changed, folder / "silver", "kept")
        files.ledgers = self.ledgers(split, files.quarantine, held.kept | count_rows(files.silver))
        return files

    def split(self) -> Split:
        """Make `survivors` and `broken` of the group's bronze rows."""
        self._make("view bronze", f"from {self._bronze_sql()} where {days_filter(self.days)}")
        self._find_suspects()
        self._make("table candidates", f"select * from ({clean_sql(self.contract, 'suspects')}) where _valid")
        landed, valid = self._count_landed(), self._count_valid()
        objects = {} if self.piece else self._block_objects(landed, valid)
        duplicates = self._drop_duplicates()
        self._make_survivors()
        if any_broken := any(valid[day] < landed[day] for day in self.days):
            duplicates.update(self._make_broken())
        held = self._hold_rows(objects) if objects else Held()
        duplicates.update(held.duplicates)
        return Split(landed, valid, duplicates, objects, held, any_broken)

    def write_quarantine(self, split: Split, folder: Path) -> list[NewFile]:
        """Write the rows for quarantine under `folder`."""
        if not split.any_broken:
            return []
        return self._copy("from broken", self.tables.quarantine, self.days, folder / "quarantine", "group")

    def ledgers(self, split: Split, quarantine: Sequence[NewFile], silver: Mapping[date, int]) -> dict[date, Ledger]:
        """Return the ledger of each day, given how many rows of it silver has."""
        quarantined = count_rows(quarantine)
        return {
            day: Ledger(
                landed=split.landed[day],
                valid=split.valid[day],
                silver=silver.get(day, 0),
                quarantined=quarantined.get(day, 0),
                duplicates=split.duplicates[day],
                blocked=day in split.held.blocked,
                blocked_objects=split.objects.get(day, {}),
            )
            for day in self.days
        }

    def _bronze_sql(self) -> str:
        """Write the FROM item with the group's bronze rows."""
        if not self.piece:
            return scan_sql(self.tables.bronze)
        return read_sql(file.file_path for files in self.files.values() for file in files)

    def _block_objects(self, landed: Mapping[date, int], valid: Mapping[date, int]) -> dict[date, BlockedObjects]:
        """Find the objects that the quality gate blocks, and take their rows out of what passes it."""
        threshold = self.contract.quality_threshold
        days = [day for day in self.days if 0 < valid[day] < landed[day] * threshold]
        if not days:
            return {}
        objects: dict[date, BlockedObjects] = {
            day: blocked
            for day, rows in self._count_by_object(days).items()
            if (blocked := find_blocked(rows, threshold))
        }
        if objects:
            pairs = ", ".join(f"(date '{day}', {literal(key)})" for day, blocked in objects.items() for key in blocked)
            self._make("table blocked", f"from (values {pairs}) as blocked(dt, _object)")
            self.clean, self.candidates = (
                f"(from {rows} anti join blocked using (dt, _object))" for rows in (self.clean, self.candidates)
            )
        return objects

    def _count_by_object(self, days: Sequence[date]) -> dict[date, dict[str, ObjectRows]]:
        """Count the rows of each object on these days, without those that corrected rows replace."""
        counts = self._query(f"""with broken as (
              from suspects anti join candidates using (_object, _row) where {days_filter(days)}
            ),
            rejected as (
              select dt, _object, count(*) as rejected, count(replaced.object) as replaced
              from broken
              left join (select distinct * from ({replaced_sql(self.stream, "bronze")})) as replaced
                on broken._object = replaced.object and broken._row = replaced.row
              group by dt, _object
            )
            select dt, _object, count(*), coalesce(any_value(rejected), 0), coalesce(any_value(replaced), 0)
            from bronze
            left join rejected using (dt, _object)
            where {days_filter(days)}
            group by dt, _object""")
        by_day: dict[date, dict[str, ObjectRows]] = {}
        for day, key, rows, rejected, replaced in counts:
            by_day.setdefault(day, {})[key] = ObjectRows(rows - rejected, rows - replaced)
        return by_day

    def _count_landed(self) -> dict[date, int]:
        return {day: sum(file.record_count for file in files) for day, files in self.files.items()}

    def _count_valid(self) -> dict[date, int]:
        candidates = dict(self._query("select dt, count(*) from candidates group by dt"))
        clean = self._count_clean()
        return {day: clean.get(day, 0) + candidates.get(day, 0) for day in self.days}

    def _drop_duplicates(self) -> Counter[date]:
        """Make `latest`; returns how many duplicates each day has."""
        columns = ", ".join(map(quote, self.columns))
        self._make("table latest", f"select {columns} from ({latest_sql(self.contract.key, self.candidates)})")
        return self._count_dropped(self.candidates, "latest")

    def _make_broken(self) -> Counter[date]:
        """Make `broken`, where equal rows are once; returns how many duplicates each day has.

        Unreadable rows all stay, because they have no key that could make two of them one event.
        """
        self._make("view wanting", "from suspects anti join candidates using (_object, _row)")
        self._make("table refused", quarantine_sql(self.contract, "wanting"))
        files = (
            f"select _object, any_value({file_sql(self.tables.bronze)}) as {FILE_COLUMN} from wanting group by _object"
        )
        self._make(
            "table broken",
            f"""select dt, raw, reasons, _object, _row, _arrived_at, {FILE_COLUMN}
            from refused
            left join ({files}) using (_object)
            qualify _defect is not null or row_number() over (
              partition by dt, raw, _defect is null
              order by _arrived_at desc, _object desc, _row desc
            ) = 1""",
        )
        return self._count_dropped("refused", "broken")

    def _hold_rows(self, objects: Mapping[date, BlockedObjects]) -> Held:
        """Add to `broken` the valid rows of blocked objects, unless silver has their keys.

        On a day without another object silver keeps what it holds of these rows, in `kept`.
        """
        columns = ", ".join(map(quote, self.columns))
        valid = f"(select {columns} from clean union all select {columns} from candidates)"
        self._make("table stopped", f"from {valid} semi join blocked using (dt, _object)")
        self._make("table newest", latest_sql(self.contract.key, "stopped"))
        passed = {day for (day,) in self._query("select distinct dt from survivors")}
        whole = days_filter(day for day in objects if day not in passed)
        self._make("view former", f"from {scan_sql(self.tables.silver)} where {whole}")
        self._make("table kept", f"from former semi join newest on {self._same_key('former', 'newest')}")
        reason = literal(f"held back: under {self.contract.quality_threshold:.0%} of this partition's rows are valid")
        self.cursor.execute(f"""insert into broken
            select dt, {raw_sql(self.contract)}, [{reason}], _object, _row, _arrived_at, {file_sql(self.tables.bronze)}
            from bronze
            semi join (
              from newest
              anti join survivors on {self._same_key("newest", "survivors")}
              anti join kept on {self._same_key("newest", "kept")}
            ) as held using (dt, _object, _row)""")
        duplicates = self._count_dropped("stopped", "newest")
        duplicates.update(self._count(f"(from newest semi join survivors on {self._same_key('newest', 'survivors')})"))
        kept, former = self._count("kept"), self._count("former")
        days = [day for day in objects if day not in passed]
        return Held(duplicates, {day: kept[day] for day in days}, {day for day in days if kept[day] == former[day]})

    def _same_key(self, left: str, right: str) -> str:
        """Generate the condition that rows of two relations are of one day and have one key."""
        names = map(quote, ("dt", *self.contract.key))
        return " and ".join(f"{left}.{name} is not distinct from {right}.{name}" for name in names)

    def _copy(self, select: str, table: Table, days: Sequence[date], folder: Path, name: str) -> list[NewFile]:
        """Write the rows of a SELECT, which are of these days."""
        if not days:
            return []
        folder.mkdir(exist_ok=True)
        if len(days) == 1:  # may be too large for memory
            return copy_to_files(self.cursor, select, table, folder, name=name, partition=(days[0],))
        return write_partitions(self.cursor.execute(select).to_arrow_table(), table, folder, name)

    def _count_dropped(self, table: str, kept: str) -> Counter[date]:
        """Count, by day, the rows of a table that are not in the one that was made of it."""
        return Counter(
            dict(
                self._query(f"""select dt, sum(rows)::bigint
                    from (select dt, 1 as rows from {table} union all select dt, -1 from {kept})
                    group by dt""")
            )
        )

    def _count(self, table: str) -> Counter[date]:
        return Counter(dict(self._query(f"select dt, count(*) from {table} group by dt")))

    def _make(self, relation: str, select: str) -> None:
        self.cursor.execute(f"create temp {relation} as {select}")

    def _query(self, select: str) -> list[tuple[Any, ...]]:
        return self.cursor.execute(select).fetchall()


def input_columns(contract: Contract) -> list[str]:
    """List the columns that a stream's silver SQL reads."""
    return [*(field.name for field in contract.fields), "dt", "_arrived_at"]


def count_rows(files: Sequence[NewFile]) -> dict[date, int]:
    """Count the rows of each day, from the Parquet footers."""
    rows: dict[date, int] = {}
    for file in files:
        day = cast("date", file.partition[-1])
        rows[day] = rows.get(day, 0) + pq.read_metadata(file.path).num_rows
    return rows
