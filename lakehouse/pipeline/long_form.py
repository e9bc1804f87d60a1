"""Generate the SQL that turns daily aggregates into long form, one number a row, as `gold.daily_metrics` has them."""

from pyiceberg.table import Table

from lakehouse.contracts.sql import literal, quote
from lakehouse.contracts.streams import Stream
from lakehouse.engine.connection import columns_of

DAILY_METRICS = "gold.daily_metrics"
"""The table of every number of every stream."""

METRIC_TYPES = ("bigint", "double", "decimal")
"""Columns of these types are metrics; the others are their dimensions."""

NO_METRICS = """select
  null::date as date_key,
  null::varchar as stream,
  null::varchar as metric_name,
  null::double as metric_value,
  null::map(varchar, varchar) as dimensions
where false"""


def long_form_sql(stream: Stream, daily: Table, source: str) -> str:
    """Generate the SELECT in long form of `source`, a SELECT with the columns of `gold.{stream}_daily`.

    Its columns are those of `gold.daily_metrics`: date_key, stream, metric_name, metric_value, dimensions (map).
    """
    columns = [(name, sql_type) for name, sql_type in columns_of(daily) if name != "dt"]
    metrics = [name for name, sql_type in columns if sql_type.startswith(METRIC_TYPES)]
    dimensions = [name for name, sql_type in columns if not sql_type.startswith(METRIC_TYPES)]
    if not metrics:
        return NO_METRICS
    names, numbers = ", ".join(map(literal, metrics)), ", ".join(f"{quote(name)}::double" for name in metrics)
    keys, values = ", ".join(map(literal, dimensions)), ", ".join(f"{quote(name)}::varchar" for name in dimensions)
    return f"""select date_key, stream, metric_name, metric_value, dimensions
from (
  select
    dt as date_key,
    {literal(stream.name)} as stream,
    unnest([{names}]::varchar[]) as metric_name,
    unnest([{numbers}]::double[]) as metric_value,
    map([{keys}]::varchar[], [{values}]::varchar[]) as dimensions
  from ({source})
)
where metric_value is not null"""
