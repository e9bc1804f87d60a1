"""The rules for SQL that users send: one SELECT over the tables and views it is given, and nothing that reaches further.

A statement is judged as DuckDB itself parses it. Table functions must be on a list. A name that is no table is rejected,
because DuckDB would read it as a file. The database that runs it is locked down as well, see `lockdown_sql`.
Imports little, because the worker processes start with it.
"""

import json
import re
from collections.abc import Callable, Collection, Iterable, Iterator
from typing import Any

import duckdb

from lakehouse.errors import QueryError

TABLE_FUNCTIONS = frozenset({"range", "generate_series", "unnest", "repeat", "repeat_row", "json_each", "json_tree"})

FORBIDDEN_FUNCTIONS = re.compile(
    r"getenv|current_setting|getvariable|set_config|write_log|nextval|currval|which_secret|(json_)?execute.*"
    r"|json_serialize_plan|query(_table)?|read_.*|.*_scan|sniff_.*|glob|parse_duckdb_log_message|sleep_ms"
    r"|pg_(?!typeof$).*|duckdb_.*|pragma_.*|inet_.*|enable_.*|disable_.*|force_.*|in_search_path|add_parquet_key",
    re.IGNORECASE,
)
"""Functions that reveal the server, run text as SQL, or wait."""

EXPLAIN = re.compile(r"\s*explain\b(\s+analyze\b)?(\s*\(\s*(analyze|format)\b[^()]*\))?", re.IGNORECASE)

SHOW_TABLES = re.compile(r"\s*(?:show\s+(?:all\s+)?tables(?:\s+from\s+(\w+))?|describe)\s*;?\s*", re.IGNORECASE)

CTE_NAME = re.compile(r"(?!duckdb_|pg_|pragma_|sqlite_|information_schema)\w+", re.IGNORECASE)
"""Names of common table expressions: none that DuckDB could take for a file or for one of its own views."""

MAX_SQL_CHARACTERS = 256 << 10


class ForbiddenQueryError(QueryError):
    """A statement reads, but reaches beyond the tables and views. Only a process of the user's own may run it."""


def check_query(cursor: duckdb.DuckDBPyConnection, sql: str, tables: Collection[str]) -> None:
    """Raise QueryError unless this is one SELECT (or EXPLAIN, DESCRIBE or SUMMARIZE of one) of these tables.

    `tables` are lower-case `schema.name`. Raises ForbiddenQueryError where it would read, and reaches beyond them.
    """
    check_length(sql)
    check_read_only(sql)
    explain = EXPLAIN.match(sql)
    row = cursor.execute("select json_serialize_sql(?::varchar)", [sql[explain.end() :] if explain else sql]).fetchone()
    tree = json.loads((row or ["{}"])[0])
    if tree.get("error"):
        raise QueryError(f"This can't be run here: {tree.get('error_message')}")
    nodes = list(_nodes(tree))
    cte_names = {name.lower() for node in nodes for name in _cte_names(node)}
    for node in nodes:
        _check_node(node, tables, cte_names)


def resolve_show_tables(sql: str, tables: Callable[[], Iterable[str]]) -> str:
    """Replace SHOW TABLES with a SELECT of these names, because DuckDB lists only those of one schema.

    Returns any other statement as it is, without asking for the names.
    """
    show = SHOW_TABLES.fullmatch(sql)
    if show is None:
        return sql
    layer = (show[1] or "").lower()
    names = ", ".join(f"'{name}'" for name in sorted(tables()) if not layer or name.startswith(f"{layer}."))
    return f"select unnest([{names}]::varchar[]) as name"


def check_length(sql: str) -> None:
    """Raise QueryError for a statement of more than MAX_SQL_CHARACTERS."""
    if len(sql) > MAX_SQL_CHARACTERS:
        raise QueryError(f"A query may have at most {MAX_SQL_CHARACTERS:,} characters. This one has {len(sql):,}.")


