"""The embedded server: started once, shared, found again, recovered, stopped, and reached by nobody else."""

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

from lakehouse.errors import LakehouseError, StorageUnavailableError
from lakehouse.settings import Settings
from lakehouse.storage.embedded import lifecycle as server
from lakehouse.storage.embedded import seaweedfs
from lakehouse.storage.embedded.seaweedfs import Ports
from lakehouse.storage.objects.connection import Connection
from lakehouse.storage.objects.store import Objects


@pytest.fixture
def own(tmp_path: Path) -> Iterator[Settings]:
    """The settings of a home of its own, whose path is longer than that of a Unix socket may be."""
    settings = Settings(home=tmp_path / ("long" * 30))
    yield settings
    server.stop(settings)
    assert seaweedfs.find(_data(settings)) is None


def _data(settings: Settings) -> Path:
    return settings.root.resolve() / "storage" / "data"


def _state(settings: Settings) -> Path:
    return settings.root / "storage" / "state.json"


def _pid(settings: Settings) -> int:
    pid = server.status(settings).pid
    assert pid is not None
    return pid


def _run(settings: Settings, body: str, environment: Mapping[str, str] | None = None) -> "subprocess.Popen[str]":
    """Another process that has `settings` and `server` and runs this."""
    head = "import sys, time; from lakehouse.settings import Settings; from lakehouse.storage.embedded import lifecycle as server;"
    script = f"{head} settings = Settings(home={str(settings.root)!r})\n{body}"
    return subprocess.Popen(
        [sys.executable, "-c", script],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, **(environment or {})},
    )


def test_start_twice_is_one_server_and_stop_leaves_none(own: Settings) -> None:
    assert server.status(own).running is False
    first = server.start(own)
    pid = _pid(own)
    assert server.start(own) == first == server.connection(own)
    status = server.status(own)
    assert (status.running, status.pid, status.endpoint) == (True, pid, first.endpoint)
    assert (status.catalog_uri, status.data_directory) == (first.catalog_uri, _data(own))
    assert status.bytes_used > 0
    assert server.stop(own) is True
    assert server.stop(own) is False
    assert seaweedfs.find(_data(own)) is None
    with pytest.raises(StorageUnavailableError, match="lakehouse up"):
        server.connection(own)


def test_two_homes_run_side_by_side_and_do_not_see_each_other(own: Settings, tmp_path: Path) -> None:
    other = Settings(home=tmp_path / "other")
    with server.running(own) as first, server.running(other) as second:
        Objects.from_connection(first).put("a/here", b"1")
        assert [found.key for found in Objects.from_connection(second).list("a")] == []
        assert first.secret_access_key != second.secret_access_key
        with pytest.raises(LakehouseError, match="refuses"):
            Objects.from_connection(_with_keys_of(second, first)).list("a").__next__()
    assert seaweedfs.find(_data(other)) is None


def _with_keys_of(place: Connection, owner: Connection) -> Connection:
    return Connection(
        place.bucket, place.region, place.endpoint, owner.access_key_id, owner.secret_access_key, place.catalog
    )


def test_processes_that_start_at_once_share_one_server(own: Settings) -> None:
    starters = [_run(own, "server.start(settings); print(server.status(settings).pid)") for _ in range(3)]
    pids = {starter.communicate(timeout=60)[0].strip() for starter in starters}
    assert pids == {str(_pid(own))}


def test_a_server_killed_under_writes_comes_back_with_all_it_acknowledged(own: Settings) -> None:
    objects = Objects.from_connection(server.start(own))
    pid = _pid(own)
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

    again = Objects.from_connection(server.start(own))
    assert _pid(own) != pid
    assert {key: again.get(key) for key in stored} == stored


@pytest.mark.parametrize("content", ["", "{", "[]", '{"pid": 1}', '{"pid": "x", "ports": {"s3": 1}}'])
def test_an_unreadable_state_file_is_recovered_from(own: Settings, content: str) -> None:
    _state(own).parent.mkdir(parents=True)
    _state(own).write_text(content)
    with pytest.raises(StorageUnavailableError):
        server.connection(own)
    with server.running(own):
        assert server.status(own).running
    assert not server.status(own).running


def test_a_state_file_that_names_another_process_is_stale(own: Settings) -> None:
    server.start(own)
    server.stop(own)
    state = json.loads(_state(own).read_text()) | {"pid": os.getpid(), "created": psutil.Process().create_time()}
    _state(own).write_text(json.dumps(state))
    assert server.status(own).running is False
    server.start(own)
    assert _pid(own) != os.getpid()


def test_a_server_whose_state_file_was_lost_is_replaced_on_the_same_data(own: Settings) -> None:
    Objects.from_connection(server.start(own)).put("a/kept", b"1")
    lost = _pid(own)
    _state(own).unlink()
    assert Objects.from_connection(server.start(own)).get("a/kept") == b"1"
    assert not psutil.pid_exists(lost) or _pid(own) != lost


def test_a_server_that_hangs_is_replaced(own: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "HANG_SECONDS", 1.0)
    monkeypatch.setattr(server, "STOP_SECONDS", 1.0)
    server.start(own)
    hung = _pid(own)
    os.kill(hung, signal.SIGSTOP)
    server.start(own)
    assert _pid(own) != hung
    assert server.status(own).running


