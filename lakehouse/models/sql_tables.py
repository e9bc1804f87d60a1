"""Find the tables that a SELECT reads, as DuckDB parses it."""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import duckdb

_NAME = re.compile(rb'(?:"[^"]*"|\w+)\s*\.\s*(?:"[^"]*"|[\w\x80-\xff]+)')
"""A table with its layer, as SQL writes it."""


@dataclass(frozen=True, slots=True)
class SqlTable:
    """A table that a SELECT names, and the line on which it does."""

    name: str
    """As `layer.name` in lower case, or without a layer as written."""
    line: int


class SqlError(ValueError):
    """A text is not one SELECT."""

    def __init__(self, message: str, line: int) -> None:
        super().__init__(message)
        self.line = line


def tables_read(database: duckdb.DuckDBPyConnection, sql: str) -> list[SqlTable]:
    """List the tables that a SELECT reads, without its common table expressions. Raises SqlError with the line."""
    row = database.execute("select json_serialize_sql(?::varchar)", [sql]).fetchone()
    tree = json.loads(row[0] if row else "{}")
    if tree.get("error"):
        if tree.get("error_type") == "not implemented":
            raise SqlError("must be one SELECT", 1)
        raise SqlError(str(tree.get("error_message")), _line(sql, int(tree.get("position") or 0)))
    if len(tree.get("statements", ())) != 1:
        raise SqlError("must be one SELECT", 1)
    nodes = list(_nodes(tree))
    defined = {entry["key"].lower() for node in nodes for entry in (node.get("cte_map") or {}).get("map", ())}
    tables = dict[str, SqlTable]()
    for node in nodes:
        if node.get("type") == "BASE_TABLE":
            catalog, schema, table = node["catalog_name"], node["schema_name"], node["table_name"]
            if not schema and table.lower() in defined:
                continue
            name = ".".join(filter(None, (catalog, schema, table)))
            name = name.lower() if schema else name
            tables.setdefault(name, SqlTable(name, _line(sql, node.get("query_location") or 0)))
    return [*tables.values()]


def bind_tables(database: duckdb.DuckDBPyConnection, sql: str, names: Mapping[str, str]) -> str:
    """Return a SELECT in which other names stand for the tables that it reads, `layer.name` in lower case in `names`.

    Each keeps the alias by which the rest of the SELECT knows it. Raises SqlError if a table can't be found in the text.
    """
    row = database.execute("select json_serialize_sql(?::varchar)", [sql]).fetchone()
    text = sql.encode()  # DuckDB counts bytes
    places = {}
    for node in _nodes(json.loads(row[0] if row else "{}")):
        if node.get("type") == "BASE_TABLE" and node["schema_name"]:
            name = f"{node['schema_name']}.{node['table_name']}".lower()
            if name in names:
                places[int(node["query_location"])] = (name, node)
    for start in sorted(places, reverse=True):
        name, node = places[start]
        written = _NAME.match(text, start)
        if written is None:
            raise SqlError(f"{name} can't be found in the text", _line(sql, start))
        alias = "" if node["alias"] else f' as "{node["table_name"]}"'
        text = text[:start] + f'"{names[name]}"{alias}'.encode() + text[written.end() :]
    return text.decode()


def _nodes(tree: Any) -> Iterator[dict[str, Any]]:
    if isinstance(tree, dict):
        yield tree
    for part in tree.values() if isinstance(tree, dict) else tree if isinstance(tree, list) else ():
        yield from _nodes(part)


def _line(sql: str, position: int) -> int:
    # DuckDB counts bytes.
    return sql.encode()[:position].count(b"\n") + 1
