"""A table whose files are gone answers 503 by itself. Every other answer of the serving process goes on."""

import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta

import httpx
import psutil
import pytest
from pyiceberg.table import Table

from lakehouse.landing.writer import land
from lakehouse.pipeline.bronze import ingest_days
from lakehouse.pipeline.gold import write_daily
from lakehouse.pipeline.lake import Lake
from lakehouse.pipeline.realtime import ingest_hours
from lakehouse.pipeline.refresh import days_to_refresh
from lakehouse.pipeline.silver import clean_days
from lakehouse.processes.service import RunningService
from lakehouse.settings import Settings
from lakehouse.sources.simulation import Faults, Simulator
from lakehouse.storage.objects.connection import Connection
from lakehouse.storage.objects.store import Objects, object_key
from lakehouse_tests.table_files import data_file, manifest, manifest_list, metadata_file

STREAM = "social"
"""A stream that no other test of the serving process uses, so that no process has read its files before."""

HEALTH = "/v1/queries/stream_health"

TABLES = [f"bronze.{STREAM}", f"silver.{STREAM}", f"realtime.{STREAM}", f"gold.{STREAM}_daily"]


@pytest.fixture(scope="module")
def lake(
    settings: Settings, connection: Connection, serving: RunningService, running: RunningService
) -> Iterator[Lake]:
    lake = Lake(settings, connection)
    stream, now = lake.stream(STREAM), datetime.now(UTC)
    simulator = Simulator(stream.contract, stream.simulate, 1, Faults())
    land(lake.objects, STREAM, simulator.batch(10, now - timedelta(hours=1), now).lines, now=now)
    ingest_hours(lake, stream, [f"{now:%Y-%m-%d-%H}:00"], run_id="test")
    ingest_days(lake, stream, [now.date()])
    days = days_to_refresh(lake, stream)
    clean_days(lake, stream, days)
    write_daily(lake, stream, days)
    yield lake
    lake.engine.close()
    _replace_readers(serving)  # to which files that are back count as unreadable for some seconds
    deadline = time.monotonic() + 60
    with httpx.Client(base_url=running.url, timeout=60) as client:
        while _unreadable(client):
            assert time.monotonic() < deadline


@pytest.fixture
def tables(lake: Lake, api: httpx.Client) -> dict[str, Table]:
    """The tables as the serving process has them."""
    tables = {name: lake.tables.load(name) for name in TABLES}
    deadline = time.monotonic() + 60
    for name, table in tables.items():
        while {"name": name, "snapshot": str(table.metadata.current_snapshot_id)} not in api.get("/v1/tables").json():
            assert time.monotonic() < deadline
    return tables


@pytest.mark.parametrize(
    ("name", "url_of", "readers"),
    [
        (f"realtime.{STREAM}", data_file, HEALTH),
        (f"silver.{STREAM}", manifest_list, None),
        (f"bronze.{STREAM}", manifest, f"/v1/quarantine/{STREAM}"),
        (f"gold.{STREAM}_daily", metadata_file, None),
    ],
)
def test_lost_file_makes_its_table_unavailable_alone(
    api: httpx.Client,
    serving: RunningService,
    connection: Connection,
    tables: dict[str, Table],
    name: str,
    url_of: Callable[[Table], str],
    readers: str | None,
) -> None:
    url = url_of(tables[name])
    objects, key = Objects.from_url(connection, url), object_key(url)
    content = objects.get(key)
    objects.delete([key])
    if readers == HEALTH:
        _replace_readers(serving)  # which may hold the file, because live gold reads those of open days
    try:
        response = _ask(api, f"select max(columns(*)::varchar) from {name}")
        _assert_unavailable(response)
        assert f"{name} can't be read" in response.json()["detail"]
        assert key.rpartition("/")[2] in response.json()["detail"]
        if readers == HEALTH:
            assert name in _unreadable(api)
        elif readers:
            _assert_unavailable(api.get(readers))
        for path in ("/v1/queries/device_health", "/v1/alerts?stream=iot", "/v1/overview", "/v1/quarantine/iot"):
            assert api.get(path).status_code == 200, path
        assert _ask(api, "select count(*) from silver.iot").status_code == 200
        assert psutil.pid_exists(serving.pid)
    finally:
        objects.put(key, content)


def _replace_readers(serving: RunningService) -> None:
    for child in psutil.Process(serving.pid).children():
        if any("reader_process" in argument for argument in child.cmdline()):
            child.kill()


def _assert_unavailable(response: httpx.Response) -> None:
    answer = (response.status_code, response.headers["content-type"])
    assert answer == (503, "application/problem+json"), response.text


def _unreadable(api: httpx.Client) -> str:
    """Return why the stream's rows can't be counted, empty if they can. All others are counted."""
    response = api.get(HEALTH)
    assert response.status_code == 200, response.text
    health = {row["stream"]: row for row in response.json()["rows"]}
    assert all(row["unreadable"] is None for name, row in health.items() if name != STREAM)
    assert (
        (health[STREAM]["events"] is None)
        == (health[STREAM]["unreadable"] is not None)
        == ("etag" not in response.headers)
    )
    return health[STREAM]["unreadable"] or ""


def _ask(api: httpx.Client, sql: str) -> httpx.Response:
    """Run a query when a worker process is ready."""
    deadline = time.monotonic() + 60
    while (response := api.post("/v1/query", json={"sql": sql})).status_code == 429:
        assert time.monotonic() < deadline
    return response
