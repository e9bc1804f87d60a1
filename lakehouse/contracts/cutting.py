"""Find how a stream's day can be cut into pieces that its SQL computes apart. It parses SQL and runs none."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

from lakehouse.contracts.model import Contract

if TYPE_CHECKING:
    from sqlglot import exp
    from sqlglot.optimizer.scope import Scope

SOURCE = "valid"
"""The table that a stream's silver SQL reads."""


@dataclass(frozen=True, slots=True)
class Cut:
    """How a day of a stream is cut: rows with equal values in `columns` are in one piece."""

    columns: tuple[str, ...]
    within_key: bool
    """Whether rows with one key then are in one piece too. If not, the latest row of each key has to be found first."""


@cache
def find_cut(contract: Contract, silver_sql: str) -> Cut | None:
    """Find the columns to cut a day by: those that every window and aggregate of the SQL shares. None if it can't be cut.

    SQL that computes each row from one row is cut by the key.
    """
    shared = shared_columns(silver_sql, (*(field.name for field in contract.fields), "dt", "_arrived_at"))
    if shared is None:
        return None
    if not shared:
        return Cut(contract.key, within_key=True)
    of_key = tuple(name for name in contract.key if name in shared)
    return Cut(of_key or tuple(sorted(shared)), within_key=bool(of_key))


def shared_columns(sql: str, columns: tuple[str, ...]) -> frozenset[str] | None:
    """Select the columns of `SOURCE`, besides `dt`, whose equal values the SQL reads together.

    Empty if it computes each row from one row. None if it may need all rows of a day, or can't be analysed.
    """
    from sqlglot import exp, parse_one  # takes half a second, and few commands need it
    from sqlglot.errors import SqlglotError
    from sqlglot.optimizer.qualify import qualify
    from sqlglot.optimizer.scope import build_scope

    schema: dict[str, object] = {SOURCE: dict.fromkeys(columns, "text")}
    try:
        tree: Any = qualify(
            parse_one(sql, dialect="duckdb"), dialect="duckdb", schema=schema, validate_qualify_columns=False
        )
        root = build_scope(tree)
    except SqlglotError:
        return None
    tables = [table.name for table in tree.find_all(exp.Table)]
    if root is None or len(tables) != len(set(tables)):  # a table that is read twice is joined with itself
        return None
    shared: frozenset[str] | None = None
    scopes = [*_scopes_of_source(root)]
    if not scopes or not all(map(_keeps_rows_apart, scopes)):
        return None
    for scope in scopes:
        for group in _groups(scope):
            names = frozenset(name for column in group if (name := _origin(scope, column)) and name != "dt")
            shared = names if shared is None else shared & names
    return shared or (frozenset() if shared is None else None)


def keeps_rows(sql: str) -> bool:
    """Return whether the SQL gives one row for each row of `SOURCE`, whatever other rows there are."""
    from sqlglot import exp, parse_one
    from sqlglot.errors import SqlglotError
    from sqlglot.optimizer.scope import build_scope

    try:
        root = build_scope(parse_one(sql, dialect="duckdb"))
    except SqlglotError:
        return False
    if root is None:
        return False
    changing = ("where", "having", "qualify", "group", "distinct", "limit", "offset", "sample", "joins")
    selects = [scope.expression for scope in _scopes_of_source(root)]
    return bool(selects) and not any(
        any(select.args.get(clause) for clause in changing) or select.find(exp.Explode, exp.Unnest)
        for select in selects
    )


def _scopes_of_source(scope: "Scope") -> "Iterator[Scope]":
    """Give the SELECTs that the rows of `SOURCE` go through, outermost first; none if there are others or it is not read."""
    from sqlglot import exp

    if not isinstance(scope.expression, exp.Select):
        return
    clause = scope.expression.args.get("from_") or scope.expression.args.get("from")
    origin = scope.sources.get(clause.this.alias_or_name) if clause else None
    if isinstance(origin, exp.Table):
        if origin.name == SOURCE:
            yield scope
        return
    inner = [*_scopes_of_source(origin)] if origin is not None else []
    if inner:
        yield scope
        yield from inner


def _keeps_rows_apart(scope: "Scope") -> bool:
    """Return whether a SELECT joins at most constants, which can't add a row, and does not count off its rows."""
    select: Any = scope.expression
    # DuckDB has aggregates that sqlglot takes for plain functions. It refuses them beside a plain column.
    if not select.args.get("group") and not any(_origin(scope, column.unalias()) for column in select.selects):
        return False
    if any(select.args.get(clause) for clause in ("limit", "offset", "sample")):
        return False
    if select.args.get("distinct") is not None or any(table.args.get("sample") for table in scope.tables):
        return False
    joins = select.args.get("joins") or []
    return all(
        (join.side, join.kind) in {("", ""), ("", "INNER"), ("", "CROSS"), ("LEFT", ""), ("LEFT", "OUTER")}
        and not join.method
        for join in joins
    )


def _groups(scope: "Scope") -> "Iterator[list[exp.Expr]]":
    """Give what each window and the aggregate of a SELECT groups its rows by."""
    from sqlglot import exp

    named = {window.name.lower(): window for window in scope.expression.args.get("windows") or []}
    windows = [*scope.find_all(exp.Window)]
    for window in windows:
        reference = window.args.get("alias")
        of_name = named.get(reference.name.lower()) if reference is not None else None
        yield [*(window.args.get("partition_by") or (of_name.args.get("partition_by") if of_name else None) or [])]
    group = scope.expression.args.get("group")
    if group is not None:
        plain = not any(group.args.get(kind) for kind in ("cube", "rollup", "grouping_sets", "totals", "all"))
        yield [*group.expressions] if plain else []
    elif any(not isinstance(aggregate.parent, exp.Window) for aggregate in scope.find_all(exp.AggFunc)):
        yield []


def _origin(scope: "Scope", column: "exp.Expr") -> str | None:
    """Trace a column to its name in `SOURCE`; None if it is computed or from elsewhere."""
    from sqlglot import exp

    if not isinstance(column, exp.Column):
        return None
    origin: Any = scope.sources.get(column.table)
    if isinstance(origin, exp.Table):
        return column.name if origin.name == SOURCE else None
    if origin is None or not isinstance(origin.expression, exp.Select):
        return None
    selected = [select.unalias() for select in origin.expression.selects if select.alias_or_name == column.name]
    return _origin(origin, selected[0]) if len(selected) == 1 else None
