"""Generate one SELECT of a stream's features as they were known at the times of some requests.

Where the stream's SQL allows it, all requests are computed at once; see `plan`. Otherwise each time is computed by itself,
with the SQL as it is.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta

from lakehouse.contracts.sql import quote
from lakehouse.contracts.streams import Stream
from lakehouse.engine.connection import bind, columns_of
from lakehouse.errors import ParameterError
from lakehouse.pipeline.day_groups import input_columns
from lakehouse.pipeline.features import FEATURE_WINDOW_DAYS, feature_window, features_of_sql
from lakehouse.pipeline.point_in_time.arrivals import KNOWN_FROM, KNOWN_UNTIL, arrivals_sql
from lakehouse.pipeline.point_in_time.together import AT, ENTITY, NUMBER, few_sql, plan, together_sql
from lakehouse.pipeline.readable_lake import ReadableLake

MAX_FEW = 200
"""Up to so many requests are computed without looking for what they share."""

MAX_SINGLE_TIMES = 100
"""How many times are computed one by one, each by reading all rows of its 30 days."""


def entity_column(stream: Stream) -> str:
    """Return the column of the features that holds the entity. Raises ParameterError if the stream has no features."""
    if not stream.has_features or stream.contract.entity is None:
        lacks = "customProperties.entity in its contract" if stream.has_features else "features.sql"
        raise ParameterError(f"The stream {stream.name} has no features, because it has no {lacks}.")
    return stream.contract.entity


@dataclass(frozen=True, slots=True)
class Requests:
    """Entities and times of which features are computed."""

    source: str
    """A FROM item with NUMBER, ENTITY and AT."""
    days: Sequence[date]
    """The distinct days of the times."""
    entities: Sequence[str] | None
    """The distinct entities as SQL literals; None for more than MAX_FEW requests."""
    times: Sequence[datetime]
    """The distinct times, UTC. They are used where each is computed by itself, and may be empty where `plan` finds a way."""

    @property
    def read_days(self) -> list[date]:
        """The days whose events the features of these requests read."""
        return sorted({back for day in self.days for back in feature_window(day)})


def known_features_sql(
    lake: ReadableLake, stream: Stream, names: Sequence[str], requests: Requests, arrivals: str | None = None
) -> str:
    """Generate the SELECT of NUMBER and these features, a row for each request.

    Args:
        lake: The lake to read, with its hot tail.
        stream: A stream with features.
        names: Columns of its table of features.
        requests: The entities and times.
        arrivals: The SELECT of the arrivals of all days that the requests read, if it is not that of `arrivals_sql`.

    Raises ParameterError for too many times to compute one by one.

    """
    entity = entity_column(stream)
    types = dict(columns_of(lake.tables.load(f"serving.{stream.name}_features")))
    columns = ", ".join(f"computed.{quote(name)}::{types[name]} as {quote(name)}" for name in names)
    arrivals = arrivals or arrivals_sql(lake, stream, requests.read_days)
    times = requests.times
    if chosen := plan(stream, names):
        if requests.entities is not None:
            return few_sql(chosen, arrivals, requests.source, requests.entities, columns)
        return together_sql(chosen, arrivals, requests.source, columns)
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
from {requests.source} as requests
left join computed
  on requests.{AT} = computed.{AT} and requests.{ENTITY} = computed.{quote(entity)}"""


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
