"""Write the SELECT that finds the bronze rows, and landing objects, that rows of some tables were made of.

Its tables are named `layer.name`, so it runs wherever a user's query does, with what that user may read.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date

from lakehouse.contracts.sql import clean_sql, quote, raw_sql
from lakehouse.contracts.streams import Stream
from lakehouse.engine.filters import days_filter
from lakehouse.pipeline.tracing.grouping import ORIGIN
from lakehouse.pipeline.tracing.steps import Step

MATCHED = "matched"
"""The rows of the table that is traced."""


@dataclass(slots=True)
class Rows:
    """Rows of silver, or of bronze and quarantine, of one stream, as names of common table expressions; and their days."""

    days: set[date] | None = field(default_factory=set)
    """None for all days."""
    silver: list[str] = field(default_factory=list)
    unified: list[str] = field(default_factory=list)
    """Rows of the unified view: of silver, or of realtime and the hot tail if silver lacks their key."""
    placed: list[str] = field(default_factory=list)
    """Rows with `_object` and `_row`."""


def matched_sql(table: str, where: str) -> str:
    """Write the SELECT of the rows of a table that meet a condition."""
    layer, name = table.split(".")
    return f"select * from {quote(layer)}.{quote(name)} where (\n{where}\n)"


def step_sql(step: Step, made: str, column: str | None, day: str | None, days: Sequence[date] | None) -> str:
    """Write the SELECT of the rows of a step's source that the rows `made` were made of.

    `column` and `day` are the columns of the days of the source and of `made`, `days` those of the source.
    """
    layer, name = step.source.split(".")
    where = [days_filter(days, f"{ORIGIN}.{column}")] if days is not None and column else []
    grouping = step.grouping
    if grouping is None:
        return _select(f"{quote(layer)}.{quote(name)} as {ORIGIN}", where)
    same = [f"made.{quote(own)} is not distinct from ({key})" for own, key in grouping.columns.items()]
    if column and day and grouping.columns.get(day) != f"{quote(ORIGIN)}.{quote(column)}":
        same.append(f"made.{day} - {ORIGIN}.{column} between 0 and {step.look_back}")
    where += [f"({grouping.where})"] if grouping.where else []
    source = f"{quote(layer)}.{quote(name)} as {ORIGIN}"
    if same:
        source += f" semi join (from {made} where {step.only}) as made on {' and '.join(same)}"
    return _select(source, where)


def origins_sql(stream: Stream, tables: Sequence[tuple[str, str]], rows: Rows, limit: int) -> str:
    """Write the SELECT of one row: numbers, and lists of the first `limit` landing objects and bronze rows.

    `tables` are the common table expressions that `rows` names, in order.
    """
    days = "true" if rows.days is None else days_filter(sorted(rows.days))
    key = [quote(name) for name in stream.contract.key]
    keys = ", ".join(key)
    keyed = [*rows.silver, *rows.unified]
    by_key = f"select kept._object, kept._row from kept semi join wanted using (dt, {keys})"
    traced = [*(f"select _object, _row from {name}" for name in rows.placed), *([by_key] if keyed else [])]
    wanted = " union all ".join(f"select dt, {keys} from {name}" for name in keyed)
    given = ", ".join(f"{name} as ({select})" for name, select in tables)
    names = ", ".join(f"'{name}': clean.{quote(name)}::varchar" for name in stream.contract.key)
    return f"""with {given},
wanted as materialized (
  select distinct dt, {keys} from ({wanted or f"select dt, {keys} from silver.{stream.name} limit 0"})
),
bronze_rows as (select * from bronze.{stream.name} where {days}),
clean as materialized ({clean_sql(stream.contract, "bronze_rows")}),
refused as materialized (select dt, raw, _object, _row from quarantine.{stream.name} where {days}),
held as (select dt, {keys}, _arrived_at from silver.{stream.name} where {days}),
fresh as materialized (from wanted anti join held using (dt, {keys})),
in_realtime as materialized (
  select dt, {keys}, _object, _row
  from realtime.{stream.name}
  semi join fresh using (dt, {keys})
  where {days if rows.unified else "false"}
  qualify row_number() over (partition by dt, {keys} order by _arrived_at desc, _object desc, _row desc) = 1
),
passed as (from clean anti join refused using (_object, _row) where _valid),
kept as materialized (
  select passed.dt, {", ".join(f"passed.{name}" for name in key)}, passed._object, passed._row
  from passed
  join held using (dt, {keys}, _arrived_at)
  qualify row_number() over (partition by passed.dt, {", ".join(f"passed.{name}" for name in key)}
    order by passed._object desc, passed._row desc) = 1
),
traced as materialized ({" union ".join(traced)}),
holders as (
  select dt, {keys} from held
  union
  select dt, {keys} from clean semi join refused using (_object, _row) where _valid
),
broken as (from clean anti join refused using (_object, _row) where not _valid),
repeated as (
  select _object, _row from (from passed anti join kept using (_object, _row)) semi join holders using (dt, {keys})
  union all
  select _object, _row from (
    select dt, {raw_sql(stream.contract)} as raw, _object, _row from bronze_rows semi join broken using (_object, _row)
  ) semi join refused using (dt, raw)
),
in_bronze as materialized (
  select
    dt as day,
    _object as object,
    count(t._row) as rows,
    count(*) as landed,
    count(k._row) as silver,
    count(q._row) as quarantined,
    count(d._row) as duplicates
  from clean
  semi join (select distinct _object from traced) as objects using (_object)
  left join (select _object, _row from traced) as t using (_object, _row)
  left join (select _object, _row from kept) as k using (_object, _row)
  left join (select _object, _row from refused) as q using (_object, _row)
  left join repeated as d using (_object, _row)
  group by dt, _object
  having count(t._row) > 0
),
by_object as materialized (
  from in_bronze
  union all
  select dt, _object, count(*), null, null, null, null from in_realtime group by dt, _object
),
first_objects as (from by_object order by rows desc, object, day limit {limit}),
first_rows as (
  select clean._object as object, clean._row as row, clean.dt as day, {{{names}}} as key
  from (
    select dt, {keys}, _object, _row from clean semi join traced using (_object, _row)
    union all
    select dt, {keys}, _object, _row from in_realtime
  ) as clean
  order by object, row
  limit {limit}
)
select
  (select count(*) from wanted semi join held using (dt, {keys})) as silver_rows,
  (select count(*) from (from wanted semi join held using (dt, {keys})) anti join kept using (dt, {keys})) as without_bronze,
  (select count(*) from traced) as bronze_rows,
  (select count(*) from in_realtime) as realtime_rows,
  (select count(*) from fresh) - (select count(*) from in_realtime) as tail_rows,
  (select count(distinct object) from by_object) as objects,
  (select list(sums order by day) from (
    select
      day,
      sum(rows)::bigint as rows,
      coalesce(sum(landed), 0)::bigint as landed,
      coalesce(sum(silver), 0)::bigint as silver,
      coalesce(sum(quarantined), 0)::bigint as quarantined,
      coalesce(sum(duplicates), 0)::bigint as duplicates
    from by_object
    group by day
  ) as sums) as days,
  (select list(first_objects order by rows desc, object, day) from first_objects) as by_object,
  (select list(first_rows order by object, row) from first_rows) as rows"""


def _select(source: str, where: Sequence[str]) -> str:
    return f"select {ORIGIN}.* from {source} where {' and '.join(where) or 'true'}"
