"""The inputs of one audit: a stream's tables as of one moment, and its landing objects.

Derived tables are loaded before their sources, so no table is newer than what it was computed from.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta
from functools import cached_property
from typing import Any, cast

from pyiceberg.expressions import And, BooleanExpression, GreaterThanOrEqual, LessThan
from pyiceberg.manifest import DataFile
from pyiceberg.table import Table

from lakehouse.auditing.file_reads import FileReads
from lakehouse.auditing.findings import Finding, Report, State
from lakehouse.contracts.default_sql import Query
from lakehouse.contracts.model import Contract
from lakehouse.contracts.sql import quote
from lakehouse.contracts.streams import Stream
from lakehouse.engine.connection import scan_sql
from lakehouse.engine.filters import days_filter
from lakehouse.errors import UnreadableObjectError, UnreadableTableError
from lakehouse.landing.listing import list_days
from lakehouse.pipeline.erasure_log import erased_rows
from lakehouse.pipeline.lake import Lake
from lakehouse.pipeline.lineage.properties import computed_from
from lakehouse.pipeline.lineage.realtime_coverage import uncovered_hours
from lakehouse.pipeline.lineage.retention import Layer, first_kept_day
from lakehouse.pipeline.lineage.staleness import last_changes, redefined_days
from lakehouse.pipeline.long_form import DAILY_METRICS
from lakehouse.pipeline.table_specs import anomaly_tables
from lakehouse.storage.durability import Receipts
from lakehouse.storage.iceberg.catalog import qualified_name
from lakehouse.storage.iceberg.manifests import select_files
from lakehouse.storage.iceberg.partitions import date_from_days, partition_position
from lakehouse.storage.iceberg.readable import check_readable

MAX_GROUP_ROWS = 500_000
"""Days are compared together until they have more rows than this; a larger day alone."""


@dataclass
class Context:
    """One stream's tables and landing objects, from `first` to `last`, and the report of what was found."""

    lake: Lake
    stream: Stream
    first: date
    last: date
    reads: FileReads
    read_landing: bool = True
    """Whether landing objects are read again, or only compared by name and number of rows."""
    report: Report = field(default_factory=Report)
    unreadable: dict[str, set[date]] = field(default_factory=dict)
    """Days of each layer that have lost a data file, so nothing can be compared there."""
    damaged: set[str] = field(default_factory=set)
    """Tables whose metadata can't be read, so that nothing can be compared with them."""
    unloaded: dict[str, str] = field(default_factory=dict)
    """Why some of them could not even be loaded."""
    lost_exports: set[str] = field(default_factory=set)
    """Exported objects that can't be read."""

    _files: dict[tuple[str, str], list[tuple[date, DataFile]]] = field(default_factory=dict)
    _changes: dict[str, dict[date, int]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.tables: dict[str, Table] = {}
        for name in tables_of(self.stream):
            try:
                self.tables[name] = self.lake.tables.load(name)
            except UnreadableObjectError as error:
                self.unloaded[name] = str(error)
                self.damaged.add(name)
        # Receipts before landing, because each is written after its object.
        self.receipts = Receipts.of(self.lake.connection)
        self.landed = list_days(self.lake.objects, self.stream.name, self.first, self.last)

    @property
    def contract(self) -> Contract:
        """The stream's contract."""
        return self.stream.contract

    @cached_property
    def keys_landed(self) -> set[str]:
        """The keys of all landing objects that exist."""
        # All files, because one that was dropped again under its name has another day of arrival.
        incoming = {info.key for info in self.lake.objects.list(f"incoming/{self.stream.name}")}
        return {obj.key for objects in self.landed.values() for obj in objects} | incoming

    @cached_property
    def erased(self) -> dict[str, int]:
        """How many rows were erased from each landing object."""
        return erased_rows(self.lake.objects, self.stream.name)

    @cached_property
    def uncovered(self) -> Sequence[str] | None:
        """The hours of realtime that the unified view reads; None for all."""
        return uncovered_hours(self.stream, self.table("realtime"), self.table("bronze"), self.table("silver"))

    @cached_property
    def days_with_new_keys(self) -> set[date]:
        """The days on which realtime holds a key that silver does not."""
        key = ", ".join(map(quote, ("dt", *self.contract.key)))
        silver, realtime = (scan_sql(self.table(layer)) for layer in ("silver", "realtime"))
        readable = days_filter(self.readable(self.rows_by_day(self.table("silver")), "silver"))
        with self.lake.engine.cursor() as cursor:
            rows = cursor.execute(f"""
                with fresh as (select distinct dt, hash({key}) as key_hash from {realtime}),
                known as (select hash({key}) as key_hash from {silver} where {readable} and dt in (select dt from fresh))
                select distinct dt from fresh anti join known using (key_hash)""").fetchall()
        return {day for (day,) in rows}

    def table(self, layer: str, suffix: str = "") -> Table:
        """Return one of the stream's tables. Raises UnreadableTableError if it is damaged."""
        return self.intact(f"{layer}.{self.stream.name}{suffix}")

    def intact(self, name: str) -> Table:
        """Return the table of this name. Raises UnreadableTableError if it is damaged."""
        if name in self.damaged:
            raise UnreadableTableError(f"{name} can't be read")
        return self.tables[name]

    def intact_tables(self) -> list[tuple[str, Table]]:
        """List the tables whose metadata can be read, each with its name."""
        return [(name, table) for name, table in self.tables.items() if name not in self.damaged]

    def files(self, table: Table, column: str = "dt") -> Sequence[tuple[date, DataFile]]:
        """List the table's data files of the audited days, each with its day."""
        check_readable(table)
        cached = qualified_name(table), column
        if cached not in self._files:
            position = partition_position(table.spec(), column)
            files = select_files(table, _between(column, self.first, self.last))
            self._files[cached] = [(day_of(file.partition[position]), file) for file in files]
        return self._files[cached]

    def rows_by_day(self, table: Table, column: str = "dt") -> dict[date, int]:
        """Count the table's rows of the audited days, from its manifests. Days without files are left out."""
        rows: dict[date, int] = {}
        for day, data_file in self.files(table, column):
            rows[day] = rows.get(day, 0) + data_file.record_count
        return rows

    def covers(self, partition: str) -> bool:
        """Return whether a partition, a day or an hour, is audited."""
        return self.first <= date.fromisoformat(partition[:10]) <= self.last

    def last_changes(self, table: Table, column: str = "dt", *, whole: bool = False) -> Mapping[date, int]:
        """Find when each audited day, or with `whole` each day, last changed, as the commit's sequence number."""
        name = qualified_name(table)
        if name not in self._changes:
            self._changes[name] = last_changes(table, column)
        changes = self._changes[name]
        return changes if whole else {day: at for day, at in changes.items() if self.first <= day <= self.last}

    def stale(self, source: Table, derived: Table, days: Iterable[date], column: str = "dt") -> set[date]:
        """Select the days on which `derived` was not computed from the newest `source`."""
        changes = self.last_changes(source, column)
        changed = [day for day in days if day in changes]
        read = computed_from(derived, source, changed)
        return {day for day in changed if changes[day] > read.get(day, -1)}

    def redefined(self, derived: Table, query: Query, days: Iterable[date]) -> set[date]:
        """Select the days that were computed by another contract or SQL than the current one."""
        return redefined_days(derived, self.stream.definition_of(query), days)

    def unfinished(self, days: Iterable[date]) -> set[date]:
        """Select the days that a run has to clean again: quarantine is of an older bronze or of another contract."""
        bronze, quarantine, days = self.table("bronze"), self.table("quarantine"), set(days)
        return self.stale(bronze, quarantine, days) | self.redefined(quarantine, "silver", days)

    def report_finding(
        self, layer: str, partition: object, check: str, detail: str, fix: str, *, state: State = "wrong"
    ) -> None:
        """Report that a partition differs."""
        self.report.findings.append(Finding(self.stream.name, layer, str(partition), check, state, detail, fix))

    def report_wrong(self, layer: str, day: date, check: str, detail: str) -> None:
        """Report that a day is wrong, and that computing it again fixes it."""
        self.report_finding(layer, day, check, detail, self.repair_command(day))

    def report_stale(self, layer: str, day: date, check: str, detail: str) -> None:
        """Report that a day was computed from older sources."""
        self.report_finding(layer, day, check, detail, self.repair_command(day), state="stale")

    def report_difference(self, layer: str, day: date, check: str, detail: str, query: Query, redefined: bool) -> None:
        """Report that a day differs from what its SQL gives. It is only stale if that SQL has changed since."""
        if redefined:
            detail = f"was computed by another {query}.sql than today's, by which {detail}"
            self.report_stale(layer, day, check, detail)
        else:
            self.report_wrong(layer, day, check, detail)

    def repair_command(self, day: object) -> str:
        """Return the command that computes a partition again."""
        return f"`lakehouse audit {self.stream.name} --from {day} --to {day} --repair`"

    def readable(self, days: Iterable[date], *layers: Layer) -> list[date]:
        """Select the days on which none of these layers has lost a file or reached the end of its retention, in order."""
        lost = {day for layer in layers for day in self.unreadable.get(layer, ())}
        since = max((first for layer in layers if (first := first_kept_day(self.contract, layer))), default=date.min)
        return sorted(day for day in set(days) - lost if day >= since)


def tables_of(stream: Stream) -> tuple[str, ...]:
    """List the tables of a stream, derived ones before their sources."""
    name = stream.name
    return (
        *anomaly_tables(stream),
        f"serving.{name}_features", f"serving.{name}_alerts", DAILY_METRICS, f"gold.{name}_daily",
        f"quarantine.{name}", f"silver.{name}", f"realtime.{name}", f"bronze.{name}",
    )  # fmt: skip


def day_groups(rows: Mapping[date, int]) -> Iterator[list[date]]:
    """Group days, in order, by their numbers of rows."""
    group: list[date] = []
    group_rows = 0
    for day in sorted(rows):
        if group and group_rows + rows[day] > MAX_GROUP_ROWS:
            yield group
            group, group_rows = [], 0
        group.append(day)
        group_rows += rows[day]
    if group:
        yield group


def _between(column: str, first: date, last: date) -> BooleanExpression:
    # An hour such as 2025-11-20-14 sorts between its day and the next.
    after = last + timedelta(days=1)
    since: Any = GreaterThanOrEqual  # pydantic hides the signatures of both from type checkers
    until: Any = LessThan
    return And(since(column, first.isoformat()), until(column, after.isoformat()))


def layer_of(table: Table) -> Layer:
    """Return the layer that a table belongs to."""
    return cast("Layer", table.name()[0])


def day_of(value: Any) -> date:
    """Convert a partition value, a date or an hour such as `2025-11-20-14`, to its day."""
    return date.fromisoformat(value[:10]) if isinstance(value, str) else date_from_days(value)
