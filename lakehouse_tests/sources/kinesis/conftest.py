"""A stream of its own for each test, and readers that pause for no one."""

import pytest

from lakehouse.sources.kinesis import reading as module
from lakehouse_tests.sources.kinesis.landings import new_stream


@pytest.fixture
def stream() -> str:
    return new_stream()


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PAUSE", 0.0)
    monkeypatch.setattr(module, "BACK_OFF", 0.002)
