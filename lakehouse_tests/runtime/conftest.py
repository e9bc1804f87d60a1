"""An event history for each test."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from lakehouse.runtime.event_log import PooledSqliteEventLogStorage


@pytest.fixture
def history(tmp_path: Path) -> Iterator[PooledSqliteEventLogStorage]:
    history = PooledSqliteEventLogStorage(str(tmp_path / "history"))
    yield history
    history.dispose()
