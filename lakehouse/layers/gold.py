"""Gold: the daily aggregates of each stream, and all their numbers in long form."""

from collections.abc import Sequence
from datetime import date

from lakehouse.contracts.sql import literal, quote
from lakehouse.contracts.streams import Stream
from lakehouse.engines.duckdb import columns_of, scan_sql
from lakehouse.layers.lake import Lake
from lakehouse.layers.planning import sequence_of
from lakehouse.layers.writing import Written, replace_days

NUMBERS = ("bigint", "double", "decimal")
DAILY_METRICS = "gold.daily_metrics"


def write_metrics(lake: Lake, days: Sequence[date], *, run_id: str = "") -> Written:
    """Every number of every `gold.{stream}_daily` of these days, one a row, into `gold.daily_metrics`."""
    parts: list[str] = []
    sources: dict[str, int] = {}
    for stream in lake.streams.values():
        table = lake.tables.load(f"gold.{stream.name}_daily")
        sources[f"gold.{stream.name}_daily"] = sequence_of(table)
        if table.current_snapshot() is not None:
            parts += _long_form(stream, columns_of(table), f"{scan_sql(table)} where {among(days)}")
    nothing = (
        "select null::date as date_key, null::varchar as stream, null::varchar as metric_name,"
        " null::double as metric_value, null::map(varchar, varchar) as dimensions limit 0"
    )
    select = "\nunion all\n".join(f"({part})" for part in parts or [nothing])
    return replace_days(lake, DAILY_METRICS, select, days, column="date_key", sources=sources, run_id=run_id)


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
