"""A column counts as passed on only where it is certainly the column of the same row."""

import pytest

from lakehouse.contracts.columns import passed_through
from lakehouse.contracts.streams import Stream, discover

STREAMS = discover(())
ALL = {"a", "b", "dt"}


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        ("select valid.*, a + 1 as c from valid", ALL),
        ("-- why\nselect *, a + 1 as c from valid", ALL),
        ("select v.*, row_number() over (partition by dt order by a) as n from valid as v where a > 1", ALL),
        ("select x.*, x.c + 1 as d from (select valid.*, 2 as c from valid) as x", ALL),
        ("with x as (select valid.*, 2 as c from valid) select x.*, c as d from x", ALL),
        ("select valid.*, f.factor from valid left join (values ('x', 1)) as f (b, factor) on f.b = valid.b", ALL),
        ("select valid.* replace (upper(b) as b), 1 as c from valid", {"a", "dt"}),
        ("select valid.* exclude (b), upper(b) as b from valid", {"a", "dt"}),
        ("select a.*  from valid as a join valid as b on a.a = b.b", ALL),
        ("select a._place, a.dt, b.a, b.b from valid as a join valid as b on a.a = b.b", {"dt"}),
        ("select x.* from (select valid.* replace (a + 1 as a) from valid) as x", {"b", "dt"}),
        ("select dt, a as b, b as a from valid", set()),
        ("select valid.* from valid union all select valid.* from valid", set()),
        ("select _place, dt, max(a) as a, b from valid group by all", {"b", "dt"}),
        ("select", set()),
    ],
)
def test_unchanged_columns_pass_through(sql: str, expected: set[str]) -> None:
    assert set(passed_through(sql, "valid", ("a", "b", "dt"))) == expected


@pytest.mark.parametrize("stream", STREAMS.values(), ids=STREAMS)
def test_silver_passes_every_input_column_through(stream: Stream) -> None:
    columns = (*(field.name for field in stream.contract.fields), "dt", "_arrived_at")
    assert set(passed_through(stream.sql("silver"), "valid", columns)) == set(columns)
