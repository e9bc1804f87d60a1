"""Generate one SELECT that computes the features of many entities and times together, however many they are.

An entity's features change only where one of its arrivals becomes known or is superseded, and at midnight. So requests share
states: an entity, a day, and the last such change by the time. Of the days that a state reads, most are final: nothing of the
entity has changed there since. The sums of a final day are computed once for all states, those of any other day for each.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

from lakehouse.contracts.columns import passed_through
from lakehouse.contracts.cutting import keeps_rows, shared_columns
from lakehouse.contracts.feature_form import STATE, STATE_DAY, FeatureForm, find_form
from lakehouse.contracts.sql import quote
from lakehouse.contracts.streams import Stream
from lakehouse.engine.connection import bind
from lakehouse.pipeline.day_groups import input_columns
from lakehouse.pipeline.features import FEATURE_WINDOW_DAYS, WINDOWS_SQL
from lakehouse.pipeline.point_in_time.arrivals import KNOWN_FROM, KNOWN_UNTIL

NUMBER, ENTITY, AT = "_number", "_entity", "_at"
"""The columns of the requests: the number of each, its entity in the type of the table of features, and its time in UTC."""


@dataclass(frozen=True, slots=True)
class Plan:
    """How features of many entities and times are computed together."""

    form: FeatureForm
    silver: str | None
    """The SQL that makes `events` of the arrivals; None if `features.sql` reads only fields of the arrivals themselves."""

    def events_sql(self, arrivals: str) -> str:
        """Generate the SELECT of the events, with KNOWN_FROM and KNOWN_UNTIL, from that of the arrivals."""
        return arrivals if self.silver is None else bind(self.silver, {"valid": arrivals})


def plan(stream: Stream, names: Sequence[str]) -> Plan | None:
    """Find how all requests of these features can be computed together; None if the stream's SQL does not allow it.

    `features.sql` has the documented form, and each value that it reads of an event depends on that event alone.
    """
    return _plan(stream.sql("features"), stream.sql("silver"), tuple(input_columns(stream.contract)), tuple(names))


@cache
def _plan(features: str, silver: str, fields: tuple[str, ...], names: tuple[str, ...]) -> Plan | None:
    if (form := find_form(features, names)) is None:
        return None
    inputs = (*fields, KNOWN_FROM, KNOWN_UNTIL)
    passed = set(passed_through(silver, "valid", inputs))
    if {KNOWN_FROM, KNOWN_UNTIL} <= passed and shared_columns(silver, inputs) == frozenset():
        return Plan(form, silver)
    return Plan(form, None) if form.columns <= passed and keeps_rows(silver) else None


def few_sql(chosen: Plan, arrivals: str, requests: str, entities: Sequence[str], columns: str) -> str:
    """Generate what `together_sql` does, for few requests: each is a state of its own, which DuckDB plans faster.

    `entities` are those of the requests, as SQL literals.
    """
    form = chosen.form
    read = ", ".join(f"known.{quote(name)}" for name in sorted(form.columns))
    events = f"""select {read}, states.{STATE}, states.{STATE_DAY}
  from (
    from ({chosen.events_sql(arrivals)})
    where {quote(form.entity)} in ({", ".join(entities) or "null"})
  ) as known
  join states
    on known.{quote(form.entity)} = states.{ENTITY}
    and known.dt <= states.{STATE_DAY}
    and known.dt > states.{STATE_DAY} - {FEATURE_WINDOW_DAYS}
    and known.{KNOWN_FROM} <= states.{AT}
    and (known.{KNOWN_UNTIL} is null or known.{KNOWN_UNTIL} > states.{AT})"""
    return f"""with states as materialized (
  select {NUMBER} as {STATE}, {ENTITY}, {AT}, {AT}::date as {STATE_DAY}
  from {requests}
),
computed as not materialized (
  {_windowed_sql(form, bind(form.daily_of_state, {"events": events}))}
)
select states.{STATE} as {NUMBER}, {columns}
from states
left join computed using ({STATE})"""


def _windowed_sql(form: FeatureForm, sums: str) -> str:
    days = f"select distinct {STATE_DAY} as dt from states"
    return bind(form.windowed, {"days": days, "windows": WINDOWS_SQL, form.daily_name: sums})


def together_sql(chosen: Plan, arrivals: str, requests: str, columns: str) -> str:
    """Generate the SELECT of NUMBER and `columns`, which are of `computed`, a row for each of the requests."""
    form = chosen.form
    entity, of_sums = quote(form.entity), quote(form.daily_entity)
    read = ", ".join(map(quote, sorted(form.columns)))
    in_window = f"""dt <= states.{STATE_DAY}
    and known.dt > states.{STATE_DAY} - {FEATURE_WINDOW_DAYS}"""
    return f"""with requested as not materialized (
  select {NUMBER}, {ENTITY}, {AT}, {AT}::date as {STATE_DAY}
  from {requests}
),
known as materialized (
  select {read}, {KNOWN_FROM}, {KNOWN_UNTIL}
  from ({chosen.events_sql(arrivals)}) as events
  where {entity} in (select {ENTITY} from requested)
),
moments as not materialized (
  select {ENTITY}, {AT} as moment, null::timestamp as changed, {NUMBER}, {STATE_DAY}
  from requested
  union all
  select {entity}, changed, changed, null, null
  from (select {entity}, unnest([{KNOWN_FROM}, {KNOWN_UNTIL}]) as changed from known)
  where changed is not null
),
placed as materialized (
  select {NUMBER}, {ENTITY}, {STATE_DAY}, changed
  from (
    -- An ASOF join would do, but DuckDB runs it as a nested loop where it takes one side for small.
    select * replace (max(changed) over (partition by {ENTITY} order by moment) as changed)
    from moments
  )
  where {NUMBER} is not null and changed is not null
),
states as materialized (
  select *, row_number() over () as {STATE}
  from (select distinct {ENTITY}, {STATE_DAY}, changed from placed)
),
final_since as materialized (
  select {entity} as {ENTITY}, dt, max(greatest({KNOWN_FROM}, {KNOWN_UNTIL})) as final_at
  from known
  group by {entity}, dt
),
final_sums as not materialized (
  select sums.*, states.{STATE}, states.{STATE_DAY}
  from ({bind(form.daily, {"events": f"from known where {KNOWN_UNTIL} is null"})}) as sums
  join final_since as known
    on sums.{of_sums} = known.{ENTITY} and sums.dt = known.dt
  join states
    on states.{ENTITY} = known.{ENTITY}
    and states.changed >= known.final_at
    and known.{in_window}
),
other_sums as not materialized (
  {
        bind(
            form.daily_of_state,
            {
                "events": f'''select known.*, states.{STATE}, states.{STATE_DAY}
  from known
  join final_since
    on known.{entity} = final_since.{ENTITY} and known.dt = final_since.dt
  join states
    on states.{ENTITY} = final_since.{ENTITY}
    and states.changed < final_since.final_at
    and known.{in_window}
    and known.{KNOWN_FROM} <= states.changed
    and (known.{KNOWN_UNTIL} is null or known.{KNOWN_UNTIL} > states.changed)'''
            },
        )
    }
),
computed as not materialized (
  {_windowed_sql(form, "from final_sums union all by name from other_sums")}
)
select requested.{NUMBER}, {columns}
from requested
left join placed using ({NUMBER})
left join states
  on placed.{ENTITY} = states.{ENTITY}
  and placed.{STATE_DAY} = states.{STATE_DAY}
  and placed.changed = states.changed
left join computed using ({STATE})"""
