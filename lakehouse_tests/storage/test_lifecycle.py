"""The embedded server: starting, sharing, recovering and stopping it, and keeping others out."""

import json
import os
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path

import psutil
import pytest

from lakehouse.cli.up import keep_storage
from lakehouse.errors import LakehouseError, StorageUnavailableError
from lakehouse.settings import Settings
from lakehouse.storage.embedded import health, seaweedfs
from lakehouse.storage.embedded import lifecycle as storage
from lakehouse.storage.embedded import ports as server_ports
from lakehouse.storage.embedded.ports import Ports
from lakehouse.storage.objects.connection import Connection
from lakehouse.storage.objects.store import Objects


@pytest.fixture
def settings(tmp_path: Path) -> Iterator[Settings]:
    """The settings of a home for one test, whose path is too long for a Unix socket."""
    settings = Settings(home=tmp_path / ("long" * 30))
    yield settings
    storage.stop(settings)
    assert seaweedfs.find_server(_data(settings)) is None


def _data(settings: Settings) -> Path:
    return settings.root.resolve() / "storage" / "data"


def _state(settings: Settings) -> Path:
    return settings.root / "storage" / "state.json"


def _pid(settings: Settings) -> int:
    pid = storage.status(settings).pid
    assert pid is not None
    return pid


def _run(settings: Settings, body: str, environment: Mapping[str, str] | None = None) -> "subprocess.Popen[str]":
    """Start a Python process that runs `body` with `settings` and `storage`."""
    head = "import sys, time; from lakehouse.settings import Settings; from lakehouse.storage.embedded import lifecycle as storage;"
    script = f"{head} settings = Settings(home={str(settings.root)!r})\n{body}"
    return subprocess.Popen(
        [sys.executable, "-c", script],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, **(environment or {})},
    )


def test_second_start_reuses_the_server_and_stop_ends_it(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storage, "STOP_SECONDS", 3.0)
    assert storage.status(settings).running is False
    first = storage.start(settings)
    pid = _pid(settings)
    assert storage.start(settings) == first == storage.connection(settings)
    status = storage.status(settings)
    assert (status.running, status.pid, status.endpoint) == (True, pid, first.endpoint)
    assert (status.catalog_uri, status.data_directory) == (first.catalog_uri, _data(settings))
    assert status.bytes_used > 0
    assert storage.stop(settings) is True
    assert storage.stop(settings) is False
    assert seaweedfs.find_server(_data(settings)) is None
    with pytest.raises(StorageUnavailableError, match="lakehouse up"):
        storage.connection(settings)


def test_two_homes_run_side_by_side_in_isolation(settings: Settings, tmp_path: Path) -> None:
    other = Settings(home=tmp_path / "other")
    with storage.running(settings) as first, storage.running(other) as second:
        Objects.from_connection(first).put("a/here", b"1")
        assert [info.key for info in Objects.from_connection(second).list("a")] == []
        assert first.secret_access_key != second.secret_access_key
        with pytest.raises(LakehouseError, match="does not know the access key"):
            Objects.from_connection(_with_keys_of(second, first)).list("a").__next__()
    assert seaweedfs.find_server(_data(other)) is None


def _with_keys_of(place: Connection, owner: Connection) -> Connection:
    return Connection(
        place.bucket, place.region, place.endpoint, owner.access_key_id, owner.secret_access_key, place.catalog
    )


def test_concurrent_starts_share_one_server(settings: Settings) -> None:
    starters = [_run(settings, "storage.start(settings); print(storage.status(settings).pid)") for _ in range(3)]
    pids = {starter.communicate(timeout=60)[0].strip() for starter in starters}
    assert pids == {str(_pid(settings))}


def test_killed_server_restarts_with_all_acknowledged_writes(settings: Settings) -> None:
    objects = Objects.from_connection(storage.start(settings))
    pid = _pid(settings)
    stored: dict[str, bytes] = {}

    def write() -> None:
        for number in range(100_000):
            key, data = f"writes/{number:06d}", f"{number} ".encode() * 500
            try:
                objects.put(key, data, if_absent=True)
            except StorageUnavailableError:
                return
            stored[key] = data

    writer = threading.Thread(target=write)
    writer.start()
    time.sleep(1)
    os.kill(pid, signal.SIGKILL)
    writer.join(timeout=30)
    assert not writer.is_alive()
    assert len(stored) > 50

    restarted = Objects.from_connection(storage.start(settings))
    assert _pid(settings) != pid
    assert {key: restarted.get(key) for key in stored} == stored


