"""`information_schema` in SQL: which tables and columns a query may read, and nothing of the database that runs it.

A statement gets views of its own in place of DuckDB's. They show empty views with the columns of the tables, so nothing is
read from storage, and no table is shown that the query may not read.
"""

import hashlib
import re
from collections.abc import Iterable

from lakehouse.contracts.sql import literal, quote
from lakehouse.pipeline.readable_lake import ReadableLake
from lakehouse.pipeline.unified_view import columns_of_view

CATALOG = "memory"
"""The name of the catalog, as in a database of `connect()`."""

SHAPES = "shape_"
"""The start of the schemas with the empty views; a layer's name follows."""

_COLUMNS = {
    "tables": ("table_catalog", "table_schema", "table_name"),
    "columns": ("table_catalog", "table_schema", "table_name"),
    "schemata": ("catalog_name", "schema_name", None),
}
"""The views of information_schema that can be read, each with its columns of the catalog, the schema and the table."""

_NAME = re.compile(r"\binformation_schema\b", re.IGNORECASE)


def resolve_information_schema(lake: ReadableLake, sql: str, names: Iterable[str]) -> tuple[str, dict[str, str]]:
    """Replace `information_schema.tables`, `.columns` and `.schemata` by views of these tables and views.

    Returns the statement, and each view's SELECT by its name. The other views of information_schema stay as they are.
    """
    if not _NAME.search(sql):
        return sql, {}
    names = sorted(names)
    schema = f"described_{hashlib.sha256(' '.join(names).encode()).hexdigest()[:16]}"
    text = _replace(sql, schema)
    if text == sql:
        return sql, {}
    shapes = {f"{SHAPES}{name}": _shape(lake, name) for name in names}
    return text, shapes | {f"{schema}.{view}": _select(view, names) for view in _COLUMNS}


def _replace(sql: str, schema: str) -> str:
    from sqlglot import tokenize  # takes half a second, which only such statements should pay
    from sqlglot.errors import SqlglotError

    try:
        tokens = tokenize(sql, read="duckdb")
    except SqlglotError:
        return sql  # DuckDB has the better message
    parts, copied = list[str](), 0
    for position, token in enumerate(tokens):
        following = [token.text.lower() for token in tokens[position + 1 : position + 3]]
        before = tokens[position - 1].text if position else ""
        is_name = token.text.lower() == "information_schema" and token.token_type.name != "STRING"
        if is_name and before != "." and len(following) == 2 and following[0] == "." and following[1] in _COLUMNS:
            parts += [sql[copied : token.start], schema]
            copied = token.end + 1
    return "".join([*parts, sql[copied:]])


def _shape(lake: ReadableLake, name: str) -> str:
    columns = ", ".join(f"null::{kind} as {quote(column)}" for column, kind in columns_of_view(lake, name))
    return f"select {columns} limit 0"


def _select(view: str, names: Iterable[str]) -> str:
    """Generate the SELECT of one view of information_schema."""
    catalog, schema, table = _COLUMNS[view]
    shown = {name if table else name.partition(".")[0] for name in names}
    key = f"{schema} || '.' || {table}" if table else schema
    keys = ", ".join(literal(f"{SHAPES}{name}") for name in sorted(shown)) or "null"
    return f"""select * replace (
  {literal(CATALOG)} as {catalog},
  substr({schema}, {len(SHAPES) + 1}) as {schema}
)
from information_schema.{view}
where {catalog} = current_database() and {key} in ({keys})"""
