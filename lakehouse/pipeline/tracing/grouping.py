"""Find out by which values a row of a SELECT over one table can be told to be made of a row of that table."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

ORIGIN = "origin"
"""The name that the table has in the expressions."""


@dataclass(frozen=True, slots=True)
class Grouping:
    """A row is made of all rows of the table that meet `where`, and whose expressions equal the row's columns."""

    where: str | None = None
    columns: Mapping[str, str] = field(default_factory=dict)
    """By column of the SELECT, the expression over ORIGIN that it equals."""


def find_grouping(sql: str, columns: Sequence[str]) -> Grouping | None:
    """Find the grouping of a SELECT over one table of these columns.

    None if its rows can't be told apart by their values: it joins, has a subquery, a window or a limit, groups by what it
    does not return, or can't be parsed.
    """
    # Imported here, because it takes half a second that other commands can save.
    from sqlglot import exp, parse_one
    from sqlglot.errors import SqlglotError

    try:
        tree = parse_one(sql, dialect="duckdb")
    except SqlglotError:
        return None
    opaque = (
        *(exp.With, exp.Join, exp.Subquery, exp.SetOperation, exp.Window, exp.Qualify, exp.Limit, exp.Offset),
        *(exp.Unnest, exp.Explode, exp.Lateral, exp.Pivot, exp.TableSample, exp.Values),
        *(exp.Rand, exp.CurrentDate, exp.CurrentTimestamp, exp.CurrentTime),
    )
    if not isinstance(tree, exp.Select) or tree.find(*opaque):
        return None
    if len(list(tree.find_all(exp.Select))) != 1 or len(list(tree.find_all(exp.Table))) != 1:
        return None
    selected = _selected(tree, columns)
    keys = None if selected is None else _keys(tree, selected, {name.lower() for name in columns})
    if keys is None:
        return None
    where = tree.args.get("where")
    return Grouping(
        where=None if where is None else _over_origin(where.this),
        columns={name: _over_origin(key) for name, key in keys.items()},
    )


def _selected(tree: Any, columns: Sequence[str]) -> dict[str, Any] | None:
    """Return the expression of each column that a SELECT returns; None if a star has changes."""
    from sqlglot import exp

    selected: dict[str, Any] = {}
    for item in tree.expressions:
        if isinstance(item, exp.Star):
            if any(item.args.values()):
                return None
            selected |= {name: exp.column(name, quoted=True) for name in columns}
        elif item.find(exp.Star) and not item.find(exp.AggFunc):
            return None
        else:
            selected[item.alias_or_name] = item.unalias()
    return selected


def _keys(tree: Any, selected: Mapping[str, Any], columns: set[str]) -> dict[str, Any] | None:
    """Choose the columns of a SELECT that tell its rows apart: those that it groups by, or all if it does not group."""
    from sqlglot import exp

    group = tree.args.get("group")
    single = {name: item for name, item in selected.items() if not item.find(exp.AggFunc)}
    if group is None or group.args.get("all"):
        # A function that sqlglot does not know may be an aggregate.
        if any(item.find(exp.Anonymous, exp.AnonymousAggFunc) for item in single.values()):
            return None
        return {} if group is None and len(single) < len(selected) else single
    if any(group.args.get(kind) for kind in ("cube", "rollup", "grouping_sets", "totals")):
        return None
    by_text = {_over_origin(item): name for name, item in single.items()}
    items, keys = [*selected.values()], dict[str, Any]()
    for key in group.expressions:
        if isinstance(key, exp.Literal) and key.is_int:
            key = items[int(key.this) - 1]
        elif isinstance(key, exp.Column) and not key.table and key.name.lower() not in columns:
            key = next((item for name, item in selected.items() if name.lower() == key.name.lower()), key)
        name = by_text.get(_over_origin(key))
        if name is None:
            return None
        keys[name] = key
    return keys


def _over_origin(expression: Any) -> str:
    """Write an expression with all of its columns as columns of ORIGIN."""
    from sqlglot import exp

    def qualified(node: Any) -> Any:
        return exp.column(node.name.lower(), ORIGIN, quoted=True) if isinstance(node, exp.Column) else node

    return str(expression.copy().transform(qualified).sql(dialect="duckdb", comments=False))
