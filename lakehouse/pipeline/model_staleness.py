"""Find which days of models have to be computed, from the metadata of their tables and of those that they read."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Self, cast

from pyiceberg.table import Table

from lakehouse.models.model import Model
from lakehouse.pipeline.lake import Lake
from lakehouse.pipeline.lineage.properties import computed_from, whole_computed_from
from lakehouse.pipeline.lineage.retention import Layer, first_kept_day
from lakehouse.pipeline.lineage.staleness import last_changes, redefined_days
from lakehouse.pipeline.model_days import days_read
from lakehouse.pipeline.model_inputs import Source, sources_of_model
from lakehouse.pipeline.readable_lake import ReadableLake
from lakehouse.pipeline.view_names import stream_view_names


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A model's table and the tables that it reads, as loaded."""

    lake: ReadableLake
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


def _first_kept(lake: ReadableLake, name: str) -> date | None:
    layer = name.partition(".")[0]
    owner = next((stream for stream in lake.streams.values() if name in stream_view_names(stream.name)), None)
    return first_kept_day(owner.contract, cast(Layer, layer)) if owner else None
