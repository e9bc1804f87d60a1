"""A serving process for the session's lake, behind the session's gateway."""

from collections.abc import Iterator

import httpx
import pytest

from lakehouse.pipeline.lake import Lake
from lakehouse.processes.service import RunningService
from lakehouse.serving.api import server
from lakehouse.settings import Settings
from lakehouse_tests.pipeline.own import make_shared_stream, make_stream, shared_lake

__all__ = ["make_shared_stream", "make_stream", "shared_lake"]


@pytest.fixture(scope="session")
def serving(shared_lake: Lake, running: RunningService) -> Iterator[RunningService]:
    """The serving process, with the streams that ship."""
    settings = Settings(home=shared_lake.settings.home)
    Lake(settings, shared_lake.connection).bootstrap()
    yield server.start(settings)
    assert server.stop(settings)


@pytest.fixture
def api(serving: RunningService, running: RunningService) -> Iterator[httpx.Client]:
    """A client of the gateway, with the serving process behind it."""
    with httpx.Client(base_url=running.url, timeout=60) as client:
        yield client
