"""Business metrics by day: one metric of a stream, in total or split by one of its dimensions."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import date
from typing import Any

import msgspec
import numpy as np

from lakehouse.anomalies.extremes import Floats
from lakehouse.anomalies.forecast import forecast
from lakehouse.pipeline.metric_forecasts import FUNCTIONS, Aggregation, aggregation_of

MAX_SERIES = 8
"""Dimension values with a series of their own. The others are summed in one more series, if the metric can be summed."""


class Measure(msgspec.Struct, frozen=True):
    """A metric of a stream, and the dimensions it can be split by."""

    name: str
    how: Aggregation
    """How the values of several rows of `gold.{stream}_daily` are combined."""
    dimensions: list[str]


class StreamMeasures(msgspec.Struct, frozen=True):
    """All metrics of a stream, and the days they exist for."""

    stream: str
    first_day: date | None
    last_day: date | None
    measures: list[Measure]


class Series(msgspec.Struct, frozen=True):
    """Values by day, null where there is none."""

    name: str
    values: list[float | None]


class MetricByDay(msgspec.Struct, frozen=True):
    """One metric of a stream by day."""

    stream: str
    metric: str
    how: Aggregation
    by: str | None
    days: list[date]
    series: list[Series]


def measures_sql(numbers: str) -> str:
    """Return the query for the metrics in `numbers`, the SELECT of a stream's live daily metrics."""
    return f"""select
  metric_name,
  min(date_key) as first_day,
  max(date_key) as last_day,
  any_value(map_keys(dimensions)) as dimensions
from ({numbers})
group by metric_name
order by metric_name"""


def stream_measures(stream: str, rows: Iterable[Mapping[str, Any]]) -> StreamMeasures:
    """Build the measures of a stream from the rows of `measures_sql`."""
    rows = list(rows)
    return StreamMeasures(
        stream,
        min((row["first_day"] for row in rows), default=None),
        max((row["last_day"] for row in rows), default=None),
        [
            Measure(row["metric_name"], aggregation_of(row["metric_name"]), list(row["dimensions"] or []))
            for row in rows
        ],
    )


def metric_sql(numbers: str, metric: str, by: str | None) -> str:
    """Return the query for a metric by day and by dimension `by`, in `numbers`, the SELECT of a stream's live daily metrics.

    Parameters: metric, first (day), last (day), and by if given.
    """
    combine = FUNCTIONS[aggregation_of(metric)]
    name = "coalesce(dimensions[$by], 'none')" if by else "''"
    return f"""select date_key, {name} as name, {combine}(metric_value) as value
from ({numbers})
where metric_name = $metric
  and date_key between $first::date and $last::date
group by all
order by date_key"""


def metric_by_day(
    stream: str, metric: str, by: str | None, days: Sequence[date], rows: Iterable[Mapping[str, Any]]
) -> MetricByDay:
    """Build series from the rows of `metric_sql`, largest first, with the smallest combined into one."""
    how = aggregation_of(metric)
    values: dict[str, dict[date, float]] = {}
    for row in rows:
        if row["value"] is not None:
            values.setdefault(str(row["name"]), {})[row["date_key"]] = float(row["value"])
    largest_first = sorted(values, key=lambda name: (-sum(map(abs, values[name].values())), name))
    shown, others = largest_first[:MAX_SERIES], largest_first[MAX_SERIES:]
    series = [Series(name or metric, [values[name].get(day) for day in days]) for name in shown]
    if others and how == "sum":
        by_day = [[values[name][day] for name in others if day in values[name]] for day in days]
        series.append(Series(f"{len(others)} others", [sum(numbers) if numbers else None for numbers in by_day]))
    return MetricByDay(stream, metric, how, by, list(days), series)


class MetricForecast(msgspec.Struct, frozen=True):
    """One metric of a stream by day with what was expected of each day, and of the days ahead."""

    stream: str
    metric: str
    how: Aggregation
    by: str | None
    value: str | None
    """The value of the dimension `by` that the numbers are of."""
    days: list[date]
    values: list[float | None]
    """Null for days ahead, and for days without a number."""
    expected: list[float | None]
    """Null, as the band is, until there are three weeks of numbers."""
    low: list[float | None]
    high: list[float | None]
    is_outside: list[bool]
    """Whether a day is outside of the band of what was expected."""


def metric_forecast(
    stream: str,
    metric: str,
    by: str | None,
    value: str | None,
    days: Sequence[date],
    shown: int,
    rows: Iterable[Mapping[str, Any]],
) -> MetricForecast:
    """Build a forecast from the rows of `metric_sql`: the last days `shown`, the days ahead among them."""
    numbers = {row["date_key"]: row["value"] for row in rows if by is None or row["name"] == value}
    last = max(numbers, default=None)
    history = [day for day in days if last is not None and day <= last]
    values = [numbers.get(day) for day in history]
    found = forecast(values, len(days) - len(history))
    known = np.array([np.nan if number is None else number for number in values])
    outside = [*found.is_outside(known).tolist(), *[False] * (len(days) - len(history))]
    parts = (known, found.expected, found.low, found.high)
    whole, expected, low, high = (_last(part, len(days), shown) for part in parts)
    return MetricForecast(
        stream, metric, aggregation_of(metric), by, value, [*days[-shown:]], whole, expected, low, high,
        outside[-shown:],
    )  # fmt: skip


def _last(values: Floats, days: int, shown: int) -> list[float | None]:
    padded = [*values.tolist(), *[np.nan] * (days - len(values))]
    return [None if np.isnan(value) else value for value in padded[-shown:]]
