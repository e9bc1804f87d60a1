"""Read-only SQL over the lake: a DuckDB connection with every table as a view, and one query's rows.

Time travel is `layer.table at (version => 123)` or `at (timestamp => '2025-11-20 12:00:00')`, as DuckDB writes it.
"""

import hashlib
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import urlparse

import duckdb

from lakehouse.engine.connection import DuckDB, scan_sql
from lakehouse.errors import LakehouseError, QueryError
from lakehouse.pipeline.lake import Lake
from lakehouse.pipeline.unified_view import ReadableLake, create_views_sql, view_exists, view_names
from lakehouse.serving.query.sandbox import lockdown_sql, refuse_writing
from lakehouse.serving.query.snapshot_views import explain_interruption
from lakehouse.settings import get_settings
from lakehouse.storage.objects.connection import Connection

if TYPE_CHECKING:
    from sqlglot.tokenizer_core import Token

BATCH = 10_000

MENTIONED = re.compile(r'(?<!\w)(\w++)"?\s*+\.\s*+"?(\w++)')
"""Possessive, for a text of one long word must not take a minute."""


@dataclass(frozen=True, slots=True)
class QueryRows:
    """A query's answer, read once, some rows at a time."""

    columns: list[str]
    rows: Iterator[tuple[Any, ...]]


def connect() -> duckdb.DuckDBPyConnection:
    """A read-only DuckDB connection in which every table of the lake is a view `layer.name`, as of now.

    Raises StorageUnavailableError when the lake is not up.
    """
    lake = Lake(get_settings(), metadata_only=True)
    return _reader(lake, create_views_sql(lake, view_names(lake)))


def run_query(lake: Lake, sql: str) -> QueryRows:
    """Run one SELECT. Raises QueryError, with what is wrong and where, for anything but one statement that reads."""
    text, past = resolve_time_travel(lake, sql)
    refuse_writing(text)
    wanted = [name for name in sorted(names_mentioned(text)) if view_exists(lake, name)]
    travelled = ["create schema past", *(f"create view {name} as {select}" for name, select in past.items())]
    connection = _reader(lake, [*create_views_sql(lake, wanted), *travelled])
    try:
        result = connection.execute(text)
    except duckdb.Error as problem:
        raise QueryError(_explained(str(problem), lake)) from problem
    columns = [column[0] for column in result.description or []]
    return QueryRows(columns, _fetched(connection, result, text))


def _fetched(
    connection: duckdb.DuckDBPyConnection, result: duckdb.DuckDBPyConnection, sql: str
) -> Iterator[tuple[Any, ...]]:
    try:
        try:
            while rows := result.fetchmany(BATCH):
                yield from rows
        except duckdb.InterruptException as problem:
            explain_interruption(connection, sql, (), problem)
            raise
    except duckdb.Error as problem:
        # What comes before says that some rows were given already.
        raise QueryError(str(problem).rpartition("pending query result\nError: ")[2]) from problem
    finally:
        connection.close()


def _reader(lake: Lake, statements: Iterable[str]) -> duckdb.DuckDBPyConnection:
    """A database of its own that can read the lake's buckets and nothing else."""
    engine = DuckDB(
        lake.connection.for_reading(),
        memory_limit_mb=lake.settings.memory_limit_mb,
        threads=lake.settings.threads,
        scratch=lake.settings.root / "scratch",
    )
    database = engine.database
    for statement in statements:
        database.execute(statement)
    for statement in lockdown_sql(places(lake.connection)):
        database.execute(statement)
    return database


def places(connection: Connection) -> list[str]:
    """Where the lake's tables and objects lie."""
    buckets = {connection.bucket, urlparse(connection.catalog.get("warehouse", "")).netloc} - {""}
    return [f"s3://{bucket}/" for bucket in sorted(buckets)]


def names_mentioned(sql: str) -> set[str]:
    """Every `a.b` in the statement, in lower case; what is no table does no harm."""
    return {f"{a}.{b}".lower() for a, b in MENTIONED.findall(sql)}


def _explained(problem: str, lake: Lake) -> str:
    if "does not exist" in problem and "Table with name" in problem:
        return f"{problem}\nThere are: {', '.join(view_names(lake))}"
    return problem


@dataclass(frozen=True, slots=True)
class _Travel:
    """A table in the past: its name, how the time is given, and the view that stands for it."""

    name: str
    kind: str
    value: str
    view: str


