"""Find the columns that a SELECT passes through unchanged from its input. It parses SQL and runs none."""

from collections.abc import Collection
from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sqlglot.optimizer.scope import Scope

ROW_MARKER = "_place"
"""A column added to the input, which tells which input row an output row comes from."""


@cache
def passed_through(sql: str, source: str, columns: tuple[str, ...]) -> Collection[str]:
    """Select the `columns` that each output row has from the same row of `source` as its `ROW_MARKER`.

    Empty if the SQL can't be analysed.
    """
    from sqlglot import parse_one  # takes half a second, and only writers of silver need it
    from sqlglot.errors import SqlglotError
    from sqlglot.optimizer.qualify import qualify
    from sqlglot.optimizer.scope import build_scope

    schema: dict[str, object] = {source: dict.fromkeys((*columns, ROW_MARKER), "text")}
    try:
        tree: Any = qualify(
            parse_one(sql, dialect="duckdb"), dialect="duckdb", schema=schema, validate_qualify_columns=False
        )
        scope = build_scope(tree)
    except SqlglotError:
        return frozenset()
    path = scope and _path(scope, ROW_MARKER, source)
    if scope is None or path is None:
        return frozenset()
    return frozenset(name for name in columns if _path(scope, name, source) == path)


def _path(scope: "Scope", name: str, source: str) -> tuple[str, ...] | None:
    """Trace a column to `source`: the alias of its table in each SELECT, outermost first. None if it is computed."""
    from sqlglot import exp

    if not isinstance(scope.expression, exp.Select):
        return None
    selected = [column.unalias() for column in scope.expression.selects if column.alias_or_name == name]
    if len(selected) != 1 or not isinstance(selected[0], exp.Column) or selected[0].name != name:
        return None
    alias = selected[0].table
    origin: Any = scope.sources.get(alias)
    if isinstance(origin, exp.Table):
        return (alias,) if origin.name == source else None
    rest = _path(origin, name, source) if origin is not None else None
    return None if rest is None else (alias, *rest)
