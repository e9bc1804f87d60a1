"""Silver and quarantine: all bronze rows of an event date, cleaned by the contract's SQL and once per key.

A pure function of bronze, so late data and re-runs need no special case. Partitions are computed in groups, two at a
time, so that memory stays bounded whatever the range.
"""

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import date, timedelta
from itertools import count
from pathlib import Path
from typing import Any, cast

import duckdb
import pyarrow.parquet as pq
from pyiceberg.table import Table

from lakehouse.contracts.sql import clean_sql, latest_sql, literal, quarantine_sql, quote, raw_sql
from lakehouse.contracts.streams import Stream
from lakehouse.engines.duckdb import bind, copy_to_files, scan_sql
from lakehouse.engines.partitions import write_partitions
from lakehouse.layers.lake import Lake
from lakehouse.layers.planning import sequence_of
from lakehouse.layers.writing import Written, commit_days, recomputing
from lakehouse.storage.commit import EPOCH, files_of, partitions_filter
from lakehouse.storage.files import NewFile

ROWS_PER_GROUP = 500_000
BYTES_PER_GROUP = 32 << 20
"""Partitions are computed together until their rows, or bronze's files, exceed this; a larger partition is a group of its
own."""

PLACE = "hash(_arrived_at, _row)"
"""Where a row came from, for little: it tells all rows of one object apart, and most of those of several."""


@dataclass(frozen=True, slots=True)
class Ledger:
    """The conservation ledger of one partition: landed = silver + quarantined + duplicates."""

    landed: int = 0
    valid: int = 0
    silver: int = 0
    quarantined: int = 0
    duplicates: int = 0
    held_back: bool = False

    @property
    def quality(self) -> float:
        """The share of valid rows; 1 for a partition without rows."""
        return self.valid / self.landed if self.landed else 1.0

    @property
    def conserved(self) -> bool:
        """Whether every landed row is accounted for, once."""
        return self.landed == self.silver + self.quarantined + self.duplicates


@dataclass(frozen=True, slots=True)
class Cleaned:
    """What became of some partitions: their ledgers, and the two commits."""

    ledgers: Mapping[date, Ledger]
    silver: Written
    quarantine: Written

    @property
    def held_back(self) -> list[date]:
        """The partitions that the quality gate kept from being replaced."""
        return [day for day, ledger in self.ledgers.items() if ledger.held_back]


@dataclass(slots=True)
class _Files:
    silver: list[NewFile] = field(default_factory=list)
    quarantine: list[NewFile] = field(default_factory=list)
    ledgers: dict[date, Ledger] = field(default_factory=dict)


def clean_days(lake: Lake, stream: Stream, days: Sequence[date], *, run_id: str = "") -> Cleaned:
    """Compute silver and quarantine of these event dates from bronze and commit both.

    A partition whose share of valid rows is under the contract's threshold keeps what silver held; what would have been
    new goes to quarantine with that reason, and `held_back` names the partition.
    Raises CommitConflictError when other writers of these partitions keep being first.
    """
    return recomputing(lambda: _attempt(lake, stream, sorted(set(days)), run_id))


def _attempt(lake: Lake, stream: Stream, days: Sequence[date], run_id: str) -> Cleaned:
    bronze, silver, quarantine = (
        lake.tables.load(f"{layer}.{stream.name}") for layer in ("bronze", "silver", "quarantine")
    )
    sources = {f"bronze.{stream.name}": sequence_of(bronze)}
    with lake.engine.scratch() as folder:
        files = _compute(lake, stream, days, bronze, silver, quarantine, folder)
        ledgers = {day: files.ledgers.get(day, Ledger()) for day in days}
        counts = {day: _ledger_counts(ledger) for day, ledger in ledgers.items()}
        # Quarantine first: if the process dies between the two commits, no row is missing from both.
        quarantined = commit_days(
            lake, quarantine, files.quarantine, days, sources=sources, run_id=run_id, counts=counts
        )
        replaced = [day for day in days if not ledgers[day].held_back]
        written = commit_days(lake, silver, files.silver, replaced, sources=sources, run_id=run_id, counts=counts)
    return Cleaned(ledgers, written, quarantined)


