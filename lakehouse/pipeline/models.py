"""Compute models, and find which of their days are stale. Each day is computed by itself from the days that it reads.

So a day's rows are the same whether it is computed alone or with others, tonight or in a back-fill.
"""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Self, cast
from uuid import uuid4

import duckdb
from pyiceberg.table import Table

from lakehouse.contracts.sql import quote
from lakehouse.contracts.streams import Stream
from lakehouse.engine.connection import copy_to_files, scan_sql
from lakehouse.errors import ModelError, SchemaChangeError
from lakehouse.models.model import Model
from lakehouse.models.returned import show_returned
from lakehouse.pipeline.commits import WriteResult, commit_days, replace_table, retry_on_conflict
from lakehouse.pipeline.lake import Lake
from lakehouse.pipeline.lineage.properties import WHOLE, computed_from, whole_computed_from
from lakehouse.pipeline.lineage.retention import Layer, first_kept_day
from lakehouse.pipeline.lineage.staleness import last_changes, redefined_days
from lakehouse.pipeline.long_form import DAILY_METRICS
from lakehouse.pipeline.model_specs import day_column
from lakehouse.pipeline.unified_view import stream_view_names
from lakehouse.storage.iceberg.commit import upload
from lakehouse.storage.iceberg.manifests import live_entries
from lakehouse.storage.iceberg.schema import TableSpec
from lakehouse.storage.iceberg.snapshots import history, ledger, sequence_of, undone
from lakehouse.storage.objects.store import Objects, object_key


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


def write_model(lake: Lake, model: Model, days: Sequence[date], *, run_id: str = "") -> WriteResult:
    """Replace the model's partitions of these days; of a model without partitions, the whole table.

    Raises ModelError if a row is of none of the days that it is computed for, or the SQL fails.
    """
    try:
        return (
            _write_days(lake, model, sorted({*days}), run_id)
            if model.is_partitioned
            else _write_all(lake, model, run_id)
        )
    except duckdb.IOException:
        raise
    except duckdb.Error as error:
        raise ModelError(f"{model.path}: {error}") from error


def _write_all(lake: Lake, model: Model, run_id: str) -> WriteResult:
    sources = sources_of_model(lake, model)
    with open_inputs(lake) as inputs:
        inputs.show(sources, None)
        show_returned(inputs.cursor, model)
        return replace_table(
            lake, model.name, model.select, cursor=inputs.cursor, sources=_versions(model, sources), run_id=run_id
        )


def _write_days(lake: Lake, model: Model, days: Sequence[date], run_id: str) -> WriteResult:
    if not days:
        return WriteResult(model.name, {})

    def attempt() -> WriteResult:
        table, sources = lake.tables.load(model.name), sources_of_model(lake, model)
        with lake.engine.scratch() as folder, open_inputs(lake) as inputs:
            files = []
            for day in days:
                inputs.show(sources, days_read(model, day))
                show_returned(inputs.cursor, model)
                select = day_sql(model, day)
                files += copy_to_files(inputs.cursor, select, table, folder, name=f"{day}", partition=(day,))
            added = upload(lake.connection, table, files)
            versions = _versions(model, sources)
            return commit_days(lake, table, files, added, days, sources=versions, run_id=run_id)

    return retry_on_conflict(attempt)


def _versions(model: Model, sources: Sequence[Source]) -> dict[str, int]:
    return {source.name: source.sequence for source in sources} | model.definition.sources


def days_read(model: Model, day: date) -> list[date]:
    """List the days of its sources that a model reads for a day, newest first."""
    return [day - timedelta(days=back) for back in range(model.header.look_back + 1)]


def day_sql(model: Model, day: date) -> str:
    """Generate the SELECT of a day's rows over inputs that hold the days that it reads. Other rows fail it."""
    read = days_read(model, day)
    failure = (
        f"error('{model.name} has a row of ' || coalesce(dt::varchar, 'no day')"
        f" || ', which is not among the days that are read for {day}; derive dt from the dt of its sources')"
    )
    is_read = f"dt between date '{read[-1]}' and date '{day}'"
    return (
        f"select * from (\n{model.select}\n)"
        f" where case when {is_read} then dt = date '{day}' else {failure}::boolean end"
    )


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


