"""The columns that a column is computed from are found through joins, expressions, windows and common table expressions."""

import pytest

from lakehouse.pipeline.column_lineage import sql_lineage

TABLES = {
    "silver.a": [("id", "BIGINT"), ("dt", "DATE"), ("amount", "DECIMAL(18,2)")],
    "gold.b": [("id", "BIGINT"), ("name", "VARCHAR")],
}


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        ("select dt, amount * 2 as twice from silver.a", {"dt": ["silver.a.dt"], "twice": ["silver.a.amount"]}),
        ("from silver.a select id", {"id": ["silver.a.id"]}),
        ("select * exclude (dt) from silver.a", {"id": ["silver.a.id"], "amount": ["silver.a.amount"]}),
        (
            "with c as (select id, sum(amount) as total from silver.a group by all)"
            " select b.name, total from c join gold.b as b using (id)",
            {"name": ["gold.b.name"], "total": ["silver.a.amount"]},
        ),
        (
            "select id, row_number() over (partition by dt order by amount) as n from silver.a qualify n = 1",
            {"id": ["silver.a.id"], "n": ["silver.a.dt", "silver.a.amount"]},
        ),
        (
            "select id from silver.a union all select id from gold.b",
            {"id": ["silver.a.id", "gold.b.id"]},
        ),
        ("select count(*) as rows from silver.a", {"rows": []}),
        ("select ) from", {}),
    ],
)
def test_lineage_names_the_columns(sql: str, expected: dict[str, list[str]]) -> None:
    found = sql_lineage(sql, TABLES)
    assert {name: sorted(f"{t}.{c}" for t, c in of) for name, of in found.items()} == {
        name: sorted(of) for name, of in expected.items()
    }
