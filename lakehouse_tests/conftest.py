"""One embedded server for a session; under pytest-xdist each worker has its own."""

from collections.abc import Iterator

import pytest

from lakehouse.settings import Settings
from lakehouse.storage import server
from lakehouse.storage.connection import Connection
from lakehouse.storage.objects import Objects


@pytest.fixture(scope="session")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    return Settings(home=tmp_path_factory.mktemp("home"))


@pytest.fixture(scope="session")
def connection(settings: Settings) -> Iterator[Connection]:
    with server.running(settings) as connection:
        yield connection


@pytest.fixture(scope="session")
def objects(connection: Connection) -> Objects:
    return Objects.from_connection(connection)
