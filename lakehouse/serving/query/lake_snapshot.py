"""One consistent view of the lake: every table at one snapshot, plus the hot tail of that time.

A query reads one `LakeSnapshot` from start to end, so that its tables agree however long it takes.
See `snapshot_tracker` for how the newest one is kept.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from types import MappingProxyType

from pyiceberg.table import Table

from lakehouse.contracts.streams import Stream
from lakehouse.errors import LakehouseError, UnreadableTableError
from lakehouse.models.model import Model
from lakehouse.pipeline.live_gold import LiveRows
from lakehouse.pipeline.unified_view import source_tables, view_exists, view_sql
from lakehouse.serving.query.sql import names_mentioned

UncoveredHours = Mapping[str, Sequence[str] | None]
"""By stream, the hours of realtime of which silver may lack a key; None is all of them."""


class PinnedTables:
    """Tables as they were loaded, so that the catalog is not asked again."""

    def __init__(self, tables: Mapping[str, Table], unreadable: Mapping[str, str] = MappingProxyType({})) -> None:
        """`unreadable` says why some of the tables can't be read."""
        self._tables = tables
        self._unreadable = unreadable

    def load(self, name: str) -> Table:
        """Return the table. Raises UnreadableTableError if it can't be read, and LakehouseError when there is none."""
        if reason := self._unreadable.get(name):
            raise UnreadableTableError(reason)
        try:
            return self._tables[name]
        except KeyError:
            raise LakehouseError(f"There is no table {name}. Create missing tables with: lakehouse bootstrap") from None

    def exists(self, name: str) -> bool:
        """Return whether there is a table of this name."""
        return name in self._tables

    def names(self) -> list[str]:
        """Return the name of every table as `layer.name`."""
        return sorted(self._tables)

    def with_tables(self, tables: Mapping[str, Table]) -> "PinnedTables":
        """Return the same tables with these added or replaced."""
        return PinnedTables({**self._tables, **tables})

    def without(self, unreadable: Mapping[str, str]) -> "PinnedTables":
        """Return the same tables with some marked as unreadable. `unreadable` has the reasons by table name."""
        return PinnedTables(self._tables, unreadable)

    def locations(self) -> dict[str, str]:
        """Return the metadata file of each table. It changes with every commit."""
        return {name: table.metadata_location for name, table in self._tables.items()}


@dataclass(frozen=True)
class LakeSnapshot:
    """The lake at one time. Never changes, and can be read wherever a lake can: it has `streams` and `tables`."""

    number: int
    """Grows with every change."""
    streams: Mapping[str, Stream] = field(repr=False)
    tables: PinnedTables = field(repr=False)
    tail: Mapping[str, tuple[str, ...]] = field(repr=False)
    """By stream, the hot tail's files: rows that landed after what the realtime tables hold."""
    hours: UncoveredHours = field(default_factory=dict, repr=False)
    """The hours of realtime that must be read; a stream that is missing needs all of them."""

    live_rows: Mapping[str, LiveRows] = field(default_factory=dict, repr=False)
    """By stream, the rows of live gold that are computed already; see `live_gold`."""

    live_models: Mapping[str, Model] = field(default_factory=dict, repr=False)
    """The models that have a live view, by its name."""

    @cached_property
    def snapshot_ids(self) -> Mapping[str, int | None]:
        """The id of each table's current snapshot; None for a table without one."""
        return {name: self.tables.load(name).metadata.current_snapshot_id for name in self.tables.names()}

    def uncovered(self, stream: Stream, silver: Table, realtime: Table) -> Sequence[str] | None:
        """Return the hours of this snapshot's realtime of which its silver may lack a key; None is all of them."""
        return self.hours.get(stream.name)

    def snapshot_ids_of(self, names: Iterable[str]) -> dict[str, int | None]:
        """Return the snapshot ids of the tables behind these tables and views."""
        return {table: self.snapshot_ids.get(table) for name in names for table in source_tables(self, name)}

    def table_version(self, names: Iterable[str]) -> str:
        """Return a text that changes with the tables behind these names, and with the SQL of live models."""
        names = sorted(names)
        models = [self.live_models[name].definition.number for name in names if name in self.live_models]
        return repr((sorted(self.snapshot_ids_of(names).items()), models))

    def tail_version(self, names: Iterable[str]) -> str:
        """Return a text that changes with the hot tail behind these names."""
        tables = {table for name in names for table in source_tables(self, name)}
        streams = sorted(name.partition(".")[2] for name in tables if name.startswith("realtime."))
        return repr([self.tail.get(stream, ()) for stream in streams])

    def only(self, names: Collection[str]) -> "LakeSnapshot":
        """Return the same snapshot without any other table. A table behind a view of these names is hidden too."""
        visible = {name: self.tables.load(name) for name in self.tables.names() if name in names}
        return replace(self, tables=PinnedTables(visible))

    def views(self, sql: str, unreadable: Mapping[str, str] = MappingProxyType({})) -> dict[str, str]:
        """Return the SELECT behind each table and view that a statement names.

        Raises UnreadableTableError for one of a table that can't be read. `unreadable` has the reasons that are known.
        """
        lake = replace(self, tables=self.tables.without(unreadable)) if unreadable else self
        return {name: view_sql(lake, name) for name in sorted(names_mentioned(sql)) if view_exists(lake, name)}
