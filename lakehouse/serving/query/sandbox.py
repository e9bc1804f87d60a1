"""What SQL that people send may say: one SELECT over the tables and views it is given, and nothing that reaches out.

The statement is judged as DuckDB itself has parsed it. Table functions are allowed by name; names that are no tables are
refused, for DuckDB takes those for files. The database it runs in is closed as well, see `lockdown_sql`.
Imports next to nothing, for the processes that run queries start with it.
"""

import json
import re
from collections.abc import Collection, Iterator
from typing import Any

import duckdb

from lakehouse.errors import QueryError

TABLE_FUNCTIONS = frozenset({"range", "generate_series", "unnest", "repeat", "repeat_row", "json_each", "json_tree"})

FORBIDDEN = re.compile(
    r"getenv|current_setting|getvariable|set_config|write_log|nextval|currval|which_secret|(json_)?execute.*"
    r"|json_serialize_plan|query(_table)?|read_.*|.*_scan|sniff_.*|glob|parse_duckdb_log_message|sleep_ms"
    r"|pg_(?!typeof$).*|duckdb_.*|pragma_.*|inet_.*|enable_.*|disable_.*|force_.*|in_search_path|add_parquet_key",
    re.IGNORECASE,
)
"""Functions that tell of the server, run text as SQL, or wait."""

EXPLAIN = re.compile(r"\s*explain\b(\s+analyze\b)?(\s*\(\s*(analyze|format)\b[^()]*\))?", re.IGNORECASE)

PLAIN_NAME = re.compile(r"(?!duckdb_|pg_|pragma_|sqlite_|information_schema)\w+", re.IGNORECASE)
"""Names of common table expressions: none that could be a file or one of DuckDB's own views."""

MAX_SQL_CHARACTERS = 256 << 10
"""Characters of a statement."""


def check(cursor: duckdb.DuckDBPyConnection, sql: str, tables: Collection[str]) -> None:
    """Raises QueryError unless it is one SELECT (or EXPLAIN, DESCRIBE or SUMMARIZE of one) of these tables.

    `tables` are lower-case `schema.name`.
    """
    if len(sql) > MAX_SQL_CHARACTERS:
        raise QueryError(f"A query may have {MAX_SQL_CHARACTERS:,} characters; this one has {len(sql):,}.")
    refuse_writing(sql)
    explain = EXPLAIN.match(sql)
    found = cursor.execute("select json_serialize_sql(?::varchar)", [sql[explain.end() :] if explain else sql])
    parsed = json.loads((found.fetchone() or ["{}"])[0])
    if parsed.get("error"):
        raise QueryError(f"This can't be run here: {parsed.get('error_message')}")
    nodes = list(_nodes(parsed))
    expressions = {name.lower() for node in nodes for name in _expressions(node)}
    for node in nodes:
        _check_node(node, tables, expressions)


def lockdown_sql(directories: Collection[str]) -> list[str]:
    """The statements after which a database reads below these places and nowhere else, whatever it is asked."""
    places = ", ".join("'" + place.replace("'", "''") + "'" for place in directories)
    return [
        f"set allowed_directories = [{places}]",
        "set enable_external_access = false",
        "set allow_community_extensions = false",
        "set lock_configuration = true",
    ]


def refuse_writing(sql: str) -> None:
    """Raises QueryError unless this is one statement that reads, or that explains one."""
    kind = _kind(sql)
    if kind == duckdb.StatementType.EXPLAIN and (explain := EXPLAIN.match(sql)):
        # EXPLAIN ANALYZE runs what it explains.
        kind = _kind(sql[explain.end() :])
    if kind != duckdb.StatementType.SELECT:
        raise QueryError(f"Only reading is allowed: write a SELECT; this is {kind.name.lower()}.")


def _kind(sql: str) -> duckdb.StatementType:
    try:
        statements = duckdb.extract_statements(sql)
    except duckdb.Error as problem:
        raise QueryError(str(problem)) from problem
    if len(statements) != 1:
        raise QueryError(f"One statement is run at a time; this is {len(statements)}.")
    return statements[0].type


def _nodes(value: Any) -> Iterator[dict[str, Any]]:
    """All objects within, the outer ones first."""
    waiting = [value]
    while waiting:
        one = waiting.pop()
        if isinstance(one, dict):
            yield one
            waiting.extend(one.values())
        elif isinstance(one, list):
            waiting.extend(one)


def _expressions(node: dict[str, Any]) -> Iterator[str]:
    """The names of the common table expressions that a node brings."""
    for entry in (node.get("cte_map") or {}).get("map", []):
        name = entry["key"]
        if not PLAIN_NAME.fullmatch(name):
            raise QueryError(f"{name!r} can't be the name of a WITH: use letters, digits and underscores.")
        yield name


def _check_node(node: dict[str, Any], tables: Collection[str], expressions: Collection[str]) -> None:
    match node.get("type"):
        case "BASE_TABLE":
            _check_table(node, tables, expressions)
        case "TABLE_FUNCTION":
            name = str(node["function"].get("function_name")).lower()
            if name not in TABLE_FUNCTIONS:
                allowed = ", ".join(sorted(TABLE_FUNCTIONS))
                raise QueryError(f"{name}() is not allowed here; of the functions that give rows there are {allowed}.")
        case "SHOW_REF" if not node.get("query"):
            raise QueryError("SHOW is not allowed here; GET /v1/tables lists what there is, DESCRIBE its columns.")
    called = node.get("function_name")
    if called is not None and FORBIDDEN.fullmatch(str(called)):
        raise QueryError(f"{called}() is not allowed here: it reaches beyond the data.")


def _check_table(node: dict[str, Any], tables: Collection[str], expressions: Collection[str]) -> None:
    schema, name = str(node.get("schema_name", "")).lower(), str(node.get("table_name", "")).lower()
    known = f"{schema}.{name}" in tables if schema else name in expressions
    if not known or node.get("catalog_name"):
        parts = (node.get("catalog_name"), node.get("schema_name"), node.get("table_name"))
        written = ".".join(str(part) for part in parts if part)
        raise QueryError(f"Table with name {written} does not exist!")
    if node.get("at_clause"):
        raise QueryError(f"{schema}.{name}: AT takes version => a snapshot's number, or timestamp => 'a time'.")