def test_hung_server_is_replaced_when_it_is_probed(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "PROBE_SECONDS", 1.0)
    monkeypatch.setattr(storage, "HANG_SECONDS", 0.1)
    Objects.from_connection(storage.start(settings)).put("a", b"1")
    hung = psutil.Process(_pid(settings))
    keep_storage(settings, probe=True)
    assert _pid(settings) == hung.pid
    hung.suspend()
    keep_storage(settings, probe=False)
    assert _pid(settings) == hung.pid
    keep_storage(settings, probe=True)
    assert _pid(settings) != hung.pid
    assert Objects.from_connection(storage.connection(settings)).get("a") == b"1"


@pytest.mark.parametrize("content", ["", "{", "[]", '{"pid": 1}', '{"pid": "x", "ports": {"s3": 1}}'])
def test_unreadable_state_file_is_replaced(settings: Settings, monkeypatch: pytest.MonkeyPatch, content: str) -> None:
    monkeypatch.setattr(server_ports, "RELEASE_SECONDS", 0.2)  # the default ports may be another server's
    _state(settings).parent.mkdir(parents=True)
    _state(settings).write_text(content)
    with pytest.raises(StorageUnavailableError):
        storage.connection(settings)
    with storage.running(settings):
        assert storage.status(settings).running
    assert not storage.status(settings).running


def test_state_file_of_another_process_is_stale(settings: Settings) -> None:
    storage.start(settings)
    storage.stop(settings)
    state = json.loads(_state(settings).read_text()) | {"pid": os.getpid(), "created": psutil.Process().create_time()}
    _state(settings).write_text(json.dumps(state))
    assert storage.status(settings).running is False
    storage.start(settings)
    assert _pid(settings) != os.getpid()


def test_lost_state_file_replaces_the_server_on_the_same_data(settings: Settings) -> None:
    Objects.from_connection(storage.start(settings)).put("a/kept", b"1")
    old_pid = _pid(settings)
    _state(settings).unlink()
    assert Objects.from_connection(storage.start(settings)).get("a/kept") == b"1"
    assert not psutil.pid_exists(old_pid) or _pid(settings) != old_pid


def test_hanging_server_is_replaced(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "PROBE_SECONDS", 1.0)
    monkeypatch.setattr(storage, "HANG_SECONDS", 1.0)
    storage.start(settings)
    hanging = _pid(settings)
    os.kill(hanging, signal.SIGSTOP)
    storage.start(settings)
    assert _pid(settings) != hanging
    assert storage.status(settings).running


def test_taken_ports_are_replaced_and_the_new_ones_kept(settings: Settings) -> None:
    storage.start(settings)
    first = Ports(**json.loads(_state(settings).read_text())["ports"])
    storage.stop(settings)
    with socket.create_server(("127.0.0.1", first.grpc()["s3"])):
        storage.start(settings)
        second = Ports(**json.loads(_state(settings).read_text())["ports"])
        storage.stop(settings)
    assert first.grpc()["s3"] not in second.grpc().values()
    with storage.running(settings):
        assert Ports(**json.loads(_state(settings).read_text())["ports"]) == second


def test_killed_server_waits_for_its_old_ports(settings: Settings) -> None:
    endpoint = storage.start(settings).endpoint
    process = psutil.Process(_pid(settings))
    process.kill()
    psutil.wait_procs([process], timeout=10)
    with socket.create_server(
        ("127.0.0.1", Ports(**json.loads(_state(settings).read_text())["ports"]).s3)
    ) as lingering:
        threading.Timer(0.5, lingering.close).start()
        assert storage.start(settings).endpoint == endpoint


