"""Which columns a SELECT hands on as they are. What it computes is not known here."""

from collections.abc import Collection
from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sqlglot.optimizer.scope import Scope

PLACE = "_place"
"""A column beside the input's own, by which a row of the output is told to be that row of the input."""


@cache
def handed_on(sql: str, source: str, columns: tuple[str, ...]) -> Collection[str]:
    """Those of `columns` that every row of `sql` has from the row of `source` that it has `PLACE` from.

    Where that can't be told, none.
    """
    from sqlglot import parse_one  # half a second, for whoever writes a stream's tables alone
    from sqlglot.errors import SqlglotError
    from sqlglot.optimizer.qualify import qualify
    from sqlglot.optimizer.scope import build_scope

    schema: dict[str, object] = {source: dict.fromkeys((*columns, PLACE), "text")}
    try:
        tree: Any = qualify(
            parse_one(sql, dialect="duckdb"), dialect="duckdb", schema=schema, validate_qualify_columns=False
        )
        scope = build_scope(tree)
    except SqlglotError:
        return frozenset()
    way = scope and _way(scope, PLACE, source)
    if scope is None or way is None:
        return frozenset()
    return frozenset(name for name in columns if _way(scope, name, source) == way)


def _way(scope: "Scope", name: str, source: str) -> tuple[str, ...] | None:
    """The names under which the SELECTs know what they have a column from, from the outermost to `source`."""
    from sqlglot import exp

    if not isinstance(scope.expression, exp.Select):
        return None
    found = [one.unalias() for one in scope.expression.selects if one.alias_or_name == name]
    if len(found) != 1 or not isinstance(found[0], exp.Column) or found[0].name != name:
        return None
    known = found[0].table
    origin: Any = scope.sources.get(known)
    if isinstance(origin, exp.Table):
        return (known,) if origin.name == source else None
    rest = _way(origin, name, source) if origin is not None else None
    return None if rest is None else (known, *rest)
