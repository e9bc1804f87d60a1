"""Recognise `features.sql` in its documented form: each day is summed once for each entity, then joined with `windows`.

SQL of this form computes an entity's features from its own rows alone. So it can be computed for many entities and times at
once, with a further column to group by. It parses SQL and runs none.
"""

from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sqlglot import exp

STATE, STATE_DAY = "_state", "_state_day"
"""The columns that tell states apart: an entity at a time, and the day of the time."""

SELECT_CLAUSES = {"expressions", "from_", "from", "joins", "where", "group", "with_", "with", "kind"}


@dataclass(frozen=True, slots=True)
class FeatureForm:
    """The two parts of a `features.sql` of the documented form, changed to compute a row for each state."""

    daily: str
    """The SELECT of the sums of each day and entity, from `events`."""
    daily_of_state: str
    """The same of each state: `events` has STATE and STATE_DAY too, and so have the sums."""
    daily_name: str
    """The name by which `windowed` reads the sums of states."""
    windowed: str
    """The SELECT of STATE and the features, from the sums of states and `windows`."""
    entity: str
    """The column of `events` that holds the entity."""
    daily_entity: str
    """The column of the sums that holds it."""
    columns: frozenset[str]
    """All columns of `events` that these features read."""


@cache
def find_form(sql: str, names: tuple[str, ...]) -> FeatureForm | None:
    """Return the SQL changed to compute these features of states, or None if it isn't of the documented form."""
    from sqlglot import exp, parse_one  # takes half a second, and few commands need it
    from sqlglot.errors import SqlglotError

    try:
        tree: Any = parse_one(sql, dialect="duckdb")
    except SqlglotError:
        return None
    if not isinstance(tree, exp.Select) or len(tree.ctes) != 1:
        return None
    daily, name = tree.ctes[0].this, tree.ctes[0].alias
    if not isinstance(daily, exp.Select) or not (_is_plain(tree) and _is_plain(daily)):
        return None
    if _table(daily) != "events" or _table(tree) != "windows" or daily.args.get("joins") or tree.args.get("where"):
        return None
    days, windows = _grouped(daily), _grouped(tree)
    if days is None or windows is None or days[0] != "dt" or windows[0] != "as_of" or not _joins_days(tree, name):
        return None
    entity = days[1]
    if not (_selects(daily, entity, windows[1]) and _selects(tree, windows[1], windows[1])):
        return None
    if not (_selects(daily, "dt", "dt") and _selects(tree, "as_of", "dt")) or _repeats(daily) or _repeats(tree):
        return None
    if not _keep(tree, {"dt", windows[1], *names}):
        return None
    read = {column.name for given in tree.expressions for column in given.find_all(exp.Column)}
    _keep(daily, {"dt", windows[1], *read})
    columns = frozenset(column.name for column in daily.find_all(exp.Column))
    by_day = daily.sql(dialect="duckdb", pretty=True)
    _add_columns(daily, (STATE, STATE_DAY))
    _add_columns(tree, (STATE,))
    on = tree.args["joins"][0].args["on"]
    tree.args["joins"][0].set("on", exp.and_(on, f"{name}.{STATE_DAY} = windows.as_of"))
    tree.set("with_", None)
    return FeatureForm(
        daily=by_day,
        daily_of_state=daily.sql(dialect="duckdb", pretty=True),
        daily_name=name,
        windowed=tree.sql(dialect="duckdb", pretty=True),
        entity=entity,
        daily_entity=windows[1],
        columns=columns,
    )


def _is_plain(select: "exp.Select") -> bool:
    """Return whether a SELECT has no clause or expression that looks beyond a group's rows."""
    from sqlglot import exp

    if any(value for clause, value in select.args.items() if clause not in SELECT_CLAUSES):
        return False
    others = (exp.Window, exp.Subquery, exp.Star, exp.Exists, exp.Unnest, exp.Explode, exp.Placeholder)
    expressions = [*select.expressions, *filter(None, [select.args.get("where")])]
    return not any(
        isinstance(node, others) and not _is_count_star(node)
        for expression in expressions
        for node in expression.walk()
    ) and not any(expression.find(exp.Select) for expression in expressions)


def _is_count_star(node: "exp.Expr") -> bool:
    from sqlglot import exp

    return isinstance(node, exp.Star) and isinstance(node.parent, exp.Count)


def _table(select: "exp.Select") -> str | None:
    """Return the one table of FROM, if it has its own name."""
    from sqlglot import exp

    clause = select.args.get("from_") or select.args.get("from")
    table = clause.this if clause else None
    if (
        not isinstance(table, exp.Table)
        or table.alias
        or table.db
        or table.args.get("joins")
        or table.args.get("sample")
    ):
        return None
    return table.name


def _grouped(select: "exp.Select") -> tuple[str, str] | None:
    """Return the two columns that a SELECT groups by."""
    from sqlglot import exp

    group = select.args.get("group")
    if group is None or any(group.args.get(kind) for kind in ("cube", "rollup", "grouping_sets", "totals", "all")):
        return None
    if len(group.expressions) != 2 or not all(isinstance(column, exp.Column) for column in group.expressions):
        return None
    first, second = (column.name for column in group.expressions)
    return first, second


def _joins_days(select: "exp.Select", name: str) -> bool:
    """Return whether a SELECT joins the days with the windows by `dt`, and nothing else."""
    from sqlglot import exp

    joins = select.args.get("joins") or []
    if len(joins) != 1 or joins[0].side or joins[0].kind not in ("", "INNER") or joins[0].method:
        return False
    table, on = joins[0].this, joins[0].args.get("on")
    if not isinstance(table, exp.Table) or table.name != name or table.alias or not isinstance(on, exp.EQ):
        return False
    sides = {(side.table, side.name) for side in (on.this, on.expression) if isinstance(side, exp.Column)}
    return sides == {("windows", "dt"), (name, "dt")}


def _selects(select: "exp.Select", column: str, name: str) -> bool:
    """Return whether a SELECT gives this column, unchanged, by this name."""
    from sqlglot import exp

    return any(
        isinstance(given.unalias(), exp.Column) and given.unalias().name == column and given.alias_or_name == name
        for given in select.expressions
    )


def _repeats(select: "exp.Select") -> bool:
    names = [given.alias_or_name.lower() for given in select.expressions]
    return len(names) != len(set(names)) or any(not name for name in names)


def _keep(select: "exp.Select", names: set[str]) -> bool:
    """Drop what a SELECT gives by other names than these. Returns whether it gives all of these."""
    kept = [given for given in select.expressions if given.alias_or_name in names]
    select.set("expressions", kept)
    return len(kept) == len(names)


def _add_columns(select: "exp.Select", names: tuple[str, ...]) -> None:
    """Select these columns too, and group by them."""
    from sqlglot import exp

    for name in names:
        select.append("expressions", exp.column(name))
        select.args["group"].append("expressions", exp.column(name))
