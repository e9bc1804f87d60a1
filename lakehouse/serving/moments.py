"""What the lake holds at a moment: every table at one snapshot, taken together and looked up again every second.

Whoever reads reads one moment, so that what belongs together fits together however long the reading takes.
"""

import asyncio
import logging
import threading
import time
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property

from pyiceberg.table import Table

from lakehouse.contracts.streams import Stream
from lakehouse.errors import LakehouseError
from lakehouse.layers.lake import Lake
from lakehouse.layers.views import tables_of, view_exists, view_sql
from lakehouse.serving.query import mentioned

log = logging.getLogger(__name__)

EVERY = 1.0
"""Seconds between looks at the catalog."""

CLOSE_SECONDS = 5.0
"""To wait at the end for a look that a catalog keeps waiting."""


class Pinned:
    """Tables as they were: what a catalog says, without asking it again."""

    def __init__(self, tables: Mapping[str, Table]) -> None:
        self._tables = tables

    def load(self, name: str) -> Table:
        """The table. Raises LakehouseError when there is none."""
        try:
            return self._tables[name]
        except KeyError:
            raise LakehouseError(f"There is no table {name}; `lakehouse bootstrap` makes what is missing.") from None

    def exists(self, name: str) -> bool:
        """Whether there is a table of this name."""
        return name in self._tables

    def names(self) -> list[str]:
        """Every table as `layer.name`."""
        return sorted(self._tables)

    def locations(self) -> dict[str, str]:
        """Each table's metadata file, which tells whether it has changed."""
        return {name: table.metadata_location for name, table in self._tables.items()}


@dataclass(frozen=True)
class Moment:
    """The lake as it was then; never changes. Good wherever a lake is only read: it has `streams` and `tables`."""

    number: int
    """Grows with every change."""
    streams: Mapping[str, Stream] = field(repr=False)
    tables: Pinned = field(repr=False)

    @cached_property
    def snapshots(self) -> Mapping[str, int | None]:
        """The current snapshot of each table; None for one that never had any."""
        return {name: self.tables.load(name).metadata.current_snapshot_id for name in self.tables.names()}

    def snapshots_of(self, names: Iterable[str]) -> dict[str, int | None]:
        """The snapshots of the tables behind these names."""
        return {table: self.snapshots.get(table) for name in names for table in tables_of(self, name)}

    def only(self, names: Collection[str]) -> "Moment":
        """The same moment without all other tables; those behind its views stay out of sight too."""
        return replace(
            self, tables=Pinned({name: self.tables.load(name) for name in self.tables.names() if name in names})
        )

    def views(self, sql: str) -> dict[str, str]:
        """The SELECT behind each table and view that a statement names."""
        return {name: view_sql(self, name) for name in sorted(mentioned(sql)) if view_exists(self, name)}


class Moments:
    """Keeps the latest moment; a thread looks at the catalog."""

    def __init__(self, lake: Lake) -> None:
        self.lake = lake
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="moments", daemon=True)
        self._changed = threading.Lock()
        self._latest = Moment(0, lake.streams, Pinned({}))

    def start(self) -> None:
        """Take the first moment, then look again and again. Raises StorageUnavailableError."""
        self.refresh()
        self._thread.start()

    def close(self) -> None:
        """Stop looking."""
        self._ended.set()
        if self._thread.is_alive():
            self._thread.join(CLOSE_SECONDS)

    @property
    def latest(self) -> Moment:
        """The newest moment known; at most some seconds old."""
        return self._latest

    def refresh(self) -> Moment:
        """Look at the catalog now. Raises StorageUnavailableError."""
        with self._changed:
            tables = Pinned({name: self.lake.tables.load(name) for name in self.lake.tables.names()})
            if tables.locations() != self._latest.tables.locations():
                self._latest = Moment(self._latest.number + 1, self.lake.streams, tables)
            return self._latest

    async def refreshed(self) -> Moment:
        """As `refresh`, off the event loop."""
        return await asyncio.to_thread(self.refresh)

    def _watch(self) -> None:
        while not self._ended.wait(EVERY):
            begun = time.monotonic()
            try:
                self.refresh()
            except LakehouseError as problem:
                log.warning("the catalog can't be looked at: %s", problem)
            except Exception:
                log.exception("the catalog can't be looked at")
            # A slow catalog is not asked all the time.
            self._ended.wait(time.monotonic() - begun)
