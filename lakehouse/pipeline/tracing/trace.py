"""Trace rows of a table back to the rows of silver and bronze, and the landing objects, that they were made of.

The search asks by `yield`, so that a process runs its SQL where it can: see `find_origins`.
"""

import re
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import Any

from lakehouse.contracts.streams import Stream
from lakehouse.errors import QueryError
from lakehouse.models.model import Model
from lakehouse.pipeline.lineage.properties import day_ledgers
from lakehouse.pipeline.lineage.staleness import last_changes, older_days
from lakehouse.pipeline.readable_lake import ReadableLake
from lakehouse.pipeline.tracing.origins_sql import MATCHED, Rows, matched_sql, origins_sql, step_sql
from lakehouse.pipeline.tracing.steps import Step, day_of, days_before, steps_of
from lakehouse.pipeline.unified_view import view_exists

UNIFIED = "serving.unified_"

TABLE_NAME = re.compile(r"[a-z]+\.[a-z][a-z0-9_]*", re.ASCII)

LEDGER = ("landed", "silver", "quarantined", "duplicates")

COUNTED = ("silver_rows", "bronze_rows", "realtime_rows", "tail_rows")

Search = Generator[str, list[dict[str, Any]], "Trace"]
"""Yields SELECTs over `layer.name`, and is sent their rows."""


@dataclass(frozen=True, slots=True)
class Hop:
    """A step of the way: from the rows of a table to those of one that it is computed from."""

    table: str
    source: str
    by_row: bool
    """Whether the rows are those that were used; else they are all rows of the days that were read."""
    reason: str
    """Why they are all of them."""
    stale: tuple[date, ...]
    """Days that changed in the source after the table was computed: what is found there is not what it was made of."""


@dataclass(frozen=True, slots=True)
class DayOrigin:
    """The rows of the landing objects on one day, and what became of them: landed = silver + quarantined + duplicates."""

    day: date
    rows: int
    """How many rows were traced."""
    landed: int
    silver: int
    quarantined: int
    duplicates: int
    partition: Mapping[str, int] | None
    """The ledger of the whole day; None if it was not computed yet, or its snapshot has expired."""

    @property
    def unaccounted(self) -> int:
        """Rows that no layer below bronze explains. Not 0 only while the day is stale, or if something is wrong."""
        return self.landed - self.silver - self.quarantined - self.duplicates


@dataclass(frozen=True, slots=True)
class ObjectOrigin:
    """The rows of one landing object on one day."""

    object: str
    day: date
    rows: int
    landed: int | None
    """None, as the other counts, of an object that only realtime has."""
    silver: int | None
    quarantined: int | None
    duplicates: int | None


@dataclass(frozen=True, slots=True)
class RowOrigin:
    """One row of bronze, or realtime: its landing object, its number there from 1, its day, and its key as texts."""

    object: str
    row: int
    day: date
    key: Mapping[str, str | None]


@dataclass(frozen=True, slots=True)
class StreamOrigins:
    """The origins of rows in one stream."""

    stream: str
    silver_rows: int
    without_bronze: int
    """Rows of silver without their row of bronze, because that has expired or was erased."""
    bronze_rows: int
    realtime_rows: int
    """Rows of the unified view that silver lacks, and realtime has."""
    tail_rows: int
    """Rows of the unified view that no table has yet. Their place is known once realtime has them, in some minutes."""
    objects: int
    days: tuple[DayOrigin, ...]
    by_object: tuple[ObjectOrigin, ...]
    """The landing objects with most of the rows, at most as many as asked for."""
    rows: tuple[RowOrigin, ...]
    """The first rows, at most as many as asked for."""


@dataclass(frozen=True, slots=True)
class Trace:
    """The origins of the rows of a table that meet a condition."""

    table: str
    where: str
    matched: int
    hops: tuple[Hop, ...] = ()
    streams: tuple[StreamOrigins, ...] = ()


@dataclass(slots=True)
class _Way:
    """The way to the streams: common table expressions, hops, and what each stream was reached by."""

    tables: list[tuple[str, str]] = field(default_factory=list)
    hops: list[tuple[Hop, set[str]]] = field(default_factory=list)
    """Each with the streams that it leads to."""
    reached: dict[str, Rows] = field(default_factory=dict)


