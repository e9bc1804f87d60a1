"""Generate the SQL of live models: a model's table for closed days, and its SELECT over live inputs for open ones.

A day of a model is open when its table does not hold what its SELECT gives over what has landed: the day is stale, or a day
that it reads is open. Each open day is computed by itself, from the days that it reads, as a run does.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import date, timedelta
from functools import lru_cache

from pyiceberg.table import Table

from lakehouse.contracts.in_memory import open_in_memory
from lakehouse.contracts.sql import quote
from lakehouse.engine.connection import columns_of, scan_sql
from lakehouse.engine.filters import days_filter
from lakehouse.models.model import Model
from lakehouse.models.sql_tables import bind_tables
from lakehouse.pipeline.model_days import day_sql, days_read
from lakehouse.pipeline.model_inputs import Source
from lakehouse.pipeline.model_staleness import LoadedModel
from lakehouse.pipeline.readable_lake import ReadableLake

MAX_OPEN_DAYS = 31
"""How many open days a live model computes at most, the newest; it has older ones as the table does."""

InputSql = Callable[[str, Sequence[date]], str]
"""Generates the SELECT of a table's rows of these days, with what has landed since."""

OpenDays = Callable[[str], Iterable[date]]
"""Lists the days of a table that are open."""


def open_model_days(lake: ReadableLake, model: Model, open_days: OpenDays) -> list[date]:
    """List the newest open days of a model, in order."""
    sources = [Source(name, lake.tables.load(name)) for name in model.reads]
    loaded = LoadedModel(lake, model, lake.tables.load(model.name), sources)
    known = {day for changed in loaded.changes.values() for day in changed}
    landed = {day for name in model.reads for day in open_days(name)}
    reached = {day + timedelta(days=ahead) for day in landed for ahead in range(model.header.look_back + 1)}
    days = landed | (reached & known) | {*loaded.stale_days()}
    return sorted(days)[-MAX_OPEN_DAYS:]


def live_model_sql(lake: ReadableLake, model: Model, days: Sequence[date], input_sql: InputSql) -> str:
    """Generate the SELECT of a live model whose open days are these."""
    table = lake.tables.load(model.name)
    if not days:
        return f"from {scan_sql(table)}"
    closed = f"select {_names(table)} from {scan_sql(table)} where not {days_filter(days)}"
    return "\nunion all\n".join([closed, *(_day_sql(model, table, day, input_sql) for day in days)])


def _day_sql(model: Model, table: Table, day: date, input_sql: InputSql) -> str:
    read = days_read(model, day)
    inputs = ",\n".join(f"{quote(_input(name))} as ({input_sql(name, read)})" for name in model.reads)
    columns = ", ".join(f"{quote(name)}::{kind} as {quote(name)}" for name, kind in columns_of(table))
    bound = _bound(model.sql, tuple(model.reads))
    return f"select {columns} from (\nwith {inputs}\n{day_sql(model, day, bound)}\n)"


def _input(name: str) -> str:
    return f"live {name}"


@lru_cache(maxsize=256)
def _bound(sql: str, reads: tuple[str, ...]) -> str:
    names: Mapping[str, str] = {name: _input(name) for name in reads}
    with open_in_memory() as database:
        return bind_tables(database, sql, names)


def _names(table: Table) -> str:
    return ", ".join(quote(name) for name, _ in columns_of(table))
