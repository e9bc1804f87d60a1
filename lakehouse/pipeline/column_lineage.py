"""Find which columns each column of a SELECT is computed from, by sqlglot, which reads DuckDB's dialect."""

from collections.abc import Mapping, Sequence
from typing import Any

from lakehouse.contracts.default_sql import Query
from lakehouse.contracts.streams import Stream
from lakehouse.engine.connection import bind
from lakehouse.models.model import Model
from lakehouse.pipeline.table_specs import DAYS_COLUMNS, WINDOWS_COLUMNS, empty_sql
from lakehouse.pipeline.view_names import live_daily
from lakehouse.storage.iceberg.schema import TableSpec

ColumnLineage = Mapping[str, Sequence[tuple[str, str]]]
"""By column, the (table, column) pairs that it is computed from."""


def model_lineage(model: Model, specs: Mapping[str, TableSpec]) -> ColumnLineage:
    """Find the lineage of a model's columns over the tables of `specs`.

    It is empty of a model in Python, and where sqlglot can't follow the SQL.
    """
    if model.function is not None:
        return {}
    found = dict(sql_lineage(model.sql, {name: specs[name].columns for name in model.reads}))
    if found and (history := model.header.history):
        version = found.get(history.version, ())
        found |= dict.fromkeys(("valid_from", "valid_to", "is_current"), version)
    return found


def stream_select(stream: Stream, table: str) -> tuple[str, str] | None:
    """Return the SELECT by which a stream's SQL computes a table or view, and the one that it reads.

    None if it has no SQL of the stream. Raises LakehouseError if the SQL can't be read.
    """
    name = stream.name
    bronze, silver, unified = f"bronze.{name}", f"silver.{name}", f"serving.unified_{name}"
    empty = {"days": empty_sql(DAYS_COLUMNS), "windows": empty_sql(WINDOWS_COLUMNS)}
    selects: Mapping[str, tuple[Query, Mapping[str, str], str]] = {
        silver: ("silver", {"valid": _valid(stream)}, bronze),
        f"gold.{name}_daily": ("gold", {"silver": f"select * from {silver}"}, silver),
        live_daily(name): ("gold", {"silver": f"select * from {unified}"}, unified),
        f"serving.{name}_features": ("features", {"events": f"select * from {silver}", **empty}, silver),
        f"serving.{name}_alerts": ("alerts", {"events": f"select * from {silver}"}, silver),
    }
    if table not in selects:
        return None
    query, inputs, source = selects[table]
    return bind(stream.sql(query), inputs), source


def _valid(stream: Stream) -> str:
    """Generate the SELECT that stands for the casts of the contract: each field from its column of bronze."""
    names = [field.name for field in stream.contract.fields]
    columns = ", ".join(f'"{name}"' for name in (*names, "dt", "_arrived_at"))
    return f"select {columns} from bronze.{stream.name}"


def sql_lineage(sql: str, tables: Mapping[str, Sequence[tuple[str, str]]]) -> ColumnLineage:
    """Find the lineage of a SELECT's columns over these tables, `layer.name` with their columns as (name, type)."""
    # Imported here, because it takes half a second that other runs can save.
    from sqlglot import exp, parse_one
    from sqlglot.errors import SqlglotError
    from sqlglot.lineage import lineage
    from sqlglot.optimizer.qualify import qualify
    from sqlglot.optimizer.scope import build_scope

    schema: dict[str, Any] = {}
    for table, columns in tables.items():
        layer, name = table.split(".")
        schema.setdefault(layer, {})[name] = {column: kind.split("(")[0] for column, kind in columns}
    try:
        query = qualify(
            parse_one(sql, dialect="duckdb"), schema=schema, dialect="duckdb", validate_qualify_columns=False
        )
        scope = build_scope(query)
        if scope is None or not isinstance(query, exp.Query):
            return {}
        found: dict[str, list[tuple[str, str]]] = {}
        for column in query.named_selects:
            nodes = lineage(exp.column(column, quoted=True), query, schema=schema, dialect="duckdb", scope=scope).walk()
            leaves = [(node.expression, node.name) for node in nodes if isinstance(node.expression, exp.Table)]
            sources = [(f"{table.db}.{table.name}", name.rpartition(".")[2].strip('"')) for table, name in leaves]
            found[column] = list(dict.fromkeys(sources))
    except (SqlglotError, ValueError, KeyError, AttributeError):
        return {}
    return found
