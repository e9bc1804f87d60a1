"""Which SQL can be computed in pieces of a day, and by which columns they are cut."""

import pytest

from lakehouse.contracts.cutting import Cut, find_cut, shared_columns
from lakehouse.contracts.streams import discover

COLUMNS = ("a", "b", "c", "k", "dt")

ROW_BY_ROW = [
    "select valid.* from valid",
    "select *, unnest([1, 2]) as n from valid",
    "select v.*, u.z from valid as v left join (values (1, 2)) as u(a, z) on u.a = v.a",
    "select *, (select max(x) from (values (1)) as t(x)) as m from valid",
    "select *, list_sum(list_transform([1, 2], lambda x: x + 1)) as q from valid",
    "select valid.* from valid where a > 1",
]

SHARED = [
    ("select *, row_number() over (partition by dt, a order by k) as n from valid", {"a"}),
    ("select *, row_number() over (partition by a) as n, sum(c) over (partition by a, b) as s from valid", {"a"}),
    ("select *, sum(b) over w as x from valid window w as (partition by dt, a, b)", {"a", "b"}),
    ("select *, sum(b) over (w order by k) as x from valid window w as (partition by a)", {"a"}),
    ("select dt, a, count(*) as n from valid group by dt, a", {"a"}),
    ("select * from valid qualify row_number() over (partition by b order by k) = 1", {"b"}),
    ("select *, count(*) over (partition by z) as n from (select *, a as z from valid)", {"a"}),
    ("with x as (select * from valid) select *, lag(c) over (partition by k order by b) as d from x", {"k"}),
]

WHOLE_DAYS = [
    "select *, row_number() over (partition by dt order by k) as n from valid",
    "select *, row_number() over () as n from valid",
    "select *, row_number() over (partition by a) as n, sum(c) over (partition by b) as s from valid",
    "select *, row_number() over (partition by lower(a)) as n from valid",
    "select *, row_number() over (partition by z) as n from (select *, lower(a) as z from valid)",
    "select count(*) as n from valid",
    "select histogram(a) as n from valid",
    "select a, count(*) as n from valid group by all",
    "select a, count(*) as n from valid group by rollup (a)",
    "select distinct a from valid",
    "select distinct on (a) * from valid",
    "select * from valid limit 3",
    "select * from valid using sample 10%",
    "with x as (select * from valid) select x.*, y.b from x join x as y using (a)",
    "select * from valid where a in (select a from valid)",
    "select * from valid union all select * from valid",
    "select v.* from (values (1, 2)) as u(a, z) left join valid as v on u.a = v.a",
    "select v.* from valid as v right join (values (1)) as u(a) on u.a = v.a",
    "select v.* from valid as v full join (values (1)) as u(a) on u.a = v.a",
    "not sql at all (",
]


@pytest.mark.parametrize("sql", ROW_BY_ROW)
def test_sql_that_computes_each_row_from_one_row_is_cut_by_any_column(sql: str) -> None:
    assert shared_columns(sql, COLUMNS) == frozenset()


@pytest.mark.parametrize(("sql", "columns"), SHARED)
def test_rows_that_sql_reads_together_stay_together(sql: str, columns: set[str]) -> None:
    assert shared_columns(sql, COLUMNS) == frozenset(columns)


@pytest.mark.parametrize("sql", WHOLE_DAYS)
def test_sql_that_may_need_all_rows_of_a_day_is_not_cut(sql: str) -> None:
    assert shared_columns(sql, COLUMNS) is None


def test_shipped_streams_are_cut_by_key_where_their_sql_lets_them() -> None:
    cuts = {name: find_cut(stream.contract, stream.sql("silver")) for name, stream in discover().items()}
    by_key = {name: Cut(discover()[name].contract.key, within_key=True) for name in cuts}
    assert cuts == by_key | {
        "clickstream": Cut(("session_id",), within_key=False),
        "orders": Cut(("order_id",), within_key=True),
    }
