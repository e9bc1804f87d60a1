"""A lake as its readers need it: `Lake` itself, or a snapshot that the serving process keeps."""

from collections.abc import Mapping, Sequence
from typing import Protocol

from pyiceberg.table import Table

from lakehouse.contracts.streams import Stream
from lakehouse.models.model import Model
from lakehouse.pipeline.live_gold import LiveRows


class TableCatalog(Protocol):
    """Tables by name, as of now or of an earlier moment."""

    def load(self, name: str) -> Table:
        """Load a table. Raises LakehouseError if there is none of this name."""

    def exists(self, name: str) -> bool:
        """Return whether there is a table of this name."""

    def names(self) -> list[str]:
        """List every table as `layer.name`."""


class ReadableLake(Protocol):
    """A lake, or a snapshot of it, as far as the views need it."""

    @property
    def streams(self) -> Mapping[str, Stream]:
        """All streams by name."""

    @property
    def tables(self) -> TableCatalog:
        """All tables."""

    @property
    def tail(self) -> Mapping[str, Sequence[str]]:
        """The hot tail: by stream, Parquet files of rows that are in no table yet."""

    @property
    def live_rows(self) -> Mapping[str, LiveRows]:
        """By stream, the rows of live gold that are computed already; the others are computed by each query."""

    @property
    def live_models(self) -> Mapping[str, Model]:
        """The models that have a live view, by its name; see `live_models`."""

    def uncovered(self, stream: Stream, silver: Table, realtime: Table) -> Sequence[str] | None:
        """Return the hours of realtime that may have a key that silver lacks, of both tables as loaded; None for all hours."""
