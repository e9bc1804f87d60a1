"""Start, stop and kill the server: one per home, no acknowledged event lost, and recovery of storage and workers."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from threading import Event

import httpx
import psutil
import pytest

from lakehouse.chaos import kill_ingest
from lakehouse.errors import LakehouseError, StorageUnavailableError
from lakehouse.processes.service import RunningService
from lakehouse.serving.api import gateway_server as http_server
from lakehouse.serving.api.run_gateway import APPLICATION
from lakehouse.settings import Settings
from lakehouse.sources.http.client import local_client
from lakehouse.sources.http.run import run_server
from lakehouse.storage.embedded import lifecycle as storage
from lakehouse.storage.objects.store import Objects
from lakehouse_tests.nightly import more_at_night
from lakehouse_tests.waiting import until

Events = Callable[..., bytes]

PATH = "/v1/streams/iot/events"
NDJSON = {"content-type": "application/x-ndjson"}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    """A home that the tests of this file share."""
    settings = Settings(home=tmp_path_factory.mktemp("server"), http_port=18300, http_flush_ms=400)
    yield settings
    storage.stop(settings)


@pytest.fixture
def own(home: Settings) -> Iterator[Settings]:
    """The home with running storage. Its HTTP server is stopped afterwards."""
    storage.start(home)
    yield home
    http_server.stop(home)
    assert http_server.running(home) is None


def landed(settings: Settings) -> int:
    """Count the events of the stream that have landed."""
    objects = Objects.from_connection(storage.connection(settings))
    return sum(objects.get(info.key).count(b"\n") for info in objects.list("realtime/iot"))


def post(running: RunningService, content: bytes, wait: bool = True) -> httpx.Response:
    return httpx.post(f"{running.url}{PATH}?wait={str(wait).lower()}", content=content, headers=NDJSON, timeout=30)


def test_home_has_one_server_and_stop_stores_held_events(own: Settings, events: Events) -> None:
    before, running = landed(own), http_server.start(own)
    assert http_server.start(own) == running == http_server.running(own)
    with pytest.raises(LakehouseError, match="lakehouse down"):
        run_server(own, APPLICATION)
    assert post(running, events(7, "iot"), wait=False).json()["durable"] is False
    assert http_server.stop(own) is True
    assert http_server.stop(own) is False
    assert landed(own) - before == 7


def test_storage_outage_rejects_events_until_it_returns(own: Settings, events: Events) -> None:
    running = http_server.start(own)
    storage.stop(own)
    rejected = post(running, events(5, "iot"))
    assert (rejected.status_code, rejected.headers["content-type"]) == (503, "application/problem+json")
    assert "Send it again" in rejected.json()["detail"]
    assert httpx.get(f"{running.url}/health/ready", timeout=30).status_code == 503
    assert httpx.get(f"{running.url}/health/live").status_code == 200
    storage.start(own)
    until(lambda: post(running, events(5, "iot")).status_code == 202, 60)


def test_restart_keeps_idempotency_keys_and_replaces_workers(own: Settings, events: Events) -> None:
    running = http_server.start(own)
    lines, headers = events(5, "iot"), NDJSON | {"idempotency-key": "k"}
    first = httpx.post(running.url + PATH, content=lines, headers=headers)
    for process in psutil.Process(running.pid).children(recursive=True):
        os.kill(process.pid, signal.SIGKILL)
    until(lambda: http_server.is_ready(running), 40)
    again = httpx.post(running.url + PATH, content=lines, headers=headers)
    assert (again.status_code, again.content) == (202, first.content)
    before, under_way = landed(own), Event()
    with local_client(own) as client, ThreadPoolExecutor(1) as pool:
        lines_of_client = events(300, "iot", 7)
        send = partial(client.send, max_events=10, rate=150, on_progress=lambda _: under_way.set())
        sending = pool.submit(send, "iot", lines_of_client)
        under_way.wait(30)
        http_server.stop(own)
        assert not sending.done()
        after = httpx.post(http_server.start(own).url + PATH, content=lines, headers=headers)
        assert (after.status_code, after.content) == (202, first.content)
        assert sending.result(60).accepted == landed(own) - before == 300


def test_workers_of_killed_server_store_events_and_end(own: Settings, events: Events) -> None:
    before, running = landed(own), http_server.start(own)
    workers = psutil.Process(running.pid).children(recursive=True)
    assert post(running, events(7, "iot"), wait=False).status_code == 202
    os.kill(running.pid, signal.SIGKILL)
    _, left = psutil.wait_procs(workers, timeout=20)
    assert left == [], "they would hold the port that the next server needs"
    assert landed(own) - before == 7
    assert http_server.start(own).url == running.url


def test_server_without_storage_does_not_start(tmp_path: Path) -> None:
    with pytest.raises(StorageUnavailableError, match="lakehouse up"):
        run_server(Settings(home=tmp_path), APPLICATION)


def test_killed_processes_lose_no_acknowledged_event() -> None:
    figures = {figure["figure"]: figure["value"] for figure in kill_ingest.measure(seconds=more_at_night(5, 30))}
    assert figures["kills"] > 0
    assert figures["acknowledged between kills"] > 0
    assert (figures["acknowledged and lost"], figures["twice in silver"]) == (0, 0)


def test_servers_that_start_together_get_different_ports(settings: Settings) -> None:
    script = (
        "import sys, time; from lakehouse.sources.http.run import _free_port; from lakehouse.settings import Settings;"
        f" print(_free_port(Settings(home={str(settings.home)!r}, http_port=18350)), flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", script]
    processes = [subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    ports = [process.stdout.readline() for process in processes if process.stdout]
    for process in processes:
        process.communicate()
    assert len(set(ports)) == 2
