"""Gold: the daily aggregates of each stream, and all their numbers in long form."""

from collections.abc import Sequence
from datetime import date

from pyiceberg.table import Table

from lakehouse.contracts.sql import literal, quote
from lakehouse.contracts.streams import Stream
from lakehouse.engine.connection import columns_of, scan_sql
from lakehouse.pipeline.lake import Lake
from lakehouse.pipeline.lineage.staleness import sequence_of
from lakehouse.pipeline.writing import Written, replace_days

NUMBERS = ("bigint", "double", "decimal")
DAILY_METRICS = "gold.daily_metrics"


def write_metrics(lake: Lake, days: Sequence[date], *, run_id: str = "") -> Written:
    """Every number of every `gold.{stream}_daily` of these days, one a row, into `gold.daily_metrics`."""
    sources = {
        name: sequence_of(lake.tables.load(name)) for name in (f"gold.{stream}_daily" for stream in lake.streams)
    }
    select = "\nunion all\n".join(f"({metrics_sql(lake, stream, days)})" for stream in lake.streams.values())
    return replace_days(lake, DAILY_METRICS, select, days, column="date_key", sources=sources, run_id=run_id)


def metrics_sql(lake: Lake, stream: Stream, days: Sequence[date] | None = None) -> str:
    """A SELECT of the numbers of a stream's daily aggregates in long form, of these days or of all."""
    return metrics_of(stream, lake.tables.load(f"gold.{stream.name}_daily"), days)


def metrics_of(stream: Stream, table: Table, days: Sequence[date] | None = None) -> str:
    """`metrics_sql` of the stream's daily aggregates as loaded."""
    where = "true" if days is None else among(days)
    return "\nunion all\n".join(_long_form(stream, columns_of(table), f"{scan_sql(table)} where {where}"))


def _long_form(stream: Stream, columns: Sequence[tuple[str, str]], source: str) -> list[str]:
    numbers = [name for name, sql_type in columns if sql_type.startswith(NUMBERS)]
    names = [name for name, sql_type in columns if not sql_type.startswith(NUMBERS) and name != "dt"]
    keys = ", ".join(map(literal, names))
    values = ", ".join(f"{quote(name)}::varchar" for name in names)
    return [
        f"select dt as date_key, {literal(stream.name)} as stream, {literal(number)} as metric_name,"
        f" {quote(number)}::double as metric_value, map([{keys}]::varchar[], [{values}]::varchar[]) as dimensions"
        f" from {source} and {quote(number)} is not null"
        for number in numbers
    ]


def among(days: Sequence[date], column: str = "dt") -> str:
    """The SQL filter of these days."""
    return f"{column} in (" + (", ".join(f"date '{day}'" for day in days) or "null") + ")"
