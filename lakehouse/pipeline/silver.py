"""Silver and quarantine: all bronze rows of an event date, cleaned by the contract's SQL and once per key.

A pure function of bronze, so late data and re-runs need no special case. Partitions are computed in groups, two at a
time, so that memory stays bounded whatever the range; what is too large to be held in memory is left to DuckDB, which
spills.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import date
from itertools import count
from pathlib import Path
from typing import Any, cast

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pyiceberg.manifest import DataFile
from pyiceberg.table import Table

from lakehouse.contracts.columns import ROW_MARKER, passed_through
from lakehouse.contracts.sql import clean_sql, latest_sql, literal, quarantine_sql, quote, raw_sql
from lakehouse.contracts.streams import Stream
from lakehouse.engine.connection import bind, copy_to_files, describe, scan_sql
from lakehouse.engine.partition_writer import write_partitions
from lakehouse.engine.reader import read_files
from lakehouse.pipeline.commits import WriteResult, commit_days, retry_on_conflict
from lakehouse.pipeline.fast_path import Sifted, sift
from lakehouse.pipeline.lake import Lake
from lakehouse.pipeline.lineage.staleness import sequence_of
from lakehouse.storage.iceberg.commit import Uploads
from lakehouse.storage.iceberg.manifests import select_files
from lakehouse.storage.iceberg.partitions import NewFile, date_from_days, partition_position, partitions_filter

MAX_GROUP_ROWS = 500_000
MAX_GROUP_BYTES = 32 << 20
"""Partitions are computed together until their rows, or bronze's files, exceed this; a larger partition is a group of its
own."""

MAX_ROWS_IN_MEMORY = 2_000_000
MAX_BYTES_IN_MEMORY = 64 << 20
"""A group whose rows, or bronze's files, exceed this is not read into memory; it is one partition, for others are smaller."""

MIN_ROWS_TO_PRUNE_COLUMNS = 50_000
"""Below this, to learn what a stream's SQL hands on takes longer than to take all of it from DuckDB."""

ROW_ORIGIN_SQL = "hash(_arrived_at, _row)"
"""Where a row came from, for little: it tells all rows of one object apart, and most of those of several."""


@dataclass(frozen=True, slots=True)
class Ledger:
    """The conservation ledger of one partition: landed = silver + quarantined + duplicates."""

    landed: int = 0
    valid: int = 0
    silver: int = 0
    quarantined: int = 0
    duplicates: int = 0
    blocked: bool = False

    @property
    def quality(self) -> float:
        """The share of valid rows; 1 for a partition without rows."""
        return self.valid / self.landed if self.landed else 1.0

    @property
    def conserved(self) -> bool:
        """Whether every landed row is accounted for, once."""
        return self.landed == self.silver + self.quarantined + self.duplicates


@dataclass(frozen=True, slots=True)
class SilverResult:
    """What became of some partitions: their ledgers, and the two commits."""

    ledgers: Mapping[date, Ledger]
    silver: WriteResult
    quarantine: WriteResult

    @property
    def blocked(self) -> list[date]:
        """The partitions that the quality gate kept from being replaced."""
        return [day for day, ledger in self.ledgers.items() if ledger.blocked]


@dataclass(slots=True)
class _Files:
    silver: list[NewFile] = field(default_factory=list)
    quarantine: list[NewFile] = field(default_factory=list)
    ledgers: dict[date, Ledger] = field(default_factory=dict)

    def add(self, part: "_Files") -> None:
        self.silver += part.silver
        self.quarantine += part.quarantine
        self.ledgers |= part.ledgers


def clean_days(lake: Lake, stream: Stream, days: Sequence[date], *, run_id: str = "") -> SilverResult:
    """Compute silver and quarantine of these event dates from bronze and commit both.

    A partition whose share of valid rows is under the contract's threshold keeps what silver held; what would have been
    new goes to quarantine with that reason, and `held_back` names the partition.
    Raises CommitConflictError when other writers of these partitions keep being first.
    """
    return retry_on_conflict(lambda: _attempt(lake, stream, sorted(set(days)), run_id))


