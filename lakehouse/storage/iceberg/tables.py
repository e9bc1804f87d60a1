"""Iceberg tables: the catalog, what a table should look like, and making or evolving it so. Commits are in `commit`."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from pyiceberg.catalog import Catalog, load_catalog
from pyiceberg.exceptions import NamespaceAlreadyExistsError, NoSuchTableError, TableAlreadyExistsError
from pyiceberg.partitioning import PartitionField, PartitionSpec
from pyiceberg.schema import Schema
from pyiceberg.table import CommitTableResponse, Table
from pyiceberg.transforms import IdentityTransform
from pyiceberg.types import (
    BooleanType,
    DateType,
    DecimalType,
    DoubleType,
    IcebergType,
    ListType,
    LongType,
    MapType,
    NestedField,
    StringType,
    TimestampType,
)

from lakehouse.errors import LakehouseError, SchemaChangeError
from lakehouse.storage.iceberg.change_marks import Changes
from lakehouse.storage.iceberg.errors import answering, explained
from lakehouse.storage.iceberg.manifests import ManifestFiles
from lakehouse.storage.objects.connection import Connection

ANSWER = 2
"""Of the time that storage may be silent: a commit takes longer than an object."""

NAMESPACES = ("realtime", "bronze", "silver", "quarantine", "gold", "serving")

PROPERTIES = {
    "write.parquet.compression-codec": "zstd",
    "write.metadata.delete-after-commit.enabled": "true",
    "write.metadata.previous-versions-max": "20",
    "write.metadata.metrics.default": "truncate(32)",
    "commit.manifest-merge.enabled": "true",
    "commit.manifest.min-count-to-merge": "16",
    # Other partitions' commits are retried past; eight writers of one table have been seen to need a dozen tries.
    "commit.retry.num-retries": "20",
    "commit.retry.min-wait-ms": "50",
    "commit.retry.max-wait-ms": "2000",
}

_SIMPLE: dict[str, IcebergType] = {
    "VARCHAR": StringType(),
    "BIGINT": LongType(),
    "INTEGER": LongType(),
    "DOUBLE": DoubleType(),
    "BOOLEAN": BooleanType(),
    "DATE": DateType(),
    "TIMESTAMP": TimestampType(),
}
_DECIMAL = re.compile(r"DECIMAL\((\d+),\s*(\d+)\)")


@dataclass(frozen=True, slots=True)
class TableSpec:
    """What a table should look like: its columns as (name, SQL type), and the columns it is partitioned by, as they are."""

    name: str
    columns: tuple[tuple[str, str], ...]
    partition_by: tuple[str, ...]
    descriptions: Mapping[str, str] = field(default_factory=dict)
    properties: Mapping[str, str] = field(default_factory=dict)


class Tables:
    """The tables of one catalog. Whatever is asked of it, and of tables it gave, raises StorageUnavailableError when it does
    not answer.
    """

    def __init__(self, connection: Connection, *, metadata_only: bool = False, changes: Changes | None = None) -> None:
        """With `metadata_only`, tables are good for what their metadata and manifests say, and are there two seconds
        sooner: the library that reads and writes their files is not imported. `changes` is where commits are marked.
        """
        self.connection = connection
        # Glue's tables are read from their files.
        self._manifests = ManifestFiles(connection) if metadata_only and connection.catalog["type"] == "rest" else None
        self._changes = changes
        self._catalog: Catalog | None = None

    @property
    def catalog(self) -> Catalog:
        """The catalog, logged in."""
        if self._catalog is None:
            with answering(self.connection):
                found = load_catalog("lakehouse", **self._properties())
            self._catalog = self._marking(explained(found, self.connection))
        return self._catalog

    def _marking(self, catalog: Catalog) -> Catalog:
        """The catalog, with a mark for each commit to a table: all go through this one method, and no other hook is there.

        One whose answer is lost may have come through.
        """
        commit, changes = catalog.commit_table, self._changes
        if changes is None:
            return catalog

        def marked(table: Table, *arguments: Any) -> CommitTableResponse:
            try:
                return commit(table, *arguments)
            finally:
                changes.mark(".".join(table.name()))

        catalog.commit_table = marked  # type: ignore[method-assign, assignment]
        return catalog

    def _properties(self) -> dict[str, str]:
        properties = {
            "py-io-impl": "lakehouse.storage.iceberg.retrying_file_io.PatientFileIO",
            **self.connection.catalog,
        }
        if properties.get("type") == "rest":
            del properties["type"]
            properties["py-catalog-impl"] = "lakehouse.storage.iceberg.retrying_catalog.PatientCatalog"
            properties["answer-seconds"] = str(ANSWER * self.connection.silence_seconds)
            if self._manifests is not None:
                properties["py-io-impl"] = "pyiceberg.io.fsspec.FsspecFileIO"
        return properties

    def load(self, name: str) -> Table:
        """The table as it is now. Raises LakehouseError when there is none."""
        try:
            found = self.catalog.load_table(name)
        except NoSuchTableError:
            raise LakehouseError(f"There is no table {name}; `lakehouse bootstrap` makes what is missing.") from None
        if self._manifests is None:
            return found
        return Table(found.name(), found.metadata, found.metadata_location, self._manifests, found.catalog)

    def exists(self, name: str) -> bool:
        """Whether there is a table of this name."""
        return self.catalog.table_exists(name)

    def names(self) -> list[str]:
        """Every table as `layer.name`."""
        return sorted(
            ".".join(identifier)
            for (namespace,) in self.catalog.list_namespaces()
            if namespace in NAMESPACES
            for identifier in self.catalog.list_tables(namespace)
        )

    def ensure(self, specs: Iterable[TableSpec]) -> list[str]:
        """Make the tables that are missing, evolve those that changed; returns what was done, a line each.

        Each table is made or evolved whole; who is killed between two leaves the others to the next. Raises
        SchemaChangeError for a change that is not additive; then no table is changed.
        """
        wanted = {spec.name: (spec, iceberg_schema(spec)) for spec in specs}
        for namespace in NAMESPACES:
            try:
                self.catalog.create_namespace(namespace)
            except NamespaceAlreadyExistsError:
                continue
        there = {name: self.load(name) for name in self.names() if name in wanted}
        for name, table in there.items():
            _growth(table, *wanted[name])
        done = (self._ensure(spec, schema, there.get(name)) for name, (spec, schema) in wanted.items())
        return [line for line in done if line]

    def _ensure(self, spec: TableSpec, wanted: Schema, table: Table | None) -> str | None:
        if table is None:
            try:
                self.catalog.create_table(
                    spec.name, wanted, self._location(spec), _partitioning(spec, wanted), properties=_properties(spec)
                )
            except TableAlreadyExistsError:
                pass  # another process was first; what it made is looked at as any table is
            else:
                if self._changes is not None:
                    self._changes.mark(spec.name)
                return f"{spec.name}: made"
        return _evolve(table or self.load(spec.name), spec, wanted)

    def _location(self, spec: TableSpec) -> str | None:
        # Glue derives locations from a database's; a warehouse prefix is all that ours has.
        warehouse = self.connection.catalog.get("warehouse", "")
        if self.connection.catalog.get("type") == "glue":
            return f"{warehouse.rstrip('/')}/{spec.name.replace('.', '/')}"
        return None


def iceberg_type(sql_type: str) -> IcebergType:
    """The Iceberg type of a DuckDB type. Raises LakehouseError for one that tables here do not hold."""
    sql_type = sql_type.upper()
    if sql_type in _SIMPLE:
        return _SIMPLE[sql_type]
    if match := _DECIMAL.fullmatch(sql_type):
        return DecimalType(int(match[1]), int(match[2]))
    if sql_type == "VARCHAR[]":
        return ListType(element_id=-1, element=StringType(), element_required=False)
    if sql_type == "MAP(VARCHAR, VARCHAR)":
        return MapType(key_id=-1, key_type=StringType(), value_id=-1, value_type=StringType(), value_required=False)
    allowed = ", ".join([*map(str.lower, _SIMPLE), "decimal(p,s)", "varchar[]", "map(varchar, varchar)"])
    raise LakehouseError(f"type {sql_type.lower()} can't be kept in a table; cast to one of {allowed}")


def iceberg_schema(spec: TableSpec) -> Schema:
    """The spec's columns as an Iceberg schema with ids from 1. All are optional: what is required is in the contract,
    and DuckDB writes no other columns.
    """
    fields: list[NestedField] = []
    next_id = len(spec.columns)
    for number, (name, sql_type) in enumerate(spec.columns, start=1):
        try:
            field_type = iceberg_type(sql_type)
        except LakehouseError as problem:
            raise LakehouseError(f"{spec.name}.{name}: {problem}") from problem
        if isinstance(field_type, ListType):
            next_id += 1
            field_type = ListType(next_id, StringType(), element_required=False)
        elif isinstance(field_type, MapType):
            next_id += 2
            field_type = MapType(next_id - 1, StringType(), next_id, StringType(), value_required=False)
        fields.append(NestedField(number, name, field_type, required=False, doc=spec.descriptions.get(name) or None))
    return Schema(*fields)


def field_ids(schema: Schema) -> dict[str, Any]:
    """DuckDB's FIELD_IDS of a schema: ids by column, nested as DuckDB's Parquet writer wants them."""
    ids: dict[str, Any] = {}
    for column in schema.fields:
        kind = column.field_type
        if isinstance(kind, ListType):
            ids[column.name] = {"__duckdb_field_id": column.field_id, "element": kind.element_id}
        elif isinstance(kind, MapType):
            ids[column.name] = {"__duckdb_field_id": column.field_id, "key": kind.key_id, "value": kind.value_id}
        else:
            ids[column.name] = column.field_id
    return ids


def _properties(spec: TableSpec) -> dict[str, str]:
    return {**PROPERTIES, **spec.properties}


def _partitioning(spec: TableSpec, schema: Schema) -> PartitionSpec:
    return PartitionSpec(
        *(
            PartitionField(schema.find_field(name).field_id, 1000 + number, IdentityTransform(), name)
            for number, name in enumerate(spec.partition_by)
        )
    )


def _growth(table: Table, spec: TableSpec, wanted: Schema) -> tuple[list[NestedField], list[NestedField]]:
    """The columns to add and those to widen. Raises SchemaChangeError where that does not make the table what is wanted."""
    current = table.schema()
    partitioned_by = tuple(f.name for f in table.spec().fields)
    if partitioned_by != spec.partition_by:
        raise SchemaChangeError(
            f"{spec.name} is partitioned by {partitioned_by}, not by {spec.partition_by}; make a new table."
        )
    kept = {column.name for column in wanted.fields}
    if gone := [column.name for column in current.fields if column.name not in kept]:
        raise SchemaChangeError(
            f"{spec.name}: column {', '.join(gone)} is gone from its contract or SQL. Only additions can be made in place: "
            "bring it back (it may stay null), or load the stream under a new name."
        )
    present = {column.name: column for column in current.fields}
    added = [column for column in wanted.fields if column.name not in present]
    widened = []
    for column in wanted.fields:
        if column.name in present and (before := present[column.name].field_type) != column.field_type:
            if _same_but_ids(before, column.field_type):
                continue
            if not _widens(before, column.field_type):
                raise SchemaChangeError(
                    f"{spec.name}.{column.name}: {before} can't become {column.field_type} in place. A decimal may gain digits "
                    "before the point; for anything else add a field with a new name."
                )
            widened.append(column)
    return added, widened


def _evolve(table: Table, spec: TableSpec, wanted: Schema) -> str | None:
    """Add new columns and widen types in place."""
    added, widened = _growth(table, spec, wanted)
    if not added and not widened:
        return None
    with table.update_schema() as update:
        for column in added:
            update.add_column(column.name, column.field_type, doc=column.doc)
        for column in widened:
            update.update_column(column.name, column.field_type)
    return f"{spec.name}: " + ", ".join(
        [f"added {c.name}" for c in added] + [f"widened {c.name} to {c.field_type}" for c in widened]
    )


def _same_but_ids(before: IcebergType, after: IcebergType) -> bool:
    return type(before) is type(after) and isinstance(before, ListType | MapType)


def _widens(before: IcebergType, after: IcebergType) -> bool:
    """Whether Iceberg may promote the type in place, https://iceberg.apache.org/spec/#schema-evolution."""
    return (
        isinstance(before, DecimalType)
        and isinstance(after, DecimalType)
        and before.scale == after.scale
        and before.precision <= after.precision
    )
