"""Publish tables: load each partition whose version the warehouse does not hold, in order. Repeating it changes nothing."""

import fnmatch
import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from pyiceberg.table import Table

from lakehouse.engine.connection import columns_of, scan_sql
from lakehouse.errors import LakehouseError
from lakehouse.pipeline.lake import Lake
from lakehouse.pipeline.lineage.staleness import last_changes
from lakehouse.pipeline.model_specs import day_column
from lakehouse.publishing.dialects import LAKE, Columns, empty_measures, measures, measures_sql, rows_sql
from lakehouse.publishing.targets import WHOLE, Load, Published, Target, Version
from lakehouse.storage.iceberg.snapshots import sequence_of

MEASURED_AT_ONCE = 64
"""Partitions that one scan of the lake measures before they are loaded."""


@dataclass(frozen=True, slots=True)
class LoadedTable:
    """A table of the lake as loaded: what is read is one snapshot of it."""

    table: Table
    published: Published
    versions: Mapping[str, Version]
    """The version of each partition."""

    @classmethod
    def load(cls, lake: Lake, name: str) -> "LoadedTable":
        """Load the table's current version."""
        table = lake.tables.load(name)
        by = day_column(field.name for field in table.spec().fields)
        uuid = str(table.metadata.table_uuid)
        sequences = (
            {str(day): last for day, last in last_changes(table, by).items()} if by else {WHOLE: sequence_of(table)}
        )
        versions = {partition: Version(uuid, sequences[partition]) for partition in sorted(sequences)}
        return cls(table, Published(name, tuple(columns_of(table)), by), versions)

    @property
    def snapshot_id(self) -> int:
        """The id of the snapshot; 0 for a table without any."""
        snapshot = self.table.current_snapshot()
        return snapshot.snapshot_id if snapshot else 0

    def pending(self, loads: Mapping[str, Load]) -> list[str]:
        """List the partitions of which the warehouse holds another version, or none, in order."""
        changed = [
            partition
            for partition, version in self.versions.items()
            if partition not in loads or loads[partition].version != version
        ]
        return changed + sorted(name for name in loads.keys() - self.versions.keys() if loads[name].rows)

    def measure(self, lake: Lake, partitions: Sequence[str]) -> dict[str, tuple[Any, ...]]:
        """Return the measures of partitions in the lake."""
        published = self.published
        sql = measures_sql(published.columns, LAKE, scan_sql(self.table), published.by, partitions)
        nothing = tuple(empty_measures(published.columns).values())
        with lake.engine.cursor() as cursor:
            found = {str(row[0]): tuple(row[1:]) for row in cursor.execute(sql).fetchall()}
        return {partition: found.get(partition, nothing) for partition in partitions}


@dataclass(slots=True)
class PublishedTable:
    """The result for one table."""

    name: str
    changes: Sequence[str]
    """The changes made to the table in the warehouse."""
    pending: Sequence[str]
    """The partitions that were to be loaded."""
    rows: int = 0
    loaded: list[str] = field(default_factory=list)


def tables_named(lake: Lake, patterns: Iterable[str]) -> list[str]:
    """List the tables that match patterns such as `gold.*`. Raises LakehouseError for one that matches none."""
    names = lake.tables.names()
    found: dict[str, None] = {}
    for pattern in patterns:
        matching = fnmatch.filter(names, pattern)
        if not matching:
            raise LakehouseError(f"There is no table {pattern}. There are: {', '.join(names)}.")
        found |= dict.fromkeys(matching)
    return [*found]


def publish(
    lake: Lake, target: Target, name: str, *, again: bool = False, report: Callable[[str, int], None] = lambda *_: None
) -> PublishedTable:
    """Load what is pending of a table, or with `again` all of it, and call `report` with each partition and its rows."""
    loaded = LoadedTable.load(lake, name)
    published = loaded.published
    changes = target.prepare(published)
    loads = target.loads(name)
    pending = sorted({*loaded.versions, *loads}) if again else loaded.pending(loads)
    result = PublishedTable(name, changes, pending)
    gone = Version(str(loaded.table.metadata.table_uuid), sequence_of(loaded.table))
    for start in range(0, len(pending), MEASURED_AT_ONCE):
        partitions = pending[start : start + MEASURED_AT_ONCE]
        for partition, values in loaded.measure(lake, partitions).items():
            load = Load(
                partition,
                loaded.versions.get(partition, gone),
                loaded.snapshot_id,
                int(values[0]),
                checksum(published.columns, values),
                datetime.now(UTC),
            )
            with lake.engine.cursor() as cursor:
                select = rows_sql(published.columns, scan_sql(loaded.table), published.by, partition)
                target.replace(published, load, cursor, select)
            result.loaded.append(partition)
            result.rows += load.rows
            report(partition, load.rows)
    return result


def checksum(columns: Columns, values: Iterable[object]) -> str:
    """Return a short hash of a partition's measures.

    Measures of columns without values are left out, so that a new column changes nothing. Sums of doubles are left at
    twelve digits, because they depend on the order of the rows.
    """
    named = zip(measures(columns, LAKE), values, strict=True)
    held = [
        f"{name} {_text(value)}"
        for name, value in named
        if value is not None and (value or not name.startswith("count("))
    ]
    return hashlib.sha256("\n".join(held).encode()).hexdigest()[:16]


def _text(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.12g}"
    return f"{Decimal(value).normalize():f}" if isinstance(value, int | Decimal) else str(value)
