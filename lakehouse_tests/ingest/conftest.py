"""Clients of the real server, and events for it."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta

import httpx
import pytest

from lakehouse.contracts.streams import discover
from lakehouse.ingest.http.server import Running
from lakehouse.ingest.simulation import Faults, Simulator

Events = Callable[..., bytes]
NO_FAULTS = Faults()


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
