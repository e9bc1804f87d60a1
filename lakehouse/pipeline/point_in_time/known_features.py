"""Generate one SELECT of a stream's features as they were known at the times of some requests.

Where the stream's SQL allows it, all requests are computed at once; see `plan`. Otherwise each time is computed by itself,
with the SQL as it is.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Literal

from lakehouse.contracts.columns import passed_through
from lakehouse.contracts.cutting import keeps_rows, shared_columns
from lakehouse.contracts.feature_form import STATE, STATE_DAY, FeatureForm, find_form
from lakehouse.contracts.sql import quote
from lakehouse.contracts.streams import Stream
from lakehouse.engine.connection import bind, columns_of
from lakehouse.errors import ParameterError
from lakehouse.pipeline.day_groups import input_columns
from lakehouse.pipeline.features import FEATURE_WINDOW_DAYS, WINDOWS_SQL, feature_window, features_of_sql
from lakehouse.pipeline.point_in_time.arrivals import KNOWN_FROM, KNOWN_UNTIL, arrivals_sql
from lakehouse.pipeline.readable_lake import ReadableLake

NUMBER, ENTITY, AT = "_number", "_entity", "_at"
"""The columns of the requests: the number of each, its entity in the type of the table of features, and its time in UTC."""

MAX_SINGLE_TIMES = 100
"""How many times are computed one by one, each by reading all rows of its 30 days."""


@dataclass(frozen=True, slots=True)
class Plan:
    """How features of many entities and times are computed at once."""

    form: FeatureForm
    events: Literal["silver", "arrivals"]
    """Whether `features.sql` reads what `silver.sql` makes of the arrivals, or only fields of the arrivals themselves."""


def plan(stream: Stream) -> Plan | None:
    """Find how all requests of a stream can be computed at once; None if its SQL does not allow it.

    `features.sql` has the documented form, and each value that it reads of an event depends on that event alone.
    """
    form, silver = find_form(stream.sql("features")), stream.sql("silver")
    if form is None:
        return None
    inputs = (*input_columns(stream.contract), KNOWN_FROM, KNOWN_UNTIL)
    passed = set(passed_through(silver, "valid", inputs))
    if {KNOWN_FROM, KNOWN_UNTIL} <= passed and shared_columns(silver, inputs) == frozenset():
        return Plan(form, "silver")
    return Plan(form, "arrivals") if form.columns <= passed and keeps_rows(silver) else None


def entity_column(stream: Stream) -> str:
    """Return the column of the features that holds the entity. Raises ParameterError if the stream has no features."""
    if not stream.has_features or stream.contract.entity is None:
        lacks = "customProperties.entity in its contract" if stream.has_features else "features.sql"
        raise ParameterError(f"The stream {stream.name} has no features, because it has no {lacks}.")
    return stream.contract.entity


def known_features_sql(
    lake: ReadableLake,
    stream: Stream,
    names: Sequence[str],
    requests: str,
    times: Sequence[datetime],
    days: Sequence[date],
) -> str:
    """Generate the SELECT of NUMBER and these features, a row for each request.

    Args:
        lake: The lake to read, with its hot tail.
        stream: A stream with features.
        names: Columns of its table of features.
        requests: A FROM item with NUMBER, ENTITY and AT.
        times: The distinct times of the requests, UTC. They are used where each is computed by itself, and may be empty
            where `plan` finds a way.
        days: The distinct days of these times.

    Raises ParameterError for too many times to compute one by one.

    """
    entity = entity_column(stream)
    types = dict(columns_of(lake.tables.load(f"serving.{stream.name}_features")))
    columns = ", ".join(f"computed.{quote(name)}::{types[name]} as {quote(name)}" for name in names)
    read = sorted({back for day in days for back in feature_window(day)})
    arrivals = arrivals_sql(lake, stream, read)
    if chosen := plan(stream):
        return f"""with states as materialized (
  select {ENTITY}, {AT}, {AT}::date as {STATE_DAY}, row_number() over () as {STATE}
  from (select distinct {ENTITY}, {AT} from {requests})
),
computed as not materialized (
  {_states_sql(stream, chosen, arrivals)}
)
select requests.{NUMBER}, {columns}
from {requests} as requests
join states on requests.{ENTITY} = states.{ENTITY} and requests.{AT} = states.{AT}
left join computed using ({STATE})"""
    if len(times) > MAX_SINGLE_TIMES:
        raise ParameterError(
            f"Features of {stream.name} are computed for at most {MAX_SINGLE_TIMES} different times at once, because its SQL"
            " does not compute each entity from its own rows in the form that docs/streams.md shows."
            f" These are {len(times):,}: ask for fewer, or write features.sql in that form."
        )
    computed = "\n  union all\n  ".join(_at_sql(stream, at) for at in times)
    return f"""with arrivals as materialized (
  {arrivals}
),
computed as (
  {computed}
)
select requests.{NUMBER}, {columns}
from {requests} as requests
left join computed
  on requests.{AT} = computed.{AT} and requests.{ENTITY} = computed.{quote(entity)}"""


def _states_sql(stream: Stream, chosen: Plan, arrivals: str) -> str:
    """Generate the SELECT of the features of all states."""
    known = arrivals if chosen.events == "arrivals" else bind(stream.sql("silver"), {"valid": arrivals})
    columns = ", ".join(f"known.{quote(name)}" for name in sorted(chosen.form.columns))
    events = f"""select {columns}, states.{STATE}, states.{STATE_DAY}
  from ({known}) as known
  join states
    on known.{quote(chosen.form.entity)} = states.{ENTITY}
    and known.dt <= states.{STATE_DAY}
    and known.dt > states.{STATE_DAY} - {FEATURE_WINDOW_DAYS}
    and known.{KNOWN_FROM} <= states.{AT}
    and (known.{KNOWN_UNTIL} is null or known.{KNOWN_UNTIL} > states.{AT})"""
    days = f"select distinct {STATE_DAY} as dt from states"
    return bind(chosen.form.sql, {"events": events, "days": days, "windows": WINDOWS_SQL})


def _at_sql(stream: Stream, at: datetime) -> str:
    """Generate the SELECT of every entity's features at one time, by the stream's SQL as it is."""
    time = f"timestamp '{at:%Y-%m-%d %H:%M:%S.%f}'"
    fields = ", ".join(map(quote, input_columns(stream.contract)))
    valid = f"""select {fields}
from arrivals
where {KNOWN_FROM} <= {time} and ({KNOWN_UNTIL} is null or {KNOWN_UNTIL} > {time})"""
    silver = f"select * from ({bind(stream.sql('silver'), {'valid': valid})})"
    return f"select {time} as {AT}, * from ({features_of_sql(stream, silver, [at.date()])})"


def first_day_read(day: date) -> date:
    """Return the first day whose events count for the features of `day`."""
    return day - timedelta(days=FEATURE_WINDOW_DAYS - 1)