def resolve_time_travel(lake: ReadableLake, sql: str) -> tuple[str, dict[str, str]]:
    """The statement with each `a.b at (…)` as the name of a view, and these views' SELECTs by their names.

    DuckDB's own AT is for attached catalogs. Raises QueryError for a past that never was.
    """
    text, travels = _travels(sql)
    return text, {f"past.{travel.view}": _travel_sql(lake, travel) for travel in travels}


def _travels(sql: str) -> tuple[str, list[_Travel]]:
    if not re.search(r"\bat\s*\(", sql, re.IGNORECASE):
        return sql, []
    from sqlglot import tokenize  # half a second, for the few that look back
    from sqlglot.errors import SqlglotError

    try:
        tokens = tokenize(sql, read="duckdb")
    except SqlglotError:
        return sql, []  # DuckDB's own message about it is better
    travels: list[_Travel] = []
    parts: list[str] = []
    copied = 0
    for position in range(len(tokens)):
        found = _travel_at(tokens, position)
        if found is None:
            continue
        end, name, kind, value = found
        # One name for one past, whichever query looks at it.
        view = "at_" + hashlib.sha256(f"{name} {kind} {value}".encode()).hexdigest()[:16]
        travel = _Travel(name, kind, value, view)
        travels.append(travel)
        parts += [sql[copied : tokens[position].start], f"past.{travel.view}"]
        copied = tokens[end].end + 1
    return "".join([*parts, sql[copied:]]), travels


def _travel_at(tokens: "list[Token]", position: int) -> tuple[int, str, str, str] | None:
    """`layer . table AT ( kind => value )` at this token: its last token, the table, kind and value."""
    window = tokens[position : position + 10]
    texts = [token.text.lower() for token in window]
    if len(window) < 9 or texts[1] != "." or texts[3:5] != ["at", "("] or texts[5] not in ("version", "timestamp"):
        return None
    rest = window[6:]
    arrow = 1 if rest[0].text == "=>" else 2 if [t.text for t in rest[:2]] == ["=", ">"] else 0
    if not arrow or len(rest) <= arrow + 1:
        return None
    after = tokens[position + 6 + arrow :]
    if after[0].token_type.name.startswith("TIMESTAMP"):  # `timestamp '…'` as well as '…'
        after, arrow = after[1:], arrow + 1
    if len(after) < 2 or after[1].text != ")":
        return None
    return position + 6 + arrow + 1, f"{texts[0]}.{texts[2]}", texts[5], after[0].text


def _travel_sql(lake: ReadableLake, travel: _Travel) -> str:
    if not view_exists(lake, travel.name):
        raise QueryError(f"There is no table {travel.name}. There are: {', '.join(view_names(lake))}")
    try:
        table = lake.tables.load(travel.name)
    except LakehouseError as problem:
        raise QueryError(f"{travel.name} is a view and has no past; its tables do.") from problem
    snapshot_id = _snapshot_named(travel, table) if travel.kind == "version" else _snapshot_at(travel, table)
    return f"from {scan_sql(table, snapshot_id)}"


def _snapshot_named(travel: _Travel, table: Any) -> int:
    """The snapshot of that number, or the one that a tag of that name pins."""
    if travel.value.isdigit() and table.snapshot_by_id(int(travel.value)) is not None:
        return int(travel.value)
    tags = {name: ref.snapshot_id for name, ref in table.metadata.refs.items() if name != "main"}
    if travel.value in tags:
        return int(tags[travel.value])
    known = f" Its tags are {', '.join(sorted(tags))}." if tags else ""
    raise QueryError(f"{travel.name} has no snapshot or tag {travel.value}.{known}")


def _snapshot_at(travel: _Travel, table: Any) -> int:
    try:
        time = datetime.fromisoformat(travel.value)
    except ValueError as problem:
        raise QueryError(f"{travel.value!r} is no time; write one such as '2025-11-20 14:00:00' (UTC).") from problem
    time = time if time.tzinfo else time.replace(tzinfo=UTC)
    snapshot = table.snapshot_as_of_timestamp(int(time.timestamp() * 1000))
    if snapshot is None:
        raise QueryError(f"{travel.name} has no snapshot as old as {time.isoformat()}.")
    return int(snapshot.snapshot_id)
