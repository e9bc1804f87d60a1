"""The tables of one catalog: creating, evolving and loading them. See `commit` for writing to them."""

from collections.abc import Iterable
from contextlib import suppress

from pyiceberg.catalog import Catalog, load_glue
from pyiceberg.catalog.noop import NoopCatalog
from pyiceberg.exceptions import NamespaceAlreadyExistsError, NoSuchTableError, TableAlreadyExistsError
from pyiceberg.io import load_file_io
from pyiceberg.schema import Schema
from pyiceberg.serializers import FromInputFile
from pyiceberg.table import Table
from pyiceberg.typedef import Identifier

from lakehouse.errors import LakehouseError
from lakehouse.storage.iceberg.catalog import LakehouseCatalog
from lakehouse.storage.iceberg.change_marks import ChangeMarks
from lakehouse.storage.iceberg.errors import translate_catalog_errors
from lakehouse.storage.iceberg.metadata_file_io import MetadataFileIO
from lakehouse.storage.iceberg.retrying_catalog import RetryingCatalog
from lakehouse.storage.iceberg.schema import TableSpec, apply_change, iceberg_schema, partition_spec, plan_change
from lakehouse.storage.objects.connection import Connection

CATALOG_SILENCE_FACTOR = 2
"""How many times longer than an object request a catalog request may take, because a commit does more work."""

NAMESPACES = ("realtime", "bronze", "silver", "quarantine", "gold", "serving")

PROPERTIES = {
    "write.parquet.compression-codec": "zstd",
    "write.metadata.delete-after-commit.enabled": "true",
    "write.metadata.previous-versions-max": "20",
    "write.metadata.metrics.default": "truncate(32)",
    "commit.manifest-merge.enabled": "true",
    "commit.manifest.min-count-to-merge": "16",
    # Eight concurrent writers of one table were seen to need a dozen attempts.
    "commit.retry.num-retries": "20",
    "commit.retry.min-wait-ms": "50",
    "commit.retry.max-wait-ms": "2000",
}

FILE_IO = {"py-io-impl": "lakehouse.storage.iceberg.retrying_file_io.RetryingFileIO"}


def open_version(connection: Connection, name: Identifier, metadata_location: str) -> Table:
    """Open one version of a table by its metadata file, without asking the catalog. It can't be committed to."""
    files = load_file_io({**FILE_IO, **connection.catalog}, metadata_location)
    metadata = FromInputFile.table_metadata(files.new_input(metadata_location))
    return Table(name, metadata, metadata_location, files, NoopCatalog("lakehouse"))


class Tables:
    """The tables of one catalog.

    Every method, and every method of a table that it returns, raises StorageUnavailableError if the catalog does not
    answer.
    """

    def __init__(
        self, connection: Connection, *, metadata_only: bool = False, marks: ChangeMarks | None = None
    ) -> None:
        """Connect to the catalog at first use.

        With `metadata_only`, tables can be asked for metadata and manifests alone, and the first one is there two seconds
        sooner, because the library for data files is not imported. Commits are marked in `marks`.
        """
        self.connection = connection
        # pyiceberg's Glue catalog reads table metadata from S3 itself, through the FileIO that it makes.
        is_rest = connection.catalog["type"] == "rest"
        self._files = MetadataFileIO(connection) if metadata_only and is_rest else None
        self._marks = marks
        self._catalog: LakehouseCatalog | None = None

    @property
    def catalog(self) -> LakehouseCatalog:
        """The catalog, logged in."""
        if self._catalog is None:
            with translate_catalog_errors(self.connection):
                catalog = self._open_catalog()
            self._catalog = LakehouseCatalog(catalog, self.connection, marks=self._marks, files=self._files)
        return self._catalog

    def _open_catalog(self) -> Catalog:
        # pyiceberg's `load_catalog` would mix in PYICEBERG_CATALOG__LAKEHOUSE__* and ~/.pyiceberg.yaml, which are for other
        # tools and may name another lakehouse.
        properties = {**FILE_IO, **self.connection.catalog}
        if properties.pop("type") != "rest":
            return load_glue("lakehouse", properties)
        properties["answer-seconds"] = str(CATALOG_SILENCE_FACTOR * self.connection.silence_seconds)
        if self._files is not None:
            properties["py-io-impl"] = "pyiceberg.io.fsspec.FsspecFileIO"  # never used, and quick to import
        return RetryingCatalog("lakehouse", **properties)

    def load(self, name: str) -> Table:
        """Load the table's current version. Raises LakehouseError if it does not exist."""
        try:
            return self.catalog.load_table(name)
        except NoSuchTableError:
            raise LakehouseError(f"There is no table {name}; `lakehouse bootstrap` creates missing tables.") from None

    def exists(self, name: str) -> bool:
        """Return whether a table exists."""
        return self.catalog.table_exists(name)

    def names(self) -> list[str]:
        """List all tables as `layer.name`, sorted."""
        return sorted(
            ".".join(identifier)
            for (namespace,) in self.catalog.list_namespaces()
            if namespace in NAMESPACES
            for identifier in self.catalog.list_tables(namespace)
        )

    def ensure(self, specs: Iterable[TableSpec]) -> list[str]:
        """Create missing tables and evolve changed ones. Returns what was done, a line for each table.

        Each table is created or evolved in one commit; after a crash between two tables, the next call does the rest.
        Raises SchemaChangeError, before any table is changed, if a table can't be evolved in place.
        """
        wanted = [(spec, iceberg_schema(spec)) for spec in specs]
        self._create_namespaces()
        names = set(self.names())
        existing = {spec.name: self.load(spec.name) for spec, _ in wanted if spec.name in names}
        for spec, schema in wanted:
            if spec.name in existing:
                plan_change(existing[spec.name], spec, schema)
        lines = (self._ensure(spec, schema, existing.get(spec.name)) for spec, schema in wanted)
        return [line for line in lines if line]

    def _create_namespaces(self) -> None:
        # Only those that are missing, because a role may use databases that others made, and create none.
        existing = {namespace for (namespace, *_) in self.catalog.list_namespaces()}
        for namespace in NAMESPACES:
            if namespace not in existing:
                with suppress(NamespaceAlreadyExistsError):  # another process was first
                    self.catalog.create_namespace(namespace)

    def _ensure(self, spec: TableSpec, schema: Schema, table: Table | None) -> str | None:
        if table is None:
            try:
                self._create(spec, schema)
            except TableAlreadyExistsError:
                table = self.load(spec.name)  # another process was first; its table may need a change as any other
            else:
                return f"{spec.name}: created"
        change = plan_change(table, spec, schema)
        if change is None:
            return None
        apply_change(table, change)
        return f"{spec.name}: {change}"

    def _create(self, spec: TableSpec, schema: Schema) -> None:
        properties = {**PROPERTIES, **spec.properties}
        self.catalog.create_table(
            spec.name, schema, self._location(spec), partition_spec(spec, schema), properties=properties
        )

    def _location(self, spec: TableSpec) -> str | None:
        # Glue would derive it from the location of the database, which ours do not have.
        if self.connection.catalog.get("type") == "glue":
            warehouse = self.connection.catalog.get("warehouse", "")
            return f"{warehouse.rstrip('/')}/{spec.name.replace('.', '/')}"
        return None