def models_below(lake: Lake, stream: Stream) -> list[Model]:
    """List the models that read a stream's tables, also through other models, and whose table there is."""
    below = lake.models.models.below({*stream_view_names(stream.name), DAILY_METRICS})
    return [model for model in below if lake.tables.exists(model.name)]


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A model's table and the tables that it reads, as loaded."""

    lake: Lake
    model: Model
    table: Table | None
    """None before it was computed for the first time."""
    sources: Sequence[Source]

    @classmethod
    def load(cls, lake: Lake, model: Model) -> Self:
        """Load the model's table, then those that it reads, so that it is never the newer one."""
        table = lake.tables.load(model.name) if lake.tables.exists(model.name) else None
        return cls(lake, model, table, sources_of_model(lake, model))

    @property
    def changes(self) -> dict[str, dict[date, int]]:
        """When each day of the sources that have days last changed, as the sequence number of the commit."""
        return {source.name: last_changes(source.table, source.column) for source in self.sources if source.column}

    def is_stale(self) -> bool:
        """Return whether a table without partitions was computed from other rows or SQL than there are now, or never."""
        if self.table is None:
            return True
        known = whole_computed_from(self.table)
        return not self.model.definition.matches(known.get(self.model.definition.source)) or any(
            source.has_changed_since(known.get(source.name, -1)) for source in self.sources
        )

    def stale_days(self) -> list[date]:
        """List the days of a partitioned model whose sources or SQL have changed since they were computed, in order."""
        changes = self.changes
        days = {day for changed in changes.values() for day in changed}
        if self.table is None:
            return sorted(days)
        stale = redefined_days(self.table, self.model.definition, days)
        for source in self.sources:
            if source.name not in self.model.header.ignore_changes:
                read = computed_from(self.table, source.table, days)
                latest = self._latest(source, changes)
                stale |= {day for day in days if latest(day) > read.get(day, -1)}
        return sorted(stale - self._not_computable(days))

    def _latest(self, source: Source, changes: Mapping[str, Mapping[date, int]]) -> Callable[[date], int]:
        """Return the function that finds when what a day reads of a source last changed."""
        if source.column is None:
            sequence = source.sequence
            return lambda day: sequence
        changed = changes[source.name]
        return lambda day: max((changed.get(read, -1) for read in days_read(self.model, day)), default=-1)

    def _not_computable(self, days: Collection[date]) -> set[date]:
        """Select the days of whose sources retention has dropped a part, and that were computed before."""
        first = max(filter(None, (_first_kept(self.lake, name) for name in self.model.reads)), default=None)
        if first is None or self.table is None:
            return set()
        old = [day for day in days if days_read(self.model, day)[-1] < first]
        return {*computed_from(self.table, self.model.definition.source, old)}


def is_stale(lake: Lake, model: Model) -> bool:
    """Return whether a model without partitions has to be computed."""
    return LoadedModel.load(lake, model).is_stale()


def stale_days(lake: Lake, model: Model) -> list[date]:
    """List the days of a partitioned model that have to be computed, in order."""
    return LoadedModel.load(lake, model).stale_days()


def _first_kept(lake: Lake, name: str) -> date | None:
    layer = name.partition(".")[0]
    owner = next((stream for stream in lake.streams.values() if name in stream_view_names(stream.name)), None)
    return first_kept_day(owner.contract, cast(Layer, layer)) if owner else None


def ensure_table(lake: Lake, spec: TableSpec) -> None:
    """Create a model's table, or add the columns that it has gained.

    Raises SchemaChangeError if a column is gone or has another type now, or the partitions are others.
    """
    try:
        lake.tables.ensure([spec])
    except SchemaChangeError as error:
        what = str(error).partition(". ")[0].partition("; ")[0]
        remedy = f"To make the table anew, with all of its days: lakehouse models run {spec.name} --replace"
        raise SchemaChangeError(f"{what}. {remedy}") from None


def replace_table_of_model(lake: Lake, spec: TableSpec) -> None:
    """Drop a model's table with its history and files, and create it anew, without rows."""
    if lake.tables.exists(spec.name):
        table = lake.tables.load(spec.name)
        objects = Objects.from_url(lake.connection, table.location())
        keys = [info.key for info in objects.list(object_key(table.location()))]
        lake.tables.catalog.drop_table(spec.name)
        objects.delete(keys)
    lake.tables.ensure([spec])
