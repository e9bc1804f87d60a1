"""HTTP clients of a real ingest service."""

from collections.abc import Iterator

import httpx
import pytest

from lakehouse.processes.service import RunningService


@pytest.fixture
def client(running: RunningService) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=running.url, timeout=60) as client:
        yield client
