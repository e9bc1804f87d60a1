"""`maintain` and `tag` as they are typed."""

import json

from lakehouse_tests.commands.conftest import Command


def test_maintenance_and_tags_by_hand(lakehouse: Command) -> None:
    assert lakehouse("bootstrap").returncode == 0
    said = lakehouse("maintain", "--json")
    assert (said.returncode, said.stderr) == (0, "")
    assert {one["task"] for one in json.loads(said.stdout)} <= {"manifests", "orphans"}
    assert lakehouse("maintain", "retention", "--dry-run").stdout == "There is nothing to do.\n"
    assert json.loads(lakehouse("tag", "create", "empty", "--json").stdout) == []
    done = lakehouse("tag", "delete", "none")
    assert (done.returncode, done.stderr) == (1, "lakehouse: There is no tag none. There are: none.\n")
