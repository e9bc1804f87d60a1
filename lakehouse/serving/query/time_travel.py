"""Time travel in SQL: `layer.table at (version => 123)` or `at (timestamp => '2025-11-20 12:00:00')`, as DuckDB writes it.

DuckDB's own AT works only for attached catalogs, so each one becomes the name of a view over that snapshot.
"""

import hashlib
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from pyiceberg.table import Table

from lakehouse.engine.connection import scan_sql
from lakehouse.errors import LakehouseError, QueryError
from lakehouse.pipeline.readable_lake import ReadableLake
from lakehouse.pipeline.unified_view import view_exists, view_names

if TYPE_CHECKING:
    from sqlglot.tokenizer_core import Token

SCHEMA = "past"
"""The schema of the views."""

_AT = re.compile(r"\bat\s*\(", re.IGNORECASE)
_MAX_TOKENS = 10
"""Tokens of the longest AT: `layer . table at ( timestamp = > timestamp '…'`."""


@dataclass(frozen=True, slots=True)
class _TableAt:
    """A table at an earlier time, as a statement names it."""

    name: str
    kind: str
    """`version` or `timestamp`."""
    value: str
    last_token: int
    """The position of its closing bracket."""

    @property
    def view(self) -> str:
        """The name of its view. Every query over the same past uses the same one."""
        digest = hashlib.sha256(f"{self.name} {self.kind} {self.value}".encode()).hexdigest()
        return f"{SCHEMA}.at_{digest[:16]}"


def resolve_time_travel(lake: ReadableLake, sql: str) -> tuple[str, dict[str, str]]:
    """Replace each `a.b at (…)` with the name of a view. Returns the statement, and each view's SELECT by its name.

    Raises QueryError when the table never had that snapshot.
    """
    text, tables = _replace(sql)
    return text, {table.view: _select(lake, table) for table in tables}


def _replace(sql: str) -> tuple[str, list[_TableAt]]:
    if not _AT.search(sql):
        return sql, []
    from sqlglot import tokenize  # takes half a second, which only time travel should pay
    from sqlglot.errors import SqlglotError

    try:
        tokens = tokenize(sql, read="duckdb")
    except SqlglotError:
        return sql, []  # DuckDB has the better message
    tables: list[_TableAt] = []
    parts: list[str] = []
    copied = 0
    for position in range(len(tokens)):
        if (table := _table_at(tokens, position)) is not None:
            tables.append(table)
            parts += [sql[copied : tokens[position].start], table.view]
            copied = tokens[table.last_token].end + 1
    return "".join([*parts, sql[copied:]]), tables


def _table_at(tokens: "list[Token]", position: int) -> _TableAt | None:
    """Parse `layer . table AT ( kind => value )` at this token; None when it is something else."""
    window = tokens[position : position + _MAX_TOKENS]
    texts = [token.text.lower() for token in window]
    if len(window) < 9 or texts[1] != "." or texts[3:5] != ["at", "("] or texts[5] not in ("version", "timestamp"):
        return None
    rest = window[6:]
    arrow = 1 if rest[0].text == "=>" else 2 if [token.text for token in rest[:2]] == ["=", ">"] else 0
    if not arrow or len(rest) <= arrow + 1:
        return None
    after = tokens[position + 6 + arrow :]
    if after[0].token_type.name.startswith("TIMESTAMP"):  # `timestamp '…'` as well as '…'
        after, arrow = after[1:], arrow + 1
    if len(after) < 2 or after[1].text != ")":
        return None
    return _TableAt(f"{texts[0]}.{texts[2]}", texts[5], after[0].text, position + 6 + arrow + 1)


def _select(lake: ReadableLake, at: _TableAt) -> str:
    if not view_exists(lake, at.name):
        raise QueryError(f"There is no table {at.name}. There are: {', '.join(view_names(lake))}")
    try:
        table = lake.tables.load(at.name)
    except LakehouseError as error:
        raise QueryError(f"{at.name} is a view and has no past. Use the tables that it reads.") from error
    snapshot_id = _snapshot_named(at, table) if at.kind == "version" else _snapshot_as_of(at, table)
    return f"from {scan_sql(table, snapshot_id)}"


def _snapshot_named(at: _TableAt, table: Table) -> int:
    """Return the snapshot with this id, or the one that a tag of this name pins."""
    if at.value.isdigit() and table.snapshot_by_id(int(at.value)) is not None:
        return int(at.value)
    tags = {name: ref.snapshot_id for name, ref in table.metadata.refs.items() if name != "main"}
    if at.value in tags:
        return int(tags[at.value])
    known = f" Its tags are {', '.join(sorted(tags))}." if tags else ""
    raise QueryError(f"{at.name} has no snapshot or tag {at.value}.{known}")


def _snapshot_as_of(at: _TableAt, table: Table) -> int:
    try:
        time = datetime.fromisoformat(at.value)
    except ValueError as error:
        raise QueryError(f"{at.value!r} is not a time. Write one such as '2025-11-20 14:00:00' (UTC).") from error
    time = time if time.tzinfo else time.replace(tzinfo=UTC)
    snapshot = table.snapshot_as_of_timestamp(int(time.timestamp() * 1000))
    if snapshot is None:
        raise QueryError(f"{at.name} has no snapshot as old as {time.isoformat()}.")
    return int(snapshot.snapshot_id)