def _compute(
    lake: Lake, stream: Stream, days: Sequence[date], bronze: Table, silver: Table, quarantine: Table, folder: Path
) -> _Files:
    numbers = count()

    def one(group: Sequence[date]) -> _Files:
        # Temporary tables live and die with the cursor.
        with lake.engine.cursor() as cursor:
            return _Group(cursor, stream, group).run(bronze, silver, quarantine, folder, f"g{next(numbers)}")

    found = _Files()
    with ThreadPoolExecutor(min(2, lake.engine.threads), thread_name_prefix="silver") as pool:
        for part in pool.map(one, _groups(bronze, days)):
            found.silver += part.silver
            found.quarantine += part.quarantine
            found.ledgers |= part.ledgers
    return found


def _groups(bronze: Table, days: Sequence[date]) -> Iterator[list[date]]:
    """Those of the days that bronze has rows of, as its manifests say, some at a time."""
    rows: dict[date, int] = {}
    size: dict[date, int] = {}
    position = [f.name for f in bronze.spec().fields].index("dt")
    for data_file in files_of(bronze, partitions_filter("dt", days)):
        day = EPOCH + timedelta(days=data_file.partition[position])
        rows[day] = rows.get(day, 0) + data_file.record_count
        size[day] = size.get(day, 0) + data_file.file_size_in_bytes
    group: list[date] = []
    for day in sorted(rows):
        more = [*group, day]
        if group and (
            sum(rows[one] for one in more) > ROWS_PER_GROUP or sum(size[one] for one in more) > BYTES_PER_GROUP
        ):
            yield group
            more = [day]
        group = more
    if group:
        yield group


