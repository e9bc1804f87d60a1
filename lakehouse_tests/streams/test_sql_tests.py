"""The tests beside the SQL of the package's streams pass, and each stream has some."""

import pytest

from lakehouse.contracts.streams import SHIPPED
from lakehouse.pipeline.lake import Lake
from lakehouse.pipeline.sql_tests import STREAM_TESTS, SqlTest, find_tests
from lakehouse.settings import Settings

TESTS = find_tests(Lake(Settings()), sorted(SHIPPED.glob(f"*/{STREAM_TESTS}")))


@pytest.mark.parametrize("test", TESTS, ids=str)
def test_sql_gives_the_expected_rows(test: SqlTest) -> None:
    test.check()


def test_each_stream_has_tests() -> None:
    assert {test.path.parent.name for test in TESTS} == {*Lake(Settings()).streams}