def find_origins(lake: ReadableLake, models: Mapping[str, Model], table: str, where: str, limit: int) -> Search:
    """Trace the rows of a table that meet `where`, an SQL condition over its columns.

    Yields one SELECT after another; send it the rows of the answer. Blocks while metadata of tables is read. Raises
    QueryError for a table whose rows can't be traced.
    """
    if not TABLE_NAME.fullmatch(table) or not view_exists(lake, table):
        raise QueryError(f"Rows of {table} can't be traced: there is no such table or view.")
    way, day = _Way([(MATCHED, matched_sql(table, where))]), day_of(lake, table)
    column = day or "null::date"
    rows = yield f"select {column} as day, count(*) as rows from ({matched_sql(table, where)}) group by all order by day"
    days = [row["day"] for row in rows if row["day"] is not None] if day else None
    matched = sum(row["rows"] for row in rows)
    _follow(lake, models, way, table, MATCHED, days)
    found = []
    for name, reached in way.reached.items() if matched else ():
        (answer,) = yield origins_sql(lake.streams[name], way.tables, reached, limit)
        if any(answer[name] for name in COUNTED):
            found.append(_stream_origins(lake, lake.streams[name], answer))
    on_the_way = {each.stream for each in found}
    hops = tuple(hop for hop, streams in way.hops if streams & on_the_way)
    return Trace(table, where, matched, hops, tuple(found))


def _follow(
    lake: ReadableLake, models: Mapping[str, Model], way: _Way, table: str, made: str, days: Sequence[date] | None
) -> set[str]:
    """Follow the rows `made` of a table, of these days, to streams. Returns their names."""
    layer, _, short = table.partition(".")
    if short in lake.streams and layer in ("silver", "bronze", "quarantine"):
        rows = way.reached.setdefault(short, Rows())
        (rows.silver if layer == "silver" else rows.placed).append(made)
        rows.days = None if days is None or rows.days is None else rows.days.union(days)
        return {short}
    if table.startswith(UNIFIED) and (name := table.removeprefix(UNIFIED)) in lake.streams:
        rows = way.reached.setdefault(name, Rows())
        rows.unified.append(made)
        rows.days = None if days is None or rows.days is None else rows.days.union(days)
        return {name}
    streams = set[str]()
    for step in steps_of(lake, models, table):
        column, day = day_of(lake, step.source), day_of(lake, table)
        read = days_before(days, step.look_back) if days is not None and column else None
        name = f"rows_{len(way.tables)}"
        way.tables.append((name, step_sql(step, made, column, day, read)))
        stale = _stale(lake, step, table, days) if column and day else ()
        hop = Hop(table, step.source, step.grouping is not None, "" if step.grouping else step.reason, stale)
        place = len(way.hops)
        beyond = _follow(lake, models, way, step.source, name, read)
        way.hops.insert(place, (hop, beyond))
        streams |= beyond
    return streams


def _stale(lake: ReadableLake, step: Step, table: str, days: Sequence[date] | None) -> tuple[date, ...]:
    if days is None or step.look_back or not all(map(lake.tables.exists, (table, step.source))):
        return ()
    source = lake.tables.load(step.source)
    changes = last_changes(source, day_of(lake, step.source) or "dt")
    wanted = {day: changes[day] for day in days if day in changes}
    return tuple(sorted(older_days(source, wanted, lake.tables.load(table))))


def _stream_origins(lake: ReadableLake, stream: Stream, answer: Mapping[str, Any]) -> StreamOrigins:
    ledgers = day_ledgers(lake.tables.load(f"quarantine.{stream.name}"))
    return StreamOrigins(
        stream.name,
        **{name: answer[name] for name in (*COUNTED, "without_bronze", "objects")},
        days=tuple(DayOrigin(**day, partition=_ledger(ledgers.get(day["day"]))) for day in answer["days"] or ()),
        by_object=tuple(ObjectOrigin(**each) for each in answer["by_object"] or ()),
        rows=tuple(RowOrigin(**each) for each in answer["rows"] or ()),
    )


def _ledger(counts: Mapping[str, Any] | None) -> dict[str, int] | None:
    return {name: counts[name] for name in LEDGER} if counts and all(name in counts for name in LEDGER) else None
