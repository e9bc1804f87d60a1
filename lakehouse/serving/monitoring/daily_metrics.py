"""The day's business numbers over time: one number of a stream by day, as a whole or by one of its dimensions."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import date
from typing import Any, Literal

import msgspec

SERIES = 8
"""Values of a dimension that are told apart; the others are one series where they can be added up."""

How = Literal["sum", "max", "min", "mean"]


class Measure(msgspec.Struct, frozen=True):
    """A number that a stream has for each day, and what it can be told apart by."""

    name: str
    how: How
    """How the numbers of several rows of `gold.{stream}_daily` become one."""
    dimensions: list[str]


class Measures(msgspec.Struct, frozen=True):
    """The numbers of a stream, and the days it has them for."""

    stream: str
    first_day: date | None
    last_day: date | None
    measures: list[Measure]


class Series(msgspec.Struct, frozen=True):
    """A number by day, null where there is none."""

    name: str
    values: list[float | None]


class Numbers(msgspec.Struct, frozen=True):
    """One number of a stream by day."""

    stream: str
    metric: str
    how: How
    by: str | None
    days: list[date]
    series: list[Series]


def how_of(metric: str) -> How:
    """How a number of several rows becomes one: extremes stay extremes, averages and percentiles can't be added up.

    Counts of distinct things are added up too, and may count one that occurs in several rows more than once.
    """
    prefix = metric.partition("_")[0]
    if prefix in ("max", "min"):
        return "max" if prefix == "max" else "min"
    return "mean" if prefix == "avg" or (prefix[:1] == "p" and prefix[1:].isdigit()) else "sum"


MEASURES_SQL = """select
  metric_name,
  min(date_key) as first_day,
  max(date_key) as last_day,
  any_value(map_keys(dimensions)) as dimensions
from gold.daily_metrics
where stream = ?
group by metric_name
order by metric_name"""
"""A stream's numbers. Parameter: the stream."""


def measures_of(stream: str, rows: Iterable[Mapping[str, Any]]) -> Measures:
    """What the rows of `MEASURES_SQL` say."""
    rows = list(rows)
    return Measures(
        stream,
        min((row["first_day"] for row in rows), default=None),
        max((row["last_day"] for row in rows), default=None),
        [Measure(row["metric_name"], how_of(row["metric_name"]), list(row["dimensions"] or [])) for row in rows],
    )


def numbers_sql(metric: str, by: str | None) -> str:
    """One number of a stream by day and by `by`. Parameters: stream, metric, first and last day, and `by` if given."""
    combine = {"sum": "fsum", "max": "max", "min": "min", "mean": "avg"}[how_of(metric)]
    name = "coalesce(dimensions[$by], 'none')" if by else "''"
    return f"""select date_key, {name} as name, {combine}(metric_value) as value
from gold.daily_metrics
where stream = $stream
  and metric_name = $metric
  and date_key between $first::date and $last::date
group by all
order by date_key"""


def numbers_of(
    stream: str, metric: str, by: str | None, days: Sequence[date], rows: Iterable[Mapping[str, Any]]
) -> Numbers:
    """The rows of `numbers_sql` as series, the largest first; those beyond eight are added up where that means something."""
    how = how_of(metric)
    found: dict[str, dict[date, float]] = {}
    for row in rows:
        if row["value"] is not None:
            found.setdefault(str(row["name"]), {})[row["date_key"]] = float(row["value"])
    ordered = sorted(found, key=lambda name: (-sum(map(abs, found[name].values())), name))
    kept, rest = ordered[:SERIES], ordered[SERIES:]
    series = [Series(name or metric, [found[name].get(day) for day in days]) for name in kept]
    if rest and how == "sum":
        others = [[found[name][day] for name in rest if day in found[name]] for day in days]
        series.append(Series(f"{len(rest)} others", [sum(values) if values else None for values in others]))
    return Numbers(stream, metric, how, by, list(days), series)
