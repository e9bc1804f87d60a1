"""The contents of the catalog at one moment: its entries, and the lineage between them and their columns."""

from collections.abc import Collection
from dataclasses import dataclass, field

from lakehouse.pipeline.column_lineage import ColumnLineage
from lakehouse.serving.catalog.column_sources import column_sources
from lakehouse.serving.catalog.definitions import Definitions
from lakehouse.serving.catalog.entries import Entries
from lakehouse.serving.query.lake_snapshot import LakeSnapshot


@dataclass(frozen=True)
class Contents:
    """The entries of one moment."""

    snapshot: LakeSnapshot
    definitions: Definitions
    entries: Entries
    lineages: dict[str, ColumnLineage] = field(default_factory=dict)
    """The lineage of the columns of entries, where it has been asked for."""

    def columns_of(self, name: str) -> ColumnLineage:
        """Return the columns that each column of an entry is computed from."""
        if name not in self.lineages:
            self.lineages[name] = column_sources(self.entries, self.definitions, self.entries[name])
        return self.lineages[name]

    def reads(self, allowed: Collection[str]) -> dict[str, list[str]]:
        """Return what each of these entries reads of them."""
        return {
            name: [read for read in self.entries[name].reads if read in allowed]
            for name in self.entries
            if name in allowed
        }

    def column_edges(self, names: Collection[str]) -> dict[str, list[str]]:
        """Return the columns that each column of these entries is computed from, all as `layer.name.column`."""
        return {
            f"{name}.{column}": [f"{source}.{of}" for source, of in sources if source in names]
            for name in names
            for column, sources in self.columns_of(name).items()
        }