def test_ports_that_are_taken_are_left_for_others_and_those_are_kept(own: Settings) -> None:
    server.start(own)
    first = Ports(**json.loads(_state(own).read_text())["ports"])
    server.stop(own)
    with socket.create_server(("127.0.0.1", first.grpc()["s3"])):
        server.start(own)
        second = Ports(**json.loads(_state(own).read_text())["ports"])
        server.stop(own)
    assert first.grpc()["s3"] not in second.grpc().values()
    with server.running(own):
        assert Ports(**json.loads(_state(own).read_text())["ports"]) == second


def test_a_server_that_died_comes_back_where_it_was_though_its_sockets_close_a_moment_later(own: Settings) -> None:
    endpoint = server.start(own).endpoint
    process = psutil.Process(_pid(own))
    process.kill()
    psutil.wait_procs([process], timeout=10)
    with socket.create_server(("127.0.0.1", Ports(**json.loads(_state(own).read_text())["ports"]).s3)) as dying:
        threading.Timer(0.5, dying.close).start()
        assert server.start(own).endpoint == endpoint


def test_a_port_taken_while_starting_only_costs_another_try(own: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = seaweedfs.other_ports()
    monkeypatch.setattr(seaweedfs, "free_ports", lambda preferred: wrong)
    with socket.create_server(("127.0.0.1", wrong.grpc()["s3"])):
        server.start(own)
    assert server.status(own).running


def test_running_leaves_the_server_as_it_was_found(own: Settings) -> None:
    with pytest.raises(KeyError), server.running(own):
        os.environ["WHAT GOES WRONG INSIDE"]
    assert seaweedfs.find(_data(own)) is None
    server.start(own)
    pid = _pid(own)
    with server.running(own), server.running(own):
        pass
    assert _pid(own) == pid
    assert server.status(own).running


def test_the_last_process_out_stops_the_server(own: Settings) -> None:
    hold = "with server.running(settings):\n print('in', flush=True)\n sys.stdin.read()"
    first, second = _run(own, hold), _run(own, hold)
    assert (_line(first), _line(second)) == ("in", "in")
    first.communicate(timeout=30)
    assert server.status(own).running
    second.communicate(timeout=30)
    assert seaweedfs.find(_data(own)) is None


def test_a_killed_process_does_not_keep_the_server(own: Settings) -> None:
    killed = _run(own, "with server.running(settings):\n print('in', flush=True)\n sys.stdin.read()")
    assert _line(killed) == "in"
    killed.kill()
    killed.communicate(timeout=10)
    assert server.status(own).running
    with server.running(own):
        pass
    assert seaweedfs.find(_data(own)) is None
    assert list((own.root / "storage" / "leases").iterdir()) == []


def _line(process: "subprocess.Popen[str]") -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def test_what_is_secret_stays_so(own: Settings) -> None:
    reached = server.start(own)
    folder = own.root / "storage"
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()}
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert {name: modes[name] for name in ("credentials.json", "state.json", "security.toml")} == {
        "credentials.json": 0o600,
        "state.json": 0o600,
        "security.toml": 0o600,
    }
    assert reached.secret_access_key is not None
    assert reached.secret_access_key not in repr(reached)
    assert reached.secret_access_key not in " ".join(psutil.Process(_pid(own)).cmdline())
    kept = json.loads((folder / "credentials.json").read_text())
    server.stop(own)
    server.start(own)
    assert json.loads((folder / "credentials.json").read_text()) == kept


def test_every_port_is_on_loopback_and_none_lets_a_stranger_at_the_data(own: Settings) -> None:
    Objects.from_connection(server.start(own)).put("a/secret", b"secret")
    listening = [c.laddr for c in psutil.Process(_pid(own)).net_connections() if c.status == psutil.CONN_LISTEN]
    assert {address.ip for address in listening} == {"127.0.0.1"}
    ports = Ports(**json.loads(_state(own).read_text())["ports"])
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


def test_keys_that_read_read_everything_and_write_nothing(own: Settings) -> None:
    connection = server.start(own)
    objects, reading = Objects.from_connection(connection), Objects.from_connection(connection.for_reading())
    objects.put("a/b", b"c")
    assert reading.get("a/b") == b"c"
    assert [found.key for found in reading.list("a/")] == ["a/b"]
    for write in (lambda: reading.put("a/d", b"e"), lambda: reading.delete(["a/b"])):
        with pytest.raises(LakehouseError):
            write()
    assert objects.get("a/b") == b"c"


def test_a_proxy_in_the_environment_is_not_asked_for_what_is_on_this_machine(own: Settings) -> None:
    proxies = dict.fromkeys(("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"), "http://127.0.0.1:9")
    use = "from lakehouse.storage.objects.store import Objects\nobjects = Objects.from_connection(server.start(settings))\n"
    other = _run(own, use + "objects.put('a/b', b'1')\nprint(objects.get('a/b'))", proxies)
    assert other.communicate(timeout=60)[0].strip() == "b'1'"


def test_external_storage_is_what_the_settings_say_and_nothing_is_started(tmp_path: Path) -> None:
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
    with server.running(settings) as reached:
        assert reached == server.start(settings) == server.connection(settings)
    assert server.stop(settings) is False
    assert not settings.root.exists()
    assert (reached.bucket, reached.endpoint, reached.secret_access_key) == ("b", "http://s3.example:9000", "secret")
    assert reached.catalog == {
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
