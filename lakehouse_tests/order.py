"""How tests are handed to workers: by file, those that take longest first, so that none is left alone with them at the end."""

from collections.abc import Sequence
from pathlib import Path

import pytest
from xdist.scheduler import LoadFileScheduling  # type: ignore[import-untyped]

LONGEST = (
    "chaos/test_rounds.py",
    "bench/test_bench.py",
    "serving/page/",
    "cli/test_commands.py",
    "maintenance/test_erase.py",
    "sources/http/test_server.py",
    "storage/test_lifecycle.py",
    "chaos/test_network.py",
    "auditing/",
    "pipeline/test_bad_input.py",
    "pipeline/test_concurrency.py",
    "pipeline/test_staleness.py",
    "serving/api/",
    "pipeline/test_conservation.py",
    "pipeline/test_fast_path.py",
    "landing/readers/test_broken_lines.py",
    "sources/kinesis/test_process.py",
    "runtime/test_run_launcher.py",
    "sources/http/test_full_disk.py",
)
"""Files of half a minute and more, and folders."""

TOGETHER = ("serving/page/", "serving/api/")
"""Folders whose files share servers that take seconds to start."""

HERE = Path(__file__).parent.name


class LongestFirst(LoadFileScheduling):  # type: ignore[misc]
    """Hands out files in the order of collection, and some folders as if they were one file."""

    def _split_scope(self, nodeid: str) -> str:
        file: str = super()._split_scope(nodeid)
        return next((folder for folder in TOGETHER if f"{HERE}/{folder}" in file), file)


def in_order(items: Sequence[pytest.Item]) -> list[pytest.Item]:
    """The tests, those of the longest files first."""

    def rank(item: pytest.Item) -> int:
        file = item.path.as_posix()
        return next((number for number, prefix in enumerate(LONGEST) if f"/{HERE}/{prefix}" in file), len(LONGEST))

    return sorted(items, key=rank)
