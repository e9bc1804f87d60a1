"""One embedded storage server and one HTTP server for a session; under pytest-xdist each worker has its own."""

import gc
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings as hypothesis_settings

from lakehouse.contracts.streams import discover
from lakehouse.processes import service
from lakehouse.processes.service import RunningService
from lakehouse.serving.api import gateway_server as http_server
from lakehouse.settings import Settings
from lakehouse.sources.simulation import Faults, Simulator
from lakehouse.storage.embedded import lifecycle as storage
from lakehouse.storage.objects.connection import Connection
from lakehouse.storage.objects.store import Objects
from lakehouse_tests.forked import ForkedServer
from lakehouse_tests.order import LongestFirst, in_order
from lakehouse_tests.pipeline.own import copy_stream
from lakehouse_tests.postgres import postgres_server
from lakehouse_tests.storage.aws import moto
from lakehouse_tests.storage.iam import EnforcedAws, enforced
from lakehouse_tests.waiting import until

Events = Callable[..., bytes]
NO_FAULTS = Faults()

# The tests start hundreds of processes, and without bytecode each would compile all modules again.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False  # which the fork server takes over

# An example's time says nothing beside other tests.
hypothesis_settings.register_profile("no-deadline", deadline=None)
hypothesis_settings.load_profile("no-deadline")

ENVELOPED = "enveloped"
ENVELOPE = """
  - property: dialect
    value:
      envelope: ["$.detail.records[*]", "$.record"]
      fieldPaths: {account_id: account.id, currency: $.detail.currency}
      timeFormat: [dd/MM/yyyy HH:mm:ss]
      timeZone: Europe/Berlin
      roundDecimals: true
"""

UNMOUNT_SECONDS = 15.0
"""A process that was stopped may take some time to close its files."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items[:] = in_order(items)


def pytest_make_parametrize_id(val: object, argname: str) -> str | None:
    """Name bytes by their argument, because packed ones differ by the second and workers must collect the same tests."""
    return argname if isinstance(val, bytes) else None


def pytest_collection_finish() -> None:
    """Leave what lives as long as the session out of each garbage collection."""
    gc.collect()
    gc.freeze()


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> LongestFirst:
    return LongestFirst(config, log)


@pytest.fixture(scope="session", autouse=True)
def _kill_stopped_storage() -> Iterator[None]:
    """Kill storage servers soon after they were asked to stop: they take one to three seconds, and lose nothing by it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(storage, "STOP_SECONDS", 0.1)
        yield


@pytest.fixture(scope="session", autouse=True)
def _forked_servers() -> Iterator[None]:
    """Start the servers of a home in forks, because new processes import for up to three seconds."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(service, "spawn", ForkedServer)
        yield


@pytest.fixture(scope="session")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    return Settings(home=tmp_path_factory.mktemp("home"))


@pytest.fixture(scope="session")
def connection(settings: Settings) -> Iterator[Connection]:
    with storage.running(settings) as connection:
        yield connection


@pytest.fixture(scope="session")
def objects(connection: Connection) -> Objects:
    return Objects.from_connection(connection)


@pytest.fixture(scope="session")
def own_streams(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the HTTP server's streams besides those that ship. Its only one takes envelopes."""
    folder = tmp_path_factory.mktemp("streams")
    copy_stream(folder, ENVELOPED, edit=lambda text: text + ENVELOPE)
    return folder


@pytest.fixture(scope="session")
def http_settings(settings: Settings, own_streams: Path) -> Settings:
    return settings.model_copy(
        update={"http_port": 18200, "http_max_body_mb": 4, "http_body_seconds": 1.5, "streams": (own_streams,)}
    )


@pytest.fixture(scope="session")
def running(http_settings: Settings, connection: Connection) -> Iterator[RunningService]:
    """The HTTP server beside the storage."""
    explicit = Settings(
        **http_settings.model_dump(include={"home", "http_port", "http_max_body_mb", "http_body_seconds", "streams"})
    )
    yield http_server.start(explicit)
    assert http_server.stop(explicit)


@pytest.fixture(scope="session")
def sail() -> Iterator[str]:
    """The address of Sail, which runs tasks in this process."""
    from lakehouse.bench.sail import sail  # it and pyspark are slow to import

    with sail() as address:
        yield address


@pytest.fixture
def events() -> Events:
    """Simulate `count` events of a stream, as lines."""

    def events(count: int, stream: str = "financial", seed: int = 1, faults: Faults = NO_FAULTS) -> bytes:
        definition = discover()[stream]
        simulator = Simulator(definition.contract, definition.simulate, seed, faults)
        now = datetime.now(UTC)
        return simulator.batch(count, now - timedelta(hours=1), now).lines

    return events


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """The URL of an empty database of PostgreSQL."""
    with postgres_server() as url:
        yield url


@pytest.fixture
def aws() -> Iterator[str]:
    """The URL of moto's server, which stands in for AWS and is empty."""
    with moto() as url:
        yield url


@pytest.fixture
def iam(aws: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[EnforcedAws]:
    """Moto's server with IAM enforced, where each request needs a permission of a role."""
    with enforced(aws, monkeypatch) as enforced_aws:
        yield enforced_aws


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 200 MB."""
    mount = ["mount", "-t", "tmpfs", "-o", "size=200m", "tmpfs", str(tmp_path)]
    if sys.platform != "linux" or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("only root on Linux can mount a small disk")
    yield tmp_path
    unmount = ["umount", str(tmp_path)]  # fails while a process holds a file there
    until(lambda: subprocess.run(unmount, capture_output=True, check=False).returncode == 0, UNMOUNT_SECONDS)
