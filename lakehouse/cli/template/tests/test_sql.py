"""Each test of SQL in this folder: rows in, rows out. `lakehouse test` runs them too."""

from pathlib import Path

import pytest

from lakehouse import Lake, Settings, SqlTest, find_tests


@pytest.mark.parametrize("test", find_tests(Lake(Settings()), [Path(__file__).parent]), ids=str)
def test_sql(test: SqlTest) -> None:
    test.check()
