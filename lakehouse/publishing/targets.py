"""A warehouse as publishing sees it; see `warehouses` for the kinds there are."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

import duckdb

from lakehouse.publishing.dialects import Columns, Dialect

WHOLE = "whole"
"""The name of the one partition of a table without days."""


@dataclass(frozen=True, slots=True)
class Version:
    """A version of a partition: of which table, and the sequence number of the commit that changed it last."""

    table_uuid: str
    sequence: int


@dataclass(frozen=True, slots=True)
class Load:
    """A row of the ledger: which version of a partition the warehouse holds."""

    partition: str
    """A day, or `whole`."""
    version: Version
    snapshot_id: int
    """The snapshot of the table that was read."""
    rows: int
    checksum: str
    """Of the partition's measures, see `dialects.measures`."""
    at: datetime


@dataclass(frozen=True, slots=True)
class Published:
    """A table in a warehouse: its name in the lake, its columns, and the column of its days if it has any."""

    name: str
    columns: Columns
    by: str | None

    @property
    def layer(self) -> str:
        """The schema of the table, which has the name of the layer."""
        return self.name.partition(".")[0]

    @property
    def short_name(self) -> str:
        """The table's name in its schema."""
        return self.name.partition(".")[2]


class Target(Protocol):
    """A warehouse. Its ledger is a table there, so it can't disagree with the rows that it is about."""

    dialect: Dialect

    def published(self) -> Sequence[str]:
        """List the tables that the ledger names."""
        ...

    def loads(self, table: str) -> Mapping[str, Load]:
        """Return the ledger's newest load of each partition of a table."""
        ...

    def prepare(self, table: Published) -> list[str]:
        """Create the table, or add and widen its columns. Returns what was done, a line for each change.

        Raises LakehouseError if there is such a table with rows that were not published.
        """
        ...

    def replace(self, table: Published, load: Load, cursor: duckdb.DuckDBPyConnection, select: str) -> None:
        """Replace a partition by the rows of a SELECT, with the ledger's row, all at once or not at all."""
        ...

    def measure(self, table: Published, partitions: Iterable[str]) -> Mapping[str, tuple[Any, ...]]:
        """Return the measures of partitions, see `dialects.measures`. One without rows may be missing."""
        ...