class _Group:
    """Some partitions on a cursor of their own, in two passes over bronze: what is wrong with it, and all that is not."""

    def __init__(self, cursor: duckdb.DuckDBPyConnection, stream: Stream, days: Sequence[date]) -> None:
        self.cursor, self.stream, self.contract = cursor, stream, stream.contract
        self.days = days
        self.keys = ", ".join(map(quote, self.contract.key))

    def run(self, bronze: Table, silver: Table, quarantine: Table, folder: Path, name: str) -> _Files:
        """Write the group's files and count its ledgers."""
        self._make("view bronze", f"from {scan_sql(bronze)} where {_among(self.days)}")
        landed = self._make_checked()
        held = [day for day, (rows, valid) in landed.items() if 0 < valid < rows * self.contract.quality_threshold]
        repeats = self._make_survivors()
        broken = any(valid < rows for rows, valid in landed.values())
        repeats_broken = self._make_broken() if broken else {}
        kept = self._make_held_back(held, silver) if held else {}
        good = [day for day in landed if day not in held]
        files = _Files(
            silver=self._copy(self._silver_sql(good), silver, folder / "silver", name, good),
            quarantine=self._copy("from broken", quarantine, folder / "quarantine", name, list(landed))
            if broken
            else [],
        )
        in_silver = kept | _rows(files.silver)
        quarantined = _rows(files.quarantine)
        for day, (rows, valid) in landed.items():
            files.ledgers[day] = Ledger(
                landed=rows,
                valid=valid,
                silver=in_silver.get(day, 0),
                quarantined=quarantined.get(day, 0),
                duplicates=repeats.get(day, 0) + repeats_broken.get(day, 0),
                held_back=day in held,
            )
        return files

    def _make_checked(self) -> dict[date, tuple[int, int]]:
        """Of each bronze row its place, the hash of its key, and whether it is valid; rows and valid rows by day."""
        self._make(
            "table checked",
            f"select dt, {PLACE} as place, hash(dt, {self.keys}) as key_hash, _valid from ({clean_sql(self.contract)})",
        )
        counts = self._ask("select dt, count(*), count(*) filter (_valid) from checked group by dt")
        return {day: (rows, valid) for day, rows, valid in counts}

    def _make_survivors(self) -> dict[date, int]:
        """Valid rows, each key once; the number of repeats by day, counted apart from what survives.

        Only suspects are kept in memory and go through the window, for that sorts them: rows that break the contract or
        whose key's hash occurs twice, and the few that share a place with one. All others are read and cleaned again,
        which costs less than to keep them.
        """
        self._make(
            "table suspected",
            """select distinct place
            from checked
            where not _valid or key_hash in (
              select key_hash
              from checked
              where _valid
              group by key_hash
              having count(*) > 1
            )""",
        )
        self._make("table suspects", f"from bronze where {PLACE} in (from suspected)")
        self._make("table candidates", f"select * from ({clean_sql(self.contract, 'suspects')}) where _valid")
        columns = ", ".join([*(quote(f.name) for f in self.contract.fields), "dt", "_arrived_at", "_object", "_row"])
        # A join and no filter, for DuckDB would filter first and then match each text anew that it now matches once.
        self._make(
            "view survivors",
            f"""select {columns}
            from (select *, {PLACE} as place from ({clean_sql(self.contract)}))
            anti join suspected using (place)
            union all
            (select {columns} from ({latest_sql(self.contract.key, "candidates")}) order by dt)""",
        )
        return dict(self._ask(f"select dt, count(*) - count(distinct row({self.keys})) from candidates group by dt"))

    def _make_broken(self) -> dict[date, int]:
        """Rows that break the contract, equal ones once; the number of repeats by day.

        A row that could not be read has no key that could tell it from another: each such row stays.
        """
        self._make("table refused", quarantine_sql(self.contract, "suspects"))
        self._make(
            "table broken",
            """select dt, raw, reasons, _object, _row, _arrived_at
            from refused
            qualify _defect is not null or row_number() over (
              partition by dt, raw, _defect is null
              order by _arrived_at desc, _object desc, _row desc
            ) = 1""",
        )
        return dict(
            self._ask("select dt, count(*) - count(distinct raw) from refused where _defect is null group by dt")
        )

    def _make_held_back(self, held: Sequence[date], silver: Table) -> dict[date, int]:
        """What the gate keeps out of silver joins the broken rows; the number of rows that silver keeps, by day."""
        self._make("table kept", f"from {scan_sql(silver)} where {_among(held)}")
        same = " and ".join(
            f"kept.{quote(k)} is not distinct from survivors.{quote(k)}" for k in ("dt", *self.contract.key)
        )
        reason = literal(f"held back: under {self.contract.quality_threshold:.0%} of this partition's rows are valid")
        self.cursor.execute(f"""insert into broken
            select dt, {raw_sql(self.contract)}, [{reason}], _object, _row, _arrived_at
            from bronze
            semi join (
              from survivors anti join kept on {same} where {_among(held)}
            ) as held using (dt, _object, _row)""")
        return dict(self._ask("select dt, count(*) from kept group by dt"))

    def _silver_sql(self, days: Sequence[date]) -> str:
        fields = ", ".join([*(quote(f.name) for f in self.contract.fields), "dt", "_arrived_at"])
        where = "true" if len(days) == len(self.days) else _among(days)
        return bind(self.stream.sql("silver"), {"valid": f"select {fields} from survivors where {where}"})

    def _copy(self, select: str, table: Table, folder: Path, name: str, days: Sequence[date]) -> list[NewFile]:
        if not days:
            return []
        folder.mkdir(exist_ok=True)
        if len(days) == 1:  # of any size
            return copy_to_files(self.cursor, select, table, folder, name=name, partition=(days[0],))
        return write_partitions(self.cursor.execute(select).to_arrow_table(), table, folder, name)

    def _make(self, what: str, select: str) -> None:
        self.cursor.execute(f"create temp {what} as {select}")

    def _ask(self, select: str) -> list[tuple[Any, ...]]:
        return self.cursor.execute(select).fetchall()


def _among(days: Sequence[date]) -> str:
    return "dt in (" + ", ".join(f"date '{day}'" for day in days) + ")" if days else "false"


def _rows(files: Sequence[NewFile]) -> dict[date, int]:
    rows: dict[date, int] = {}
    for file in files:
        day = cast("date", file.partition[-1])
        rows[day] = rows.get(day, 0) + pq.read_metadata(file.path).num_rows
    return rows


def _ledger_counts(ledger: Ledger) -> dict[str, int]:
    counts = {name: getattr(ledger, name) for name in ("landed", "valid", "silver", "quarantined", "duplicates")}
    return counts | ({"held_back": 1} if ledger.held_back else {})