def _attempt(lake: Lake, stream: Stream, days: Sequence[date], run_id: str) -> SilverResult:
    bronze, silver, quarantine = (
        lake.tables.load(f"{layer}.{stream.name}") for layer in ("bronze", "silver", "quarantine")
    )
    sources = {f"bronze.{stream.name}": sequence_of(bronze), **stream.definition.sources}
    with lake.engine.scratch() as folder:
        files = _Files()
        with Uploads(lake.connection, quarantine) as to_quarantine, Uploads(lake.connection, silver) as to_silver:
            for part in _compute(lake, stream, days, bronze, silver, quarantine, folder):
                to_quarantine.add(part.quarantine)
                to_silver.add(part.silver)
                files.add(part)
            refused, kept = to_quarantine.result(), to_silver.result()
    ledgers = {day: files.ledgers.get(day, Ledger()) for day in days}
    counts = {day: _ledger_counts(ledger) for day, ledger in ledgers.items()}
    # Quarantine first: if the process dies between the two commits, no row is missing from both.
    quarantined = commit_days(
        lake, quarantine, files.quarantine, refused, days, sources=sources, run_id=run_id, counts=counts
    )
    replaced = [day for day in days if not ledgers[day].blocked]
    written = commit_days(lake, silver, files.silver, kept, replaced, sources=sources, run_id=run_id, counts=counts)
    return SilverResult(ledgers, written, quarantined)


def _compute(
    lake: Lake, stream: Stream, days: Sequence[date], bronze: Table, silver: Table, quarantine: Table, folder: Path
) -> Iterator[_Files]:
    """Some days at a time, in order."""
    numbers = count()

    def one(group: Mapping[date, Sequence[DataFile]]) -> _Files:
        # Temporary tables live and die with the cursor.
        with lake.engine.cursor() as cursor:
            return _Group(lake, cursor, stream, bronze, group).run(silver, quarantine, folder, f"g{next(numbers)}")

    with ThreadPoolExecutor(min(2, lake.engine.threads), thread_name_prefix="silver") as pool:
        yield from pool.map(one, _groups(bronze, days))


def _groups(bronze: Table, days: Sequence[date]) -> Iterator[dict[date, list[DataFile]]]:
    """The files of those of the days that bronze has rows of, as its manifests say, some days at a time."""
    files: dict[date, list[DataFile]] = {}
    position = partition_position(bronze.spec(), "dt")
    for data_file in select_files(bronze, partitions_filter("dt", days)):
        day = date_from_days(data_file.partition[position])
        files.setdefault(day, []).append(data_file)
    group: dict[date, list[DataFile]] = {}
    for day, found in sorted(files.items()):
        if group and _exceed([*group.values(), found], MAX_GROUP_ROWS, MAX_GROUP_BYTES):
            yield group
            group = {}
        group[day] = found
    if group:
        yield group


def _exceed(files: Iterable[Sequence[DataFile]], rows: int, size: int) -> bool:
    every = [one for some in files for one in some]
    return sum(one.record_count for one in every) > rows or sum(one.file_size_in_bytes for one in every) > size


