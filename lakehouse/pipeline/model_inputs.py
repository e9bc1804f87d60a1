"""Show a model the tables that it reads: for a day, that day and those that it looks back on."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from uuid import uuid4

import duckdb
from pyiceberg.table import Table

from lakehouse.contracts.sql import quote
from lakehouse.engine.connection import scan_sql
from lakehouse.models.model import Model
from lakehouse.pipeline.lake import Lake
from lakehouse.pipeline.lineage.properties import WHOLE
from lakehouse.pipeline.lineage.staleness import last_changes
from lakehouse.pipeline.model_specs import day_column
from lakehouse.pipeline.model_tables import ensure_table
from lakehouse.storage.iceberg.manifests import live_entries
from lakehouse.storage.iceberg.snapshots import history, ledger, sequence_of, undone


@dataclass(frozen=True, slots=True)
class Source:
    """A table that a model reads, as loaded."""

    name: str
    table: Table

    @property
    def column(self) -> str | None:
        """The column by whose days it is partitioned; None if it is not."""
        return day_column(field.name for field in self.table.spec().fields)

    @property
    def sequence(self) -> int:
        """The sequence number of the newest commit that counts: of a whole table, one that replaced its rows."""
        if self.column is not None:
            return sequence_of(self.table)
        written = [snapshot.sequence_number or 0 for snapshot in history(self.table) if WHOLE in ledger(snapshot)]
        return max([*written, *(entry.sequence_number or 0 for entry in live_entries(self.table))], default=0)

    def has_changed_since(self, sequence: int) -> bool:
        """Return whether rows of the table have changed since this commit, or a rollback has undone it."""
        if sequence in {snapshot.sequence_number for snapshot, _ in undone(self.table)}:
            return True
        if self.column is None:
            return self.sequence > sequence
        return bool(last_changes(self.table, self.column, since=sequence))


def sources_of_model(lake: Lake, model: Model) -> list[Source]:
    """Load the tables that a model reads. The table of another model that was never computed is created."""
    for name in model.reads:
        if name in lake.models.specs and not lake.tables.exists(name):
            ensure_table(lake, lake.models.specs[name])
    return [Source(name, lake.tables.load(name)) for name in model.reads]


class Inputs:
    """A database in which the tables that a model reads are views of some days."""

    def __init__(self, cursor: duckdb.DuckDBPyConnection) -> None:
        self.cursor = cursor

    def show(self, sources: Sequence[Source], days: Sequence[date] | None) -> None:
        """Make each table a view of these days, or of all. Tables without partitions are shown whole."""
        for source in sources:
            layer, name = source.name.split(".")
            self.cursor.execute(f"create schema if not exists {quote(layer)}")
            where = f" where {_days_sql(source.column, days)}" if days is not None and source.column else ""
            self.cursor.execute(
                f"create or replace view {quote(layer)}.{quote(name)} as from {scan_sql(source.table)}{where}"
            )


def _days_sql(column: str, days: Sequence[date]) -> str:
    return f"{quote(column)} between date '{min(days)}' and date '{max(days)}'"


@contextmanager
def open_inputs(lake: Lake) -> Iterator[Inputs]:
    """Attach an empty database for a model's inputs, and detach it afterwards."""
    cursor, name = lake.engine.cursor(), f"model_{uuid4().hex}"
    cursor.execute(f"attach ':memory:' as {name}")
    cursor.execute(f"use {name}")
    try:
        yield Inputs(cursor)
    finally:
        cursor.execute("use memory")
        cursor.execute(f"detach {name}")
        cursor.close()
