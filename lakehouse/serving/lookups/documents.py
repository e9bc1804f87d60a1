"""Render look-ups as the JSON documents that answer requests, many rows at once in DuckDB, when a version is cached.

Rendering one row at request time would take longer than the rest of the answer. Values are as `json_values.to_json` gives
them.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from lakehouse.contracts.in_memory import open_in_memory
from lakehouse.contracts.sql import literal, quote
from lakehouse.errors import LookupFileError
from lakehouse.serving.lookups.declaration import ROWS, Lookup

MEMORY_LIMIT = "512MB"


@dataclass(frozen=True, slots=True)
class Documents:
    """Rendered rows: their ids, and lines of JSON by field. A document is the template with a value between its texts."""

    template: list[str]
    ids: Any
    """A column of texts."""
    lines: list[Any]
    """Columns of lines with their ends: of the ids, then of the values of each field."""


class DocumentRenderer:
    """Render the rows of one look-up."""

    def __init__(self, lookup: Lookup | str) -> None:
        """Create a renderer of a declared look-up, or of that of the stream with this name."""
        self._lookup = lookup
        # One thread keeps rows in their order, and leaves the others to requests.
        self._database = open_in_memory(memory_limit=MEMORY_LIMIT)

    def render(self, rows: pa.RecordBatch) -> Documents:
        """Return the documents of the rows, in their order."""
        self._database.register(ROWS, pa.Table.from_batches([rows]))
        documents = self._database.sql(self._document_sql)
        types = dict(zip(documents.columns, documents.types, strict=True))
        columns, template = self._layout(documents.columns)
        lines = ["to_json(id)", *(_json_sql(quote(name), types[name]) for name in columns)]
        table: Any = documents.project(", ".join(["id", *(f"{line} || chr(10)" for line in lines)])).to_arrow_table()
        ids, *values = (column.combine_chunks().cast(pa.large_string()) for column in table.columns)
        if not ids.equals(rows.column(0).cast(pa.large_string())):
            raise LookupFileError(f"{self._lookup}: the second SELECT must give each row of {ROWS} once, in its place.")
        return Documents(template, ids, values)

    def close(self) -> None:
        """Free the memory."""
        self._database.close()

    @property
    def _document_sql(self) -> str:
        return (self._lookup.document if isinstance(self._lookup, Lookup) else None) or f"from {ROWS}"

    def _layout(self, columns: Sequence[str]) -> tuple[list[str], list[str]]:
        """Return the columns that a document shows, and its template."""
        if isinstance(self._lookup, Lookup):
            shown = [name for name in columns if name != "id" or self._lookup.shows_id]
            return shown, [f"{'{,'[n > 0]}{_json(name)}:" for n, name in enumerate(shown)] + ["}"]
        features = [name for name in columns if name not in ("id", "dt")]
        texts = [f',"features":{{{_json(name)}:' if n == 0 else f",{_json(name)}:" for n, name in enumerate(features)]
        return ["id", "dt", *features], [f'{{"stream":{_json(self._lookup)},"id":', ',"as_of":', *texts, "}}"]


def _json(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def _json_sql(value: str, kind: Any) -> str:
    """Return the JSON text of a value."""
    return f"coalesce(to_json({_value_sql(value, kind, 0)})::varchar, 'null')"


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