class _Group:
    """Some partitions on a cursor of their own.

    `sure` are their rows that are valid and that no other has the key of, typed; `suspects` are all others, as they are in
    bronze, and few. Only these are looked at one by one.
    """

    def __init__(
        self,
        lake: Lake,
        cursor: duckdb.DuckDBPyConnection,
        stream: Stream,
        bronze: Table,
        files: Mapping[date, Sequence[DataFile]],
    ) -> None:
        self.lake, self.cursor, self.stream, self.contract = lake, cursor, stream, stream.contract
        self.bronze, self.files, self.days = bronze, files, list(files)
        self.keys = ", ".join(map(quote, self.contract.key))
        fields = [f.name for f in self.contract.fields]
        self.columns = [*fields, "dt", "_arrived_at", "_object", "_row"]
        self.sifted: Sifted | None = None
        self.survivors: pa.Table | None = None

    def run(self, silver: Table, quarantine: Table, folder: Path, name: str) -> _Files:
        """Write the group's files and count its ledgers."""
        self._make("view bronze", f"from {scan_sql(self.bronze)} where {_among(self.days)}")
        if _exceed(self.files.values(), MAX_ROWS_IN_MEMORY, MAX_BYTES_IN_MEMORY):
            self._sift_by_sql()
        else:
            self._sift_in_memory()
        repeats = self._make_survivors()
        landed = self._landed()
        held = [day for day, (rows, valid) in landed.items() if 0 < valid < rows * self.contract.quality_threshold]
        broken = any(valid < rows for rows, valid in landed.values())
        repeats_broken = self._make_broken() if broken else {}
        kept = self._make_held_back(held, silver) if held else {}
        good = [day for day in landed if day not in held]
        files = _Files(
            silver=self._write_silver(good, silver, folder / "silver", name),
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
                blocked=day in held,
            )
        return files

    def _landed(self) -> dict[date, tuple[int, int]]:
        """Rows and valid rows by day."""
        valid = dict(self._ask("select dt, count(*) from candidates group by dt"))
        if self.sifted is None:
            sure = dict(self._ask("select dt, count(*) from checked anti join suspected using (origin) group by dt"))
        else:
            counts: Any = pc.value_counts(self.sifted.sure.column("dt"))
            sure = {one["values"].as_py(): one["counts"].as_py() for one in counts}
        return {
            day: (sum(file.record_count for file in files), sure.get(day, 0) + valid.get(day, 0))
            for day, files in self.files.items()
        }

    def _sift_in_memory(self) -> None:
        files = [file for some in self.files.values() for file in some]
        self.sifted = sift(self.cursor, self.contract, read_files(self.lake.connection, self.bronze, files))
        self.cursor.register("suspects", self.sifted.suspects)

    def _sift_by_sql(self) -> None:
        """The same in passes over bronze that keep little, for rows that are kept would not fit into memory.

        Of each row its origin and the hash of its key are kept; suspect is who breaks the contract, whose key's hash occurs
        twice, and the few that share an origin with one. All others are read and cleaned again.
        """
        self._make(
            "table checked",
            f"""select dt, {ROW_ORIGIN_SQL} as origin, hash(dt, {self.keys}) as key_hash, _valid
            from ({clean_sql(self.contract)})""",
        )
        self._make(
            "table suspected",
            """select distinct origin
            from checked
            where not _valid or key_hash in (
              select key_hash
              from checked
              where _valid
              group by key_hash
              having count(*) > 1
            )""",
        )
        self._make("table suspects", f"from bronze where {ROW_ORIGIN_SQL} in (from suspected)")
        # A join and no filter, for DuckDB would filter first and then match each text anew that it now matches once.
        self._make(
            "view sure",
            f"""select {", ".join(map(quote, self.columns))}
            from (select *, {ROW_ORIGIN_SQL} as origin from ({clean_sql(self.contract)}))
            anti join suspected using (origin)""",
        )

    def _make_survivors(self) -> dict[date, int]:
        """Valid rows, each key once; the number of repeats by day."""
        self._make("table candidates", f"select * from ({clean_sql(self.contract, 'suspects')}) where _valid")
        columns = ", ".join(map(quote, self.columns))
        self._make("table latest", f"select {columns} from ({latest_sql(self.contract.key, 'candidates')})")
        if self.sifted is None:
            self._make("view survivors", "from sure union all (from latest order by dt)")
        else:
            mended = self.cursor.execute("from latest order by dt").to_arrow_table()
            self.survivors = _appended(self.sifted.sure, mended)
            self.cursor.register("survivors", self.survivors)
        return self._fewer("candidates", "latest")

    def _make_broken(self) -> dict[date, int]:
        """Rows that break the contract, equal ones once; the number of repeats by day.

        A row that could not be read has no key that could tell it from another: each such row stays.
        """
        self._make("view wanting", "from suspects anti join candidates using (_object, _row)")
        self._make("table refused", quarantine_sql(self.contract, "wanting"))
        self._make(
            "table broken",
            """select dt, raw, reasons, _object, _row, _arrived_at
            from refused
            qualify _defect is not null or row_number() over (
              partition by dt, raw, _defect is null
              order by _arrived_at desc, _object desc, _row desc
            ) = 1""",
        )
        return self._fewer("refused", "broken")

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

    def _write_silver(self, days: Sequence[date], silver: Table, folder: Path, name: str) -> list[NewFile]:
        where = "true" if len(days) == len(self.days) else _among(days)
        fields = ", ".join(map(quote, self.columns[:-2]))
        sql = self.stream.sql("silver")
        if self.survivors is None or not days:
            select = bind(sql, {"valid": f"select {fields} from survivors where {where}"})
            return self._copy(select, silver, folder, name, days)
        survivors = self.survivors if where == "true" else self.survivors.filter(pc.field("dt").isin(list(days)))
        folder.mkdir(exist_ok=True)
        return write_partitions(self._enriched(survivors.select(self.columns[:-2])), silver, folder, name)

    def _enriched(self, valid: pa.Table) -> pa.Table:
        """What the stream's SQL makes of these rows. It is asked only for what it computes: the columns that it hands on
        are here already, and to take them out of DuckDB again would cost more than all the rest.
        """
        sql = self.stream.sql("silver")
        kept = (
            passed_through(sql, "valid", tuple(valid.column_names)) if len(valid) >= MIN_ROWS_TO_PRUNE_COLUMNS else ()
        )
        if not kept:
            self.cursor.register("valid", valid)
            return self.cursor.execute(sql).to_arrow_table()
        self.cursor.register("valid", valid.append_column(ROW_MARKER, pa.array(np.arange(len(valid)))))
        names = [name for name, _ in describe(self.cursor, sql)]
        computed = [name for name in names if name not in kept]
        select = ", ".join(map(quote, computed))
        found = self.cursor.execute(f"select {select} from ({sql.strip().rstrip(';')}\n)").to_arrow_table()
        places = np.asarray(found.column(ROW_MARKER))
        if len(places) != len(valid) or (places != np.arange(len(valid))).any():
            valid = valid.take(pa.array(places))
        columns: dict[str, Any] = {
            name: (valid if name in kept else found).column(name) for name in names if name != ROW_MARKER
        }
        return pa.table(columns)

    def _copy(self, select: str, table: Table, folder: Path, name: str, days: Sequence[date]) -> list[NewFile]:
        if not days:
            return []
        folder.mkdir(exist_ok=True)
        if len(days) == 1:  # of any size
            return copy_to_files(self.cursor, select, table, folder, name=name, partition=(days[0],))
        return write_partitions(self.cursor.execute(select).to_arrow_table(), table, folder, name)

    def _fewer(self, table: str, kept: str) -> dict[date, int]:
        """How many rows of a table, by day, are not in the one that was made of it."""
        return dict(
            self._ask(f"""select dt, sum(rows)::bigint
                from (select dt, 1 as rows from {table} union all select dt, -1 from {kept})
                group by dt""")
        )

    def _make(self, what: str, select: str) -> None:
        self.cursor.execute(f"create temp {what} as {select}")

    def _ask(self, select: str) -> list[tuple[Any, ...]]:
        return self.cursor.execute(select).fetchall()


def _appended(rows: pa.Table, more: pa.Table) -> pa.Table:
    """Both, with the types of the first."""
    return pa.concat_tables([rows, more.cast(rows.schema)]) if len(more) else rows


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
    return counts | ({"held_back": 1} if ledger.blocked else {})
