"""Hand tests to workers by file, the longest first, so that no worker is left alone with one at the end."""

from collections.abc import Sequence
from pathlib import Path

import pytest
from xdist.scheduler import LoadFileScheduling  # type: ignore[import-untyped]

LONGEST = (
    "cli/test_walk.py",
    "cli/test_reload.py",
    "chaos/test_rounds.py",
    "maintenance/test_erase.py",
    "bench/test_bench.py",
    "serving/page/",
    "serving/api/",
    "sources/http/test_server.py",
    "cli/test_commands.py",
    "cli/test_init.py",
    "pipeline/test_concurrency.py",
    "pipeline/test_upgrade.py",
    "storage/test_lifecycle.py",
    "pipeline/test_staleness.py",
    "pipeline/test_rollback.py",
    "pipeline/test_withdrawal.py",
    "pipeline/test_quality_gate.py",
    "chaos/test_network.py",
    "pipeline/test_realtime_coverage.py",
    "pipeline/test_conservation.py",
    "landing/readers/test_broken_lines.py",
    "sources/kinesis/test_process.py",
    "sources/http/test_replay.py",
    "sources/http/test_full_disk.py",
    "runtime/test_run_launcher.py",
    "auditing/",
    "test_api.py",
    "assets/test_runs.py",
    "pipeline/test_new_streams.py",
    "storage/test_objects.py",
    "automation/test_schedules.py",
    "maintenance/test_retention.py",
    "contracts/test_validator.py",
)
"""Files that take 15 seconds and more, and folders."""

TOGETHER = ("serving/page/", "serving/api/")
"""Folders whose files share servers that take seconds to start."""

HERE = Path(__file__).parent.name


class LongestFirst(LoadFileScheduling):  # type: ignore[misc]
    """Hand out files in the order of collection, and some folders as if they were one file."""

    def _split_scope(self, nodeid: str) -> str:
        file: str = super()._split_scope(nodeid)
        return next((folder for folder in TOGETHER if f"{HERE}/{folder}" in file), file)


def in_order(items: Sequence[pytest.Item]) -> list[pytest.Item]:
    """Return the tests, those of the longest files first."""

    def rank(item: pytest.Item) -> int:
        file = item.path.as_posix()
        return next((number for number, prefix in enumerate(LONGEST) if f"/{HERE}/{prefix}" in file), len(LONGEST))

    return sorted(items, key=rank)
