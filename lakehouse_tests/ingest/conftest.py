"""A real server beside the real storage, one for a session."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta

import httpx
import pytest

from lakehouse.contracts.streams import discover
from lakehouse.ingest.http import server
from lakehouse.ingest.http.server import Running
from lakehouse.ingest.simulation import Faults, Simulator
from lakehouse.settings import Settings
from lakehouse.storage.connection import Connection

Events = Callable[..., bytes]
NO_FAULTS = Faults()


@pytest.fixture(scope="session")
def http_settings(settings: Settings) -> Settings:
    return settings.model_copy(update={"http_port": 18200, "http_max_body_mb": 4, "http_body_seconds": 1.5})


@pytest.fixture(scope="session")
def running(http_settings: Settings, connection: Connection) -> Iterator[Running]:
    explicit = Settings(
        **http_settings.model_dump(include={"home", "http_port", "http_max_body_mb", "http_body_seconds"})
    )
    found = server.start(explicit)
    yield found
    assert server.stop(explicit)


@pytest.fixture
def client(running: Running) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=running.url, timeout=20) as client:
        yield client


@pytest.fixture
def events() -> Events:
    """`events(count, stream, seed, faults)`: simulated lines."""

    def events(count: int, stream: str = "financial", seed: int = 1, faults: Faults = NO_FAULTS) -> bytes:
        found = discover()[stream]
        now = datetime.now(UTC)
        return Simulator(found.contract, found.simulate, seed, faults).batch(count, now - timedelta(hours=1), now).lines

    return events
