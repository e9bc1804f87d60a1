"""Run `lakehouse` as a user types it. A file's tests share a home with running storage."""

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from lakehouse.settings import Settings
from lakehouse.storage.embedded import lifecycle as storage
from lakehouse_tests.forked import run_forked

Done = subprocess.CompletedProcess[str]
Command = Callable[..., Done]


def run(home: Path, *words: str, **variables: str) -> Done:
    """Run `lakehouse` with these words, without the caller's own LAKEHOUSE_ and DAGSTER_ variables."""
    mine = {name: value for name, value in os.environ.items() if not name.startswith(("LAKEHOUSE_", "DAGSTER_"))}
    return run_forked(words, {**mine, "LAKEHOUSE_HOME": str(home), "COLUMNS": "200", **variables})


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    home = tmp_path_factory.mktemp("command")
    settings = Settings(home=home)
    storage.start(settings)
    yield home
    storage.stop(settings)


@pytest.fixture
def lakehouse(home: Path) -> Command:
    return lambda *words, **variables: run(home, *words, **variables)