def lockdown_sql(directories: Collection[str]) -> list[str]:
    """Return the statements after which a database reads below these directories and nowhere else, whatever it is asked."""
    allowed = ", ".join("'" + directory.replace("'", "''") + "'" for directory in directories)
    return [
        f"set allowed_directories = [{allowed}]",
        "set enable_external_access = false",
        "set allow_community_extensions = false",
        "set lock_configuration = true",
    ]


def check_read_only(sql: str) -> None:
    """Raise QueryError unless this is one statement that reads, or that explains one."""
    kind = _statement_type(sql)
    if kind == duckdb.StatementType.EXPLAIN and (explain := EXPLAIN.match(sql)):
        # EXPLAIN ANALYZE runs what it explains.
        kind = _statement_type(sql[explain.end() :])
    if kind != duckdb.StatementType.SELECT:
        raise QueryError(f"Only reading is allowed: write a SELECT. This is {kind.name.lower()}.")


def _statement_type(sql: str) -> duckdb.StatementType:
    try:
        statements = duckdb.extract_statements(sql)
    except duckdb.Error as error:
        raise QueryError(str(error)) from error
    if len(statements) > 1 and all(not statement.query for statement in statements):
        # DuckDB parses it into several, the first of which would look the values up.
        raise QueryError("PIVOT needs its values here: write PIVOT … ON column IN ('a', 'b').")
    if len(statements) != 1:
        raise QueryError(f"Send one statement at a time. This is {len(statements)}.")
    return statements[0].type


def _nodes(tree: Any) -> Iterator[dict[str, Any]]:
    """Yield all objects of a JSON tree, the outer ones first."""
    waiting = [tree]
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict):
            yield value
            waiting.extend(value.values())
        elif isinstance(value, list):
            waiting.extend(value)


def _cte_names(node: dict[str, Any]) -> Iterator[str]:
    """Yield the names of the common table expressions that a node defines."""
    for entry in (node.get("cte_map") or {}).get("map", []):
        name = entry["key"]
        if not CTE_NAME.fullmatch(name):
            raise QueryError(f"{name!r} can't be the name of a WITH: use letters, digits and underscores.")
        yield name


def _check_node(node: dict[str, Any], tables: Collection[str], cte_names: Collection[str]) -> None:
    match node.get("type"):
        case "BASE_TABLE":
            _check_table(node, tables, cte_names)
        case "TABLE_FUNCTION":
            name = str(node["function"].get("function_name")).lower()
            if name not in TABLE_FUNCTIONS:
                allowed = ", ".join(sorted(TABLE_FUNCTIONS))
                raise ForbiddenQueryError(
                    f"{name}() is not allowed here. The functions that return rows are {allowed}."
                )
        case "SHOW_REF" if not node.get("query"):
            raise ForbiddenQueryError(
                "This SHOW is not allowed here. List tables with SHOW TABLES and their columns with DESCRIBE."
            )
    called = node.get("function_name")
    if called is not None and FORBIDDEN_FUNCTIONS.fullmatch(str(called)):
        raise ForbiddenQueryError(f"{called}() is not allowed here: it reaches beyond the data.")


def _check_table(node: dict[str, Any], tables: Collection[str], cte_names: Collection[str]) -> None:
    schema, name = str(node.get("schema_name", "")).lower(), str(node.get("table_name", "")).lower()
    if schema == "information_schema":
        raise ForbiddenQueryError(
            "Of information_schema, only tables, columns and schemata can be read here. List tables with SHOW TABLES, columns"
            " with DESCRIBE."
        )
    is_known = f"{schema}.{name}" in tables if schema else name in cte_names
    if not is_known or node.get("catalog_name"):
        parts = (node.get("catalog_name"), node.get("schema_name"), node.get("table_name"))
        written = ".".join(str(part) for part in parts if part)
        names = [str(part) for part in parts[1:] if part]
        is_plain = not node.get("catalog_name") and all(map(CTE_NAME.fullmatch, names))
        raise (QueryError if is_plain else ForbiddenQueryError)(f"Table with name {written} does not exist!")
    if node.get("at_clause"):
        raise QueryError(f"{schema}.{name}: AT takes version => a snapshot's id, or timestamp => 'a time'.")
