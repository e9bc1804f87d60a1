"""Table specifications and schemas: from SQL types to Iceberg types, and from one schema to the next."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pyiceberg.partitioning import PartitionField, PartitionSpec
from pyiceberg.schema import Schema
from pyiceberg.table import Table
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

from lakehouse.errors import ContractError, SchemaChangeError

_FIRST_PARTITION_FIELD_ID = 1000

_SIMPLE_TYPES: dict[str, IcebergType] = {
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
    """The specification of a table."""

    name: str
    """As `layer.name`."""
    columns: tuple[tuple[str, str], ...]
    """As (name, SQL type)."""
    partition_by: tuple[str, ...]
    """Columns whose values, unchanged, are the partition."""
    descriptions: Mapping[str, str] = field(default_factory=dict)
    """Of columns, by name."""
    properties: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class SchemaChange:
    """The columns to add and widen so that a table has the specified schema."""

    added: tuple[NestedField, ...]
    widened: tuple[NestedField, ...]

    def __str__(self) -> str:
        added = [f"added {column.name}" for column in self.added]
        widened = [f"widened {column.name} to {column.field_type}" for column in self.widened]
        return ", ".join(added + widened)


def iceberg_type(sql_type: str) -> IcebergType:
    """Convert a DuckDB type to an Iceberg type. Raises ContractError for a type that tables do not support."""
    sql_type = sql_type.upper()
    if sql_type in _SIMPLE_TYPES:
        return _SIMPLE_TYPES[sql_type]
    if match := _DECIMAL.fullmatch(sql_type):
        return DecimalType(int(match[1]), int(match[2]))
    if sql_type == "VARCHAR[]":
        return ListType(element_id=-1, element=StringType(), element_required=False)
    if sql_type == "MAP(VARCHAR, VARCHAR)":
        return MapType(key_id=-1, key_type=StringType(), value_id=-1, value_type=StringType(), value_required=False)
    supported = ", ".join([*map(str.lower, _SIMPLE_TYPES), "decimal(p,s)", "varchar[]", "map(varchar, varchar)"])
    raise ContractError(f"type {sql_type.lower()} can't be stored in a table; cast to one of {supported}")


def iceberg_schema(spec: TableSpec) -> Schema:
    """Convert the spec's columns to an Iceberg schema with ids from 1. Raises ContractError as `iceberg_type` does.

    All columns are optional because DuckDB writes no others; the contract checks which values are required.
    """
    fields: list[NestedField] = []
    next_id = len(spec.columns)
    for number, (name, sql_type) in enumerate(spec.columns, start=1):
        try:
            field_type = iceberg_type(sql_type)
        except ContractError as error:
            raise ContractError(f"{spec.name}.{name}: {error}") from error
        if isinstance(field_type, ListType):
            next_id += 1
            field_type = ListType(next_id, StringType(), element_required=False)
        elif isinstance(field_type, MapType):
            next_id += 2
            field_type = MapType(next_id - 1, StringType(), next_id, StringType(), value_required=False)
        fields.append(NestedField(number, name, field_type, required=False, doc=spec.descriptions.get(name) or None))
    return Schema(*fields)


def partition_spec(spec: TableSpec, schema: Schema) -> PartitionSpec:
    """Build the Iceberg partition spec for a table with this schema."""
    return PartitionSpec(
        *(
            PartitionField(
                schema.find_field(name).field_id, _FIRST_PARTITION_FIELD_ID + number, IdentityTransform(), name
            )
            for number, name in enumerate(spec.partition_by)
        )
    )


def field_ids(schema: Schema) -> dict[str, Any]:
    """Return the field ids of a schema by column, nested as the option FIELD_IDS of DuckDB's Parquet writer."""
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


def plan_change(table: Table, spec: TableSpec, schema: Schema) -> SchemaChange | None:
    """Find what turns the table's schema into `schema`, which is that of `spec`; None if nothing is to change.

    Raises SchemaChangeError if the table can't be changed to it in place.
    """
    current = table.schema()
    partitioned_by = tuple(part.name for part in table.spec().fields)
    if partitioned_by != spec.partition_by:
        raise SchemaChangeError(
            f"{spec.name} is partitioned by {partitioned_by}, not by {spec.partition_by}; make a new table."
        )
    specified = {column.name for column in schema.fields}
    if removed := [column.name for column in current.fields if column.name not in specified]:
        raise SchemaChangeError(
            f"{spec.name}: column {', '.join(removed)} is gone from its contract or SQL. Columns can only be added in "
            "place: bring it back (it may stay null), or load the stream under a new name."
        )
    types = {column.name: column.field_type for column in current.fields}
    added = tuple(column for column in schema.fields if column.name not in types)
    widened = tuple(
        column for column in schema.fields if column.name in types and _must_widen(spec, column, types[column.name])
    )
    return SchemaChange(added, widened) if added or widened else None


def apply_change(table: Table, change: SchemaChange) -> None:
    """Add and widen columns in one commit."""
    with table.update_schema() as update:
        for column in change.added:
            update.add_column(column.name, column.field_type, doc=column.doc)
        for column in change.widened:
            update.update_column(column.name, column.field_type)


def _must_widen(spec: TableSpec, column: NestedField, current: IcebergType) -> bool:
    """Return whether a column's type changes. Raises SchemaChangeError if it can't change in place."""
    if current == column.field_type or _differ_in_ids_only(current, column.field_type):
        return False
    if not _can_widen(current, column.field_type):
        raise SchemaChangeError(
            f"{spec.name}.{column.name}: {current} can't become {column.field_type} in place. A decimal may gain digits "
            "before the point; for anything else add a field with a new name."
        )
    return True


def _differ_in_ids_only(current: IcebergType, wanted: IcebergType) -> bool:
    return type(current) is type(wanted) and isinstance(current, ListType | MapType)


def _can_widen(current: IcebergType, wanted: IcebergType) -> bool:
    """Return whether Iceberg may promote the type in place, https://iceberg.apache.org/spec/#schema-evolution."""
    return (
        isinstance(current, DecimalType)
        and isinstance(wanted, DecimalType)
        and current.scale == wanted.scale
        and current.precision <= wanted.precision
    )
