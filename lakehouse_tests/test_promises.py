"""The tests that docs/promises.md names are there."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
NAMED = sorted(
    set(re.findall(r"`(lakehouse_tests/[\w/.]+?\.py)(?:::(\w+))?`", (ROOT / "docs/promises.md").read_text()))
)


@pytest.mark.parametrize(("file", "test"), NAMED)
def test_each_promise_is_shown_by_a_test_that_is_there(file: str, test: str) -> None:
    named = rf"{test}\(" if test else "test_"
    assert re.search(rf"^def {named}", (ROOT / file).read_text(), re.MULTILINE), (file, test)


def test_every_row_of_promises_names_a_test() -> None:
    table = (ROOT / "docs/promises.md").read_text().split("\n## ")[0]
    rows = [line for line in table.splitlines() if line.startswith("| ") and not line.startswith("| promise")]
    assert rows
    assert [line for line in rows if "lakehouse_tests/" not in line] == []
