"""The Iceberg catalog: pyiceberg's, with this package's errors and change marks. See `tables` for what is kept in it."""

from typing import TYPE_CHECKING

from pyiceberg.catalog import Catalog
from pyiceberg.catalog.noop import NoopCatalog
from pyiceberg.io import FileIO
from pyiceberg.partitioning import UNPARTITIONED_PARTITION_SPEC, PartitionSpec
from pyiceberg.schema import Schema
from pyiceberg.table import CommitTableResponse, Table
from pyiceberg.table.sorting import UNSORTED_SORT_ORDER, SortOrder
from pyiceberg.table.update import TableRequirement, TableUpdate
from pyiceberg.typedef import EMPTY_DICT, Identifier, Properties

from lakehouse.storage.durability import sync
from lakehouse.storage.iceberg.change_marks import ChangeMarks
from lakehouse.storage.iceberg.errors import translate_catalog_errors
from lakehouse.storage.objects.connection import Connection

if TYPE_CHECKING:
    import pyarrow as pa


def qualified_name(table: Table) -> str:
    """Return a table's name as `layer.name`."""
    return ".".join(table.name())


class LakehouseCatalog(NoopCatalog):
    """A catalog around one of pyiceberg's, with the methods that tables and their transactions use.

    Every method raises StorageUnavailableError if the catalog does not answer, and so do the tables that it returns,
    because they refresh and commit through it. Each commit is marked in `marks`. `files`, if given, reads the files of
    the tables in place of the wrapped catalog's own FileIO.
    """

    def __init__(
        self,
        catalog: Catalog,
        connection: Connection,
        *,
        marks: ChangeMarks | None = None,
        files: FileIO | None = None,
    ) -> None:
        super().__init__(catalog.name, **catalog.properties)
        self._catalog = catalog
        self._connection = connection
        self._marks = marks
        self._files = files

    def load_table(self, identifier: str | Identifier) -> Table:
        """Load a table. Raises NoSuchTableError."""
        with translate_catalog_errors(self._connection):
            return self._adopt(self._catalog.load_table(identifier))

    def table_exists(self, identifier: str | Identifier) -> bool:
        """Return whether a table exists."""
        with translate_catalog_errors(self._connection):
            return self._catalog.table_exists(identifier)

    def create_table(
        self,
        identifier: str | Identifier,
        schema: "Schema | pa.Schema",
        location: str | None = None,
        partition_spec: PartitionSpec = UNPARTITIONED_PARTITION_SPEC,
        sort_order: SortOrder = UNSORTED_SORT_ORDER,
        properties: Properties = EMPTY_DICT,
    ) -> Table:
        """Create a table. Raises TableAlreadyExistsError."""
        with translate_catalog_errors(self._connection):
            created = self._catalog.create_table(
                identifier, schema, location, partition_spec, sort_order, properties=properties
            )
        self._mark(created)
        return self._adopt(created)

    def commit_table(
        self, table: Table, requirements: tuple[TableRequirement, ...], updates: tuple[TableUpdate, ...]
    ) -> CommitTableResponse:
        """Commit updates to a table. Raises CommitFailedException if a requirement does not hold.

        What the commit refers to survives a power cut before the table's pointer moves, and the pointer when this returns.
        """
        sync(self._connection)
        try:
            with translate_catalog_errors(self._connection):
                response = self._catalog.commit_table(table, requirements, updates)
            sync(self._connection)
            return response
        finally:
            self._mark(table)  # because a commit whose answer was lost may have succeeded

    def drop_table(self, identifier: str | Identifier) -> None:
        """Drop a table. Raises NoSuchTableError."""
        with translate_catalog_errors(self._connection):
            self._catalog.drop_table(identifier)

    def list_tables(self, namespace: str | Identifier) -> list[Identifier]:
        """List the tables of a namespace."""
        with translate_catalog_errors(self._connection):
            return self._catalog.list_tables(namespace)

    def list_namespaces(self, namespace: str | Identifier = ()) -> list[Identifier]:
        """List the namespaces in a namespace, by default the top-level ones."""
        with translate_catalog_errors(self._connection):
            return self._catalog.list_namespaces(namespace)

    def create_namespace(self, namespace: str | Identifier, properties: Properties = EMPTY_DICT) -> None:
        """Create a namespace. Raises NamespaceAlreadyExistsError."""
        with translate_catalog_errors(self._connection):
            self._catalog.create_namespace(namespace, properties)

    def _adopt(self, table: Table) -> Table:
        return Table(table.name(), table.metadata, table.metadata_location, self._files or table.io, self, table.config)

    def _mark(self, table: Table) -> None:
        if self._marks is not None:
            self._marks.mark(qualified_name(table))
