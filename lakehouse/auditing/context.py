"""What one audit looks at: each table as it was at one moment, loaded so that what is derived is never newer than its source."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta
from functools import cached_property
from typing import Any, cast

from pyiceberg.expressions import And, BooleanExpression, GreaterThanOrEqual, LessThan
from pyiceberg.manifest import DataFile
from pyiceberg.table import Table

from lakehouse.auditing.findings import Finding, Report, State
from lakehouse.contracts.model import Contract
from lakehouse.contracts.streams import Query, Stream
from lakehouse.landing.listing import list_days
from lakehouse.pipeline.erasure_log import erased_rows
from lakehouse.pipeline.gold import DAILY_METRICS
from lakehouse.pipeline.lake import Lake
from lakehouse.pipeline.lineage.properties import computed_from
from lakehouse.pipeline.lineage.realtime_coverage import uncovered_hours
from lakehouse.pipeline.lineage.retention import Layer, first_kept_day
from lakehouse.pipeline.lineage.staleness import last_changes
from lakehouse.storage.iceberg.catalog import qualified_name
from lakehouse.storage.iceberg.manifests import select_files
from lakehouse.storage.iceberg.partitions import date_from_days, partition_position

MAX_GROUP_ROWS = 500_000
"""Days are compared together until they hold more rows than that; a larger day alone."""


@dataclass
class Context:
    """One stream's tables and landing objects as an audit sees them, and what it says of them."""

    lake: Lake
    stream: Stream
    first: date
    last: date
    report: Report = field(default_factory=Report)
    unreadable: dict[str, set[date]] = field(default_factory=dict)
    """Days of each layer that have lost a file: nothing can be compared there."""

    _files: dict[tuple[str, str], list[tuple[date, DataFile]]] = field(default_factory=dict)
    _changed: dict[str, dict[date, int]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        name = self.stream.name
        derived_first = (
            f"serving.{name}_features", f"serving.{name}_alerts", DAILY_METRICS, f"gold.{name}_daily",
            f"quarantine.{name}", f"silver.{name}", f"realtime.{name}", f"bronze.{name}",
        )  # fmt: skip
        self.tables = {table: self.lake.tables.load(table) for table in derived_first}
        self.landed = list_days(self.lake.objects, name, self.first, self.last)

    @property
    def contract(self) -> Contract:
        """The stream's contract."""
        return self.stream.contract

    @cached_property
    def keys_landed(self) -> set[str]:
        """The keys of all landing objects that there are."""
        return {one.key for found in self.landed.values() for one in found} | self._incoming

    @cached_property
    def _incoming(self) -> set[str]:
        # A file that is dropped again under its name has another day of arrival.
        return {info.key for info in self.lake.objects.list(f"incoming/{self.stream.name}")}

    @cached_property
    def erased(self) -> dict[str, int]:
        """The landing objects that rows were erased of, with how many."""
        return erased_rows(self.lake.objects, self.stream.name)

    def table(self, layer: str, suffix: str = "") -> Table:
        """One of the stream's tables."""
        return self.tables[f"{layer}.{self.stream.name}{suffix}"]

    @cached_property
    def uncovered(self) -> Sequence[str] | None:
        """The hours of realtime that the unified view reads."""
        return uncovered_hours(self.stream, self.table("realtime"), self.table("bronze"), self.table("silver"))

    def days(self, table: Table, column: str = "dt") -> dict[date, int]:
        """The days of the range that the table has files of, with their rows as its manifests say."""
        found: dict[date, int] = {}
        for day, data_file in self.files(table, column):
            found[day] = found.get(day, 0) + data_file.record_count
        return found

    def files(self, table: Table, column: str = "dt") -> Sequence[tuple[date, DataFile]]:
        """The table's files of the range, with the day each is of."""
        known = qualified_name(table), column
        if known not in self._files:
            position = partition_position(table.spec(), column)
            found = select_files(table, _between(column, self.first, self.last))
            self._files[known] = [(day_of(one.partition[position]), one) for one in found]
        return self._files[known]

    def covers(self, day: str) -> bool:
        """Whether a partition is one of the range."""
        return self.first <= date.fromisoformat(day[:10]) <= self.last

    def changed(self, table: Table, column: str = "dt", *, whole: bool = False) -> Mapping[date, int]:
        """When each day of the range, or of the whole table, last changed, as the sequence number of the commit."""
        name = qualified_name(table)
        if name not in self._changed:
            self._changed[name] = last_changes(table, column)
        found = self._changed[name]
        return found if whole else {day: at for day, at in found.items() if self.first <= day <= self.last}

    def stale(self, source: Table, derived: Table, days: Iterable[date], column: str = "dt") -> set[date]:
        """Those of the days that `derived` was not computed for from the newest of `source`, or by an older definition."""
        touched = self.changed(source, column)
        among = [day for day in days if day in touched]
        read = computed_from(derived, qualified_name(source), among)
        return {day for day in among if touched[day] > read.get(day, -1)}

    def redefined(self, derived: Table, query: Query, days: Iterable[date]) -> set[date]:
        """Those of the days that were computed by another contract or SQL than today's."""
        definition = self.stream.definition_of(query)
        return {
            day for day, read in computed_from(derived, definition.source, days).items() if not definition.matches(read)
        }

    def say(self, layer: str, partition: object, check: str, what: str, do: str, *, state: State = "wrong") -> None:
        """Note that a partition differs."""
        self.report.findings.append(Finding(self.stream.name, layer, str(partition), check, state, what, do))

    def say_unlike(self, layer: str, day: date, check: str, what: str, query: Query, redefined: bool) -> None:
        """Note that a day differs from what its SQL gives: it is still to be computed where that SQL has changed since."""
        said = f"was computed by another {query}.sql than today's, by which {what}" if redefined else what
        self.say(layer, day, check, said, self.repair(day), state="stale" if redefined else "wrong")

    def repair(self, day: object) -> str:
        """The command that computes a partition again."""
        return f"`lakehouse audit {self.stream.name} --from {day} --to {day} --repair`"

    def readable(self, days: Iterable[date], *layers: Layer) -> list[date]:
        """Those of the days of which none of these layers has lost a file or ended the retention, in order."""
        lost = {day for layer in layers for day in self.unreadable.get(layer, ())}
        since = max((first for layer in layers if (first := first_kept_day(self.contract, layer))), default=date.min)
        return sorted(day for day in set(days) - lost if day >= since)


def day_groups(rows: Mapping[date, int]) -> Iterator[list[date]]:
    """The days, in order, some at a time by their rows."""
    group: list[date] = []
    held = 0
    for day in sorted(rows):
        if group and held + rows[day] > MAX_GROUP_ROWS:
            yield group
            group, held = [], 0
        group.append(day)
        held += rows[day]
    if group:
        yield group


def _between(column: str, first: date, last: date) -> BooleanExpression:
    # An hour such as 2025-11-20-14 lies between its day and the day after it.
    after = last + timedelta(days=1)
    since: Any = GreaterThanOrEqual  # pydantic hides its signature from type checkers, as below
    until: Any = LessThan
    return And(since(column, first.isoformat()), until(column, after.isoformat()))


def layer_of(table: Table) -> Layer:
    """The layer that a table is of."""
    return cast("Layer", table.name()[0])


def day_of(value: Any) -> date:
    """A partition value that is a date, or an hour such as `2025-11-20-14`, as a day."""
    return date.fromisoformat(value[:10]) if isinstance(value, str) else date_from_days(value)