def test_port_taken_during_start_costs_one_attempt(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    taken = server_ports.random_ports()
    monkeypatch.setattr(server_ports, "free_ports", lambda preferred: taken)
    with socket.create_server(("127.0.0.1", taken.grpc()["s3"])):
        storage.start(settings)
    assert storage.status(settings).running


def test_running_restores_the_previous_state(settings: Settings) -> None:
    with pytest.raises(KeyError), storage.running(settings):
        os.environ["AN ERROR INSIDE THE BLOCK"]
    assert seaweedfs.find_server(_data(settings)) is None
    storage.start(settings)
    pid = _pid(settings)
    with storage.running(settings), storage.running(settings):
        pass
    assert _pid(settings) == pid
    assert storage.status(settings).running


def test_last_process_to_leave_stops_the_server(settings: Settings) -> None:
    hold = "with storage.running(settings):\n print('in', flush=True)\n sys.stdin.read()"
    first, second = _run(settings, hold), _run(settings, hold)
    assert (_line(first), _line(second)) == ("in", "in")
    first.communicate(timeout=30)
    assert storage.status(settings).running
    second.communicate(timeout=30)
    assert seaweedfs.find_server(_data(settings)) is None


def test_lease_of_a_killed_process_expires(settings: Settings) -> None:
    killed = _run(settings, "with storage.running(settings):\n print('in', flush=True)\n sys.stdin.read()")
    assert _line(killed) == "in"
    killed.kill()
    killed.communicate(timeout=10)
    assert storage.status(settings).running
    with storage.running(settings):
        pass
    assert seaweedfs.find_server(_data(settings)) is None
    assert list((settings.root / "storage" / "leases").iterdir()) == []


def _line(process: "subprocess.Popen[str]") -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def test_secrets_are_private_and_survive_a_restart(settings: Settings) -> None:
    connection = storage.start(settings)
    folder = settings.root / "storage"
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()}
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert {name: modes[name] for name in ("credentials.json", "state.json", "security.toml")} == {
        "credentials.json": 0o600,
        "state.json": 0o600,
        "security.toml": 0o600,
    }
    assert connection.secret_access_key is not None
    assert connection.secret_access_key not in repr(connection)
    assert connection.secret_access_key not in " ".join(psutil.Process(_pid(settings)).cmdline())
    credentials = json.loads((folder / "credentials.json").read_text())
    storage.stop(settings)
    storage.start(settings)
    assert json.loads((folder / "credentials.json").read_text()) == credentials


def test_ports_listen_on_loopback_and_require_credentials(settings: Settings) -> None:
    Objects.from_connection(storage.start(settings)).put("a/secret", b"secret")
    listening = [c.laddr for c in psutil.Process(_pid(settings)).net_connections() if c.status == psutil.CONN_LISTEN]
    assert {address.ip for address in listening} == {"127.0.0.1"}
    ports = Ports(**json.loads(_state(settings).read_text())["ports"])
    assert {address.port for address in listening} == {*ports.as_dict().values(), *ports.grpc().values()}
    for method, url in (
        ("GET", f"http://127.0.0.1:{ports.filer}/buckets/lake/a/secret"),
        ("DELETE", f"http://127.0.0.1:{ports.filer}/buckets/lake/a/secret"),
        ("GET", f"http://127.0.0.1:{ports.master}/col/delete?collection=lake"),
        ("GET", f"http://127.0.0.1:{ports.s3}/lake/a/secret"),
        ("GET", f"http://127.0.0.1:{ports.catalog}/v1/tables/namespaces"),
    ):
        with pytest.raises(urllib.error.HTTPError) as refusal:
            urllib.request.build_opener().open(urllib.request.Request(url, method=method), timeout=5)
        refusal.value.close()
        assert refusal.value.code in {401, 403, 404}, url


def test_reader_key_reads_everything_and_writes_nothing(settings: Settings) -> None:
    connection = storage.start(settings)
    objects, reader = Objects.from_connection(connection), Objects.from_connection(connection.for_reading())
    objects.put("a/b", b"c")
    assert reader.get("a/b") == b"c"
    assert [info.key for info in reader.list("a/")] == ["a/b"]
    for write in (lambda: reader.put("a/d", b"e"), lambda: reader.delete(["a/b"])):
        with pytest.raises(LakehouseError):
            write()
    assert objects.get("a/b") == b"c"


def test_proxy_of_the_environment_is_bypassed(settings: Settings) -> None:
    proxies = dict.fromkeys(("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"), "http://127.0.0.1:9")
    use = "from lakehouse.storage.objects.store import Objects\nobjects = Objects.from_connection(storage.start(settings))\n"
    other = _run(settings, use + "objects.put('a/b', b'1')\nprint(objects.get('a/b'))", proxies)
    assert other.communicate(timeout=60)[0].strip() == "b'1'"


def test_external_storage_follows_settings_and_starts_nothing(tmp_path: Path) -> None:
    settings = Settings(
        home=tmp_path / "home",
        storage="external",
        bucket="b",
        s3_endpoint="http://s3.example:9000",
        s3_access_key_id="id",
        s3_secret_access_key="secret",
        catalog_uri="http://catalog.example",
        catalog_credential="c:d",
    )
    with storage.running(settings) as external:
        assert external == storage.start(settings) == storage.connection(settings)
    assert storage.stop(settings) is False
    assert not settings.root.exists()
    assert (external.bucket, external.endpoint, external.secret_access_key) == ("b", "http://s3.example:9000", "secret")
    assert external.catalog == {
        "type": "rest",
        "uri": "http://catalog.example",
        "warehouse": "s3://tables",
        "credential": "c:d",
        "s3.endpoint": "http://s3.example:9000",
        "s3.region": "us-east-1",
        "s3.access-key-id": "id",
        "s3.secret-access-key": "secret",
        "s3.path-style-access": "true",
    }
