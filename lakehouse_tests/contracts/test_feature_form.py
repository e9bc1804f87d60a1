"""SQL is computed for many entities together only if each entity's features follow from its own rows."""

import pytest

from lakehouse.contracts.cutting import keeps_rows
from lakehouse.contracts.feature_form import find_form
from lakehouse.contracts.streams import discover

FORM = """
with daily as (
  select dt, user_id, count(*) as events, max(value) as largest
  from events
  where user_id is not null
  group by dt, user_id
)
select as_of as dt, user_id, sum(events) as events_30d, max(largest) as largest_30d
from windows
join daily on daily.dt = windows.dt
group by as_of, user_id
"""


def test_form_reads_only_the_columns_of_the_features_that_are_asked_for() -> None:
    form = find_form(FORM, ("events_30d",))
    assert form is not None
    assert (form.entity, form.columns) == ("user_id", frozenset({"dt", "user_id"}))
    assert "largest" not in form.daily + form.windowed


@pytest.mark.parametrize(
    ("part", "other"),
    [
        ("max(largest) as", "rank() over (order by max(largest)) as"),
        ("max(value) as", "max(value) over (partition by dt) as"),
        ("from events\n", "from events join days on days.dt = events.dt\n"),
        ("group by dt, user_id", "group by dt, user_id having count(*) > 1"),
        ("group by dt, user_id", "group by all"),
        ("group by as_of, user_id", "group by as_of, user_id limit 10"),
        ("daily.dt = windows.dt", "daily.dt <= windows.dt"),
        ("where user_id is not null", "where value > (select avg(value) from events)"),
        ("join daily", "left join daily"),
        ("as_of as dt", "as_of + 1 as dt"),
        ("sum(events) as events_30d", "sum(events) as others"),
    ],
)
def test_other_forms_are_not_taken_for_it(part: str, other: str) -> None:
    assert part in FORM
    assert find_form(FORM.replace(part, other, 1), ("events_30d", "largest_30d")) is None


def test_shipped_features_have_the_form() -> None:
    for stream in discover().values():
        assert find_form(stream.sql("features"), ("active_days_7d",) if stream.name != "logs" else ("errors_7d",))


@pytest.mark.parametrize(
    ("sql", "keeps"),
    [
        ("select valid.*, row_number() over (partition by dt) as n from valid", True),
        ("select * from (select valid.* from valid) as inner_rows", True),
        ("select valid.* from valid where value > 0", False),
        ("select valid.* from valid qualify row_number() over (partition by dt) = 1", False),
        ("select valid.* from valid join (values (1), (2)) as twice (n) on true", False),
        ("select distinct valid.* from valid", False),
        ("select valid.*, unnest([1, 2]) as n from valid", False),
        ("select from", False),
    ],
)
def test_sql_that_adds_or_drops_rows_is_known(sql: str, keeps: bool) -> None:
    assert keeps_rows(sql) is keeps
