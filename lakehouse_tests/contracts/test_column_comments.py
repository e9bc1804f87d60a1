"""A comment at the end of a column's line describes the column."""

import pytest

from lakehouse.contracts.column_comments import column_comments, window_comments
from lakehouse.contracts.streams import Stream, discover
from lakehouse.pipeline.table_specs import table_specs

SQL = """-- Count events.
with daily as (
  select dt, count(*) as events, -- Number of events.
    sum(x) as amount -- Sum
  from silver
)
select
  as_of as dt,  -- The day.
  sum(events) as "Events", -- All of them.
  -- not this
  max(x)
    as largest --largest x
from daily
"""


def test_comments_describe_the_columns_of_their_lines() -> None:
    assert column_comments(SQL) == {
        "dt": "The day.",
        "events": "All of them.",
        "amount": "Sum",
        "largest": "largest x",
    }


@pytest.mark.parametrize("column", ["events", "events_1d", "share_7d"])
def test_comment_on_any_window_describes_all_windows(column: str) -> None:
    columns = ["id", "events_1d", "events_30d", "share_1d", "share_7d"]
    described = window_comments(f"select x as {column}, -- Number.\n y as id", columns)
    base = column.partition("_")[0]
    windows = {"1d": "on the day", "7d": "in the 7 days up to it", "30d": "in the 30 days up to it"}
    assert described == {
        name: f"Number, {windows[name.partition('_')[2]]}." for name in columns if name.startswith(f"{base}_")
    }


@pytest.mark.parametrize("stream", discover().values(), ids=str)
def test_every_column_of_shipped_gold_and_features_is_described(stream: Stream) -> None:
    specs = {spec.name: spec for spec in table_specs([stream])}
    for name in (f"gold.{stream.name}_daily", f"serving.{stream.name}_features"):
        columns = [column for column, _ in specs[name].columns if not specs[name].descriptions.get(column)]
        assert columns == ["dt"]
