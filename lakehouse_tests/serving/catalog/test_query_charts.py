"""A named query whose chart draws a column that there is not is refused with its line, and stays as it was."""

from pathlib import Path

import pytest

from lakehouse.serving.catalog.query_charts import check_charts
from lakehouse.serving.query.lake_snapshot import LakeSnapshot, PinnedTables
from lakehouse.serving.query.named_queries import NamedQuery, read_query

EMPTY_LAKE = LakeSnapshot(1, {}, PinnedTables({}), {})


def _query(folder: Path, chart: str, table: str = "serving.stream_health") -> NamedQuery:
    header = "/*\nname: q\ndescription: q\nparameters: {days: {type: integer, description: d}}\n*/"
    path = folder / "q.sql"
    path.write_text(f"{header}\n-- chart: {chart}\nselect dt, events from {table} where dt > current_date - $days")
    return read_query(path)


def test_chart_of_an_unknown_column_is_refused_and_the_query_stays(tmp_path: Path) -> None:
    before = {"q": _query(tmp_path, "line x=dt y=events")}
    assert check_charts(before, {}, EMPTY_LAKE) == (before, [])
    wrong = {"q": _query(tmp_path, "line x=dt y=event")}
    problem = f"{tmp_path / 'q.sql'}: line 6: chart: there is no column event; there are dt, events."
    assert check_charts(wrong, before, EMPTY_LAKE) == (before, [problem])
    assert check_charts(wrong, {}, EMPTY_LAKE) == ({}, [problem])


@pytest.mark.parametrize("table", ["silver.not_yet", "serving.live_not_yet_daily"])
def test_chart_over_a_table_that_does_not_exist_yet_is_not_checked(tmp_path: Path, table: str) -> None:
    queries = {"q": _query(tmp_path, "line x=dt y=event", table)}
    assert check_charts(queries, {}, EMPTY_LAKE) == (queries, [])
