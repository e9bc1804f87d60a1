"""Days on which a metric is outside of its forecast's band are found, for each metric and each currency by itself."""

import os
from datetime import date, timedelta

from lakehouse.contracts.sql import literal
from lakehouse.pipeline.commits import replace_days
from lakehouse.pipeline.lake import Lake
from lakehouse.pipeline.long_form import DAILY_METRICS
from lakehouse.pipeline.metric_forecasts import checked_days, unusual_days

LAST = date(1995, 3, 31)
DAYS = [LAST - timedelta(days=number) for number in range(60)][::-1]


def _write(lake: Lake, stream: str, days: list[date], amount: float = 510) -> None:
    """Write two amounts and a count for each day; the amount in USD of the last day is given."""
    first = days[0]
    select = f"""
    select date_key, {literal(stream)} as stream, metric_name, metric_value::double as metric_value,
      if(currency = '', map([], [])::map(varchar, varchar), map(['currency'], [currency])) as dimensions
    from (select unnest(generate_series(date '{first}', date '{days[-1]}', interval 1 day))::date as date_key),
      (values ('events', '', 100), ('amount', 'EUR', 1000), ('amount', 'USD', 500)) as kinds(metric_name, currency, usual),
      lateral (select usual + (hash(date_key, metric_name) % 20) as usual_value),
      lateral (select if(currency = 'USD' and date_key = date '{LAST}', {amount}, usual_value) as metric_value)
    """
    replace_days(lake, DAILY_METRICS, select, days, column="date_key")


def test_number_outside_of_its_band_is_found(shared_lake: Lake) -> None:
    stream = f"s{os.urandom(4).hex()}"
    shared_lake.bootstrap([])
    _write(shared_lake, stream, DAYS)
    assert unusual_days(shared_lake, [LAST]) == []
    _write(shared_lake, stream, DAYS, amount=2000)
    (found,) = unusual_days(shared_lake, [LAST, LAST - timedelta(days=1)])
    assert (found.stream, found.metric, found.currency, found.day, found.value) == (stream, "amount", "USD", LAST, 2000)
    assert 450 < found.low < found.expected < found.high < 570
    assert str(found).startswith(f"{stream}: amount in USD on {LAST} is 2,000, expected 5")
    assert unusual_days(shared_lake, []) == []


def test_days_of_the_last_week_are_checked_and_today_is_not() -> None:
    today = date(2026, 1, 20)
    days = [today - timedelta(days=number) for number in (0, 1, 7, 8, 400)]
    assert checked_days(days, today) == [today - timedelta(days=7), today - timedelta(days=1)]
