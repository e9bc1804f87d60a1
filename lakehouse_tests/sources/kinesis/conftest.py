"""A stream of its own for each test, and readers that pause only briefly."""

import pytest
from tenacity import wait_fixed

from lakehouse.sources.kinesis import reader
from lakehouse_tests.sources.kinesis.landings import new_stream


@pytest.fixture
def stream() -> str:
    return new_stream()


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader, "CATCH_UP_PAUSE_SECONDS", 0.0)
    monkeypatch.setattr(reader, "BACK_OFF", wait_fixed(0.004))
