"""Render look-ups as the JSON documents that answer requests, many rows at once in DuckDB, when a version is cached.

Rendering one row at request time would take longer than the rest of the answer. Values are as `json_values.to_json` gives
them.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import pyarrow as pa

from lakehouse.contracts.in_memory import open_in_memory
from lakehouse.contracts.sql import literal, quote
from lakehouse.errors import LookupFileError
from lakehouse.serving.lookups.declaration import ROWS, Lookup
from lakehouse.serving.lookups.index import SCHEMA

MEMORY_LIMIT = "512MB"


class DocumentRenderer:
    """Render the rows of one look-up."""

    def __init__(self, lookup: Lookup | str) -> None:
        """Create a renderer of a declared look-up, or of that of the stream with this name."""
        self._lookup = lookup
        self._path = lookup.path if isinstance(lookup, Lookup) else lookup
        # One thread keeps rows in their order, and leaves the others to requests.
        self._database = open_in_memory(memory_limit=MEMORY_LIMIT)

    def render(self, rows: pa.RecordBatch) -> pa.RecordBatch:
        """Return the id and the JSON document of each row, in their order, in the columns of SCHEMA."""
        self._database.register(ROWS, pa.Table.from_batches([rows]))
        documents = self._database.sql(_documents_sql(self._lookup, rows.schema.names))
        fields = [*zip(documents.columns, documents.types, strict=True)]
        if isinstance(self._lookup, Lookup) and not self._lookup.shows_id:
            fields = [field for field in fields if field[0] != "id"]
        table: Any = documents.project(f"id, to_json({_struct_sql(fields)})::varchar").to_arrow_table()
        if not table.column(0).combine_chunks().equals(rows.column(0).cast(table.schema.types[0])):
            raise LookupFileError(f"{self._path}: the second SELECT must give each row of {ROWS} once, in its place.")
        columns = [table.column(number).combine_chunks().cast(field.type) for number, field in enumerate(SCHEMA)]
        return pa.RecordBatch.from_arrays(columns, schema=SCHEMA)

    def close(self) -> None:
        """Free the memory."""
        self._database.close()


def _documents_sql(lookup: Lookup | str, columns: Sequence[str]) -> str:
    """Return a SELECT of a document's fields, and of `id`, from the rows of a look-up."""
    if isinstance(lookup, Lookup):
        return lookup.document or f"from {ROWS}"
    features = ", ".join(f"{quote(column)}: {quote(column)}" for column in columns if column not in ("id", "dt"))
    return f"select {literal(lookup)} as stream, id, dt as as_of, {{{features}}} as features from {ROWS}"


def _struct_sql(fields: Iterable[tuple[str, Any]], parent: str = "", depth: int = 0) -> str:
    """Return a struct of these columns, or of these fields of the struct `parent`, as JSON holds them."""
    prefix = f"{parent}." if parent else ""
    return (
        "{"
        + ", ".join(f"{quote(name)}: {_value_sql(prefix + quote(name), kind, depth)}" for name, kind in fields)
        + "}"
    )


def _value_sql(value: str, kind: Any, depth: int) -> str:
    """Return a value as DuckDB's `to_json` must be given it. `depth` counts the lambdas around it."""
    match kind.id:
        case "decimal":
            # DuckDB writes no digit before the point for a type that has none there.
            return f"regexp_replace({value}::varchar, '^(-?)[.]', '\\10.')"
        case "double" | "float":
            return f"case when isfinite({value}) then {value} end"
        case "timestamp":
            return _timestamp_sql(value)
        case "timestamp with time zone":
            return _timestamp_sql(f"timezone('UTC', {value})")
        case "blob":
            return f"lower(hex({value}))"
        case "list":
            item = f"item_{depth}"
            return f"list_transform({value}, lambda {item}: {_value_sql(item, kind.children[0][1], depth + 1)})"
        case "map":
            item = f"item_{depth}"
            entry_value = _value_sql(f"{item}.value", kind.children[1][1], depth + 1)
            entry = f"{{key: {item}.key::varchar, value: {entry_value}}}"
            return f"map_from_entries(list_transform(map_entries({value}), lambda {item}: {entry}))"
        case "struct":
            return f"case when {value} is not null then {_struct_sql(kind.children, value, depth)} end"
        case _:
            return value


def _timestamp_sql(value: str) -> str:
    """Return a time as ISO 8601 with a Z, and with six digits of a fraction where there is one, as Python writes it."""
    whole, fraction = literal("%Y-%m-%dT%H:%M:%SZ"), literal("%Y-%m-%dT%H:%M:%S.%fZ")
    return (
        f"case when epoch_us({value}) % 1000000 = 0 then strftime({value}, {whole})"
        f" else strftime({value}, {fraction}) end"
    )
