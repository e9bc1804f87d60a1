"""Find days on which a daily metric is outside of the band that its forecast from the days before gives."""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any, Literal

from lakehouse.anomalies.forecast import forecast
from lakehouse.engine.connection import scan_sql
from lakehouse.pipeline.lake import Lake
from lakehouse.pipeline.long_form import DAILY_METRICS

Aggregation = Literal["sum", "max", "min", "mean"]

FUNCTIONS = {"sum": "fsum", "max": "max", "min": "min", "mean": "avg"}
"""The SQL function of each aggregation."""

HISTORY_DAYS = 400
"""From how many days a forecast is made."""

CHECKED_DAYS = 7
"""How many days back a day is compared with its forecast. A back-fill of older ones is not."""

Key = tuple[str, str, str]
"""Stream, metric, and the currency of amounts."""


@dataclass(frozen=True, slots=True)
class UnusualDay:
    """A day on which a metric was outside of its band."""

    stream: str
    metric: str
    currency: str
    """Of amounts, which have a total for each currency; else empty."""
    day: date
    value: float
    expected: float
    low: float
    high: float

    def __str__(self) -> str:
        name = f"{self.metric} in {self.currency}" if self.currency else self.metric
        return (
            f"{self.stream}: {name} on {self.day} is {self.value:,.6g},"
            f" expected {self.expected:,.6g} ({self.low:,.6g} to {self.high:,.6g})"
        )


def aggregation_of(metric: str) -> Aggregation:
    """Return how values of a metric are combined, by the prefix of its name.

    Averages and percentiles cannot be summed, so their mean is taken. Distinct counts are summed, and may count a value
    that occurs in several rows more than once.
    """
    prefix = metric.partition("_")[0]
    if prefix in ("max", "min"):
        return "max" if prefix == "max" else "min"
    return "mean" if prefix == "avg" or (prefix[:1] == "p" and prefix[1:].isdigit()) else "sum"


def checked_days(days: Iterable[date], today: date | None = None) -> list[date]:
    """Select the days that are compared with their forecasts: of the last week, and over."""
    today = today or datetime.now(UTC).date()
    return sorted(day for day in {*days} if today - timedelta(days=CHECKED_DAYS) <= day < today)


def unusual_days(lake: Lake, days: Collection[date]) -> list[UnusualDay]:
    """Find which metrics are outside of their bands on these days, by the rows of the table of daily metrics."""
    if not days:
        return []
    first, last = min(days) - timedelta(days=HISTORY_DAYS), max(days)
    found = []
    for (stream, metric, currency), values in _totals(lake, first, last).items():
        start = min(values)
        history = [start + timedelta(days=number) for number in range((max(values) - start).days + 1)]
        expected = forecast([values.get(day) for day in history], ahead=0)
        for number, day in enumerate(history):
            value, low, high = values.get(day), float(expected.low[number]), float(expected.high[number])
            if day in days and value is not None and (value < low or value > high):
                found.append(
                    UnusualDay(stream, metric, currency, day, value, float(expected.expected[number]), low, high)
                )
    return sorted(found, key=lambda one: (one.day, one.stream, one.metric, one.currency))


def _totals(lake: Lake, first: date, last: date) -> dict[Key, dict[date, float]]:
    """Read the total of each metric by day. Amounts have one for each currency, because these can't be added."""
    table = lake.tables.load(DAILY_METRICS)
    aggregates = ", ".join(f"{function}(metric_value)" for function in FUNCTIONS.values())
    sql = f"""select
  stream,
  metric_name,
  case when contains(metric_name, 'amount') then coalesce(dimensions['currency'], '') else '' end as currency,
  date_key,
  {aggregates}
from {scan_sql(table)}
where date_key between ?::date and ?::date
group by all"""
    totals: dict[Key, dict[date, float]] = {}
    with lake.engine.cursor() as cursor:
        rows: Sequence[tuple[Any, ...]] = cursor.execute(sql, [str(first), str(last)]).fetchall()
    position = {how: number for number, how in enumerate(FUNCTIONS)}
    for stream, metric, currency, day, *values in rows:
        totals.setdefault((stream, metric, currency), {})[day] = values[position[aggregation_of(metric)]]
    return totals
