"""`maintain` and `tag` run on a home without tables. See `lakehouse_tests.maintenance` for what they do to tables."""

import json

from lakehouse_tests.cli.conftest import Command


def test_maintain_and_tag_without_tables(lakehouse: Command) -> None:
    compacted = lakehouse("maintain", "compact", "--json")
    assert (compacted.returncode, compacted.stdout, compacted.stderr) == (0, "[]\n", "")
    assert lakehouse("maintain", "history", "--dry-run").stdout == "There is nothing to do.\n"
    assert json.loads(lakehouse("tag", "create", "empty", "--json").stdout) == []
    done = lakehouse("tag", "delete", "none")
    assert (done.returncode, done.stderr) == (1, "lakehouse: There is no tag none. Existing tags: none.\n")
