"""Runs are forked from the run forker. They are runs like any other, and one that dies is reported."""

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path

import dagster as dg
import psutil
import pytest
from dagster._core.definitions.reconstruct import ReconstructableRepository
from dagster._core.launcher.base import LaunchRunContext, WorkerStatus

from lakehouse.contracts.streams import discover
from lakehouse.pipeline.lake import Lake
from lakehouse.pipeline.table_specs import table_specs
from lakehouse.runtime.instance import environment, open_instance, run_forker_state
from lakehouse.runtime.run_launcher import ForkingRunLauncher
from lakehouse.runtime.run_process import find_worker, process_tag
from lakehouse.settings import Settings
from lakehouse.storage.embedded import lifecycle as storage
from lakehouse.storage.objects.connection import Connection
from lakehouse_tests.pipeline.own import copy_stream
from lakehouse_tests.waiting import until

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a fork may not use what its parent loaded")

SECONDS = 120.0
Ask = Callable[[], dg.DagsterRun]


@pytest.fixture(scope="module")
def own(settings: Settings, connection: Connection, tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """The session's lake with the table that these runs write, and a folder of streams."""
    folder = tmp_path_factory.mktemp("streams")
    copy_stream(folder, "spare")
    Lake(settings, connection).tables.ensure(table_specs([discover()["iot"]]))
    return settings.model_copy(update={"streams": (folder,)})


@pytest.fixture(scope="module")
def warm(own: Settings) -> "Iterator[subprocess.Popen[bytes]]":
    process = subprocess.Popen(
        [sys.executable, "-m", "lakehouse.runtime.run_forker", "lakehouse.definitions"],
        env={**os.environ, **environment(own), "LAKEHOUSE_STREAMS": json.dumps([str(own.streams[0])])},
        stdout=subprocess.DEVNULL,
    )
    until(run_forker_state(own).exists)
    yield process
    for child in psutil.Process(process.pid).children():
        child.kill()
    process.kill()
    process.wait()


@pytest.fixture
def history(own: Settings) -> Iterator[dg.DagsterInstance]:
    with open_instance(own) as history:
        yield history


@pytest.fixture
def ask(history: dg.DagsterInstance) -> Ask:
    """Launch a run of `realtime/iot` for this hour."""
    repository = ReconstructableRepository.for_module("lakehouse.definitions", "defs")
    origin = repository.get_reconstructable_job("realtime").get_python_origin()
    asset = frozenset([dg.AssetKey(["realtime", "iot"])])
    job = repository.get_definition().get_job("realtime").get_subset(asset_selection=asset)

    def ask() -> dg.DagsterRun:
        run = history.create_run_for_job(
            job,
            status=dg.DagsterRunStatus.STARTING,
            asset_selection=asset,
            tags={"dagster/partition": f"{datetime.now(UTC):%Y-%m-%d-%H}:00"},
            job_code_origin=origin,
        )
        history.run_launcher.launch_run(LaunchRunContext(run, None))
        return run

    return ask


@pytest.fixture
def stuck(own: Settings) -> Iterator[None]:
    """Suspend storage, so that a run gets no further than its first step."""
    pid = storage.status(own).pid
    assert pid is not None
    process = psutil.Process(pid)
    process.suspend()
    yield
    process.resume()


def _ended(history: dg.DagsterInstance, run: dg.DagsterRun) -> tuple[dg.DagsterRunStatus, str]:
    """Wait until the run has ended. Return its status and its log."""

    def status() -> dg.DagsterRunStatus:
        current = history.get_run_by_id(run.run_id)
        assert current is not None
        return current.status

    until(lambda: status() in (dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED))
    return status(), "\n".join(event.message for event in history.all_logs(run.run_id))


def _tags(history: dg.DagsterInstance, run: dg.DagsterRun) -> Mapping[str, str]:
    current = history.get_run_by_id(run.run_id)
    return current.tags if current else {}


def _process(history: dg.DagsterInstance, run: dg.DagsterRun) -> psutil.Process:
    """Wait until the run is in its step, and return its process."""
    until(lambda: history.all_logs(run.run_id, of_type=dg.DagsterEventType.STEP_START))
    worker = find_worker(history, run)
    assert worker is not None
    assert worker.process is not None
    return worker.process


def test_run_is_a_fork_of_the_run_forker(
    warm: "subprocess.Popen[bytes]", history: dg.DagsterInstance, ask: Ask, stuck: None, own: Settings
) -> None:
    runs = [ask(), ask()]
    processes = [_process(history, run) for run in runs]
    assert len({process.pid for process in processes}) == 2
    assert {process.ppid() for process in processes} == {warm.pid}
    psutil.Process(storage.status(own).pid).resume()
    for run in runs:
        status, log = _ended(history, run)
        assert status == dg.DagsterRunStatus.SUCCESS, log
        assert len(history.all_logs(run.run_id, of_type=dg.DagsterEventType.LOGS_CAPTURED)) == 1
    until(lambda: not psutil.Process(warm.pid).children())


def test_killed_run_fails_at_once_and_is_retried(
    warm: "subprocess.Popen[bytes]", history: dg.DagsterInstance, ask: Ask, stuck: None
) -> None:
    run = ask()
    _process(history, run).send_signal(signal.SIGKILL)
    status, log = _ended(history, run)
    assert status == dg.DagsterRunStatus.FAILURE
    assert "The process of this run was ended by SIGKILL; it is computed again." in log
    until(lambda: _tags(history, run).get("dagster/will_retry") == "true")


def test_terminated_run_is_canceled(
    warm: "subprocess.Popen[bytes]", history: dg.DagsterInstance, ask: Ask, stuck: None
) -> None:
    run = ask()
    process = _process(history, run)
    assert history.run_launcher.terminate(run.run_id)
    status, log = _ended(history, run)
    assert status == dg.DagsterRunStatus.CANCELED, log
    process.wait(SECONDS)
    assert not history.run_launcher.terminate(run.run_id)


def test_health_check_tells_dead_process_from_running(history: dg.DagsterInstance, ask: Ask) -> None:
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    run = dg.DagsterRun("realtime", status=dg.DagsterRunStatus.STARTED)
    tag = process_tag(run.run_id)
    mine = run.with_tags(tag)
    dead = run.with_tags({name: value.replace(f" {os.getpid()} ", f" {gone.pid} ") for name, value in tag.items()})
    repeated = dead._replace(run_id="another")
    elsewhere = run.with_tags({name: value.replace(socket.gethostname(), "away") for name, value in tag.items()})
    launcher = history.run_launcher
    assert launcher.supports_check_run_worker_health
    statuses = [launcher.check_run_worker_health(checked).status for checked in (mine, dead, repeated, elsewhere)]
    running, not_found = WorkerStatus.RUNNING, WorkerStatus.NOT_FOUND
    assert statuses == [running, not_found, running, running]


def test_invalid_requests_get_no_fork(
    warm: "subprocess.Popen[bytes]", history: dg.DagsterInstance, ask: Ask, own: Settings
) -> None:
    address = ("127.0.0.1", json.loads(run_forker_state(own).read_text())["port"])
    silent = socket.create_connection(address)
    for request in (b"\xff\xfe\n", b"[]\n", b'{"key": "guess", "run": "r", "words": "w"}\n', b'{"key": 1}\n', b"{"):
        with socket.create_connection(address) as stranger:
            stranger.sendall(request)
            stranger.shutdown(socket.SHUT_WR)
            stranger.settimeout(SECONDS)
            assert stranger.recv(100) == b""
    silent.close()
    run = ask()
    assert _ended(history, run)[0] == dg.DagsterRunStatus.SUCCESS
    worker = find_worker(history, run)
    assert worker is not None


def test_changed_contract_reloads_and_keeps_active_runs(
    warm: "subprocess.Popen[bytes]", history: dg.DagsterInstance, ask: Ask, stuck: None, own: Settings
) -> None:
    run = ask()
    process = _process(history, run)
    before = run_forker_state(own).read_text()
    with (own.streams[0] / "spare" / "contract.odcs.yaml").open("a") as contract:
        contract.write("\n# changed\n")
    until(lambda: run_forker_state(own).read_text() != before)
    assert json.loads(run_forker_state(own).read_text())["pid"] == warm.pid
    process.kill()
    assert "was ended by SIGKILL" in _ended(history, run)[1]


@pytest.mark.parametrize("state", [None, "", "{", '{"port": 9, "key": "k"}'], ids=["none", "empty", "cut", "nobody"])
def test_run_starts_by_default_without_a_run_forker(
    state: str | None, tmp_path: Path, own: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[str] = []
    monkeypatch.setattr(dg.DefaultRunLauncher, "launch_run", lambda _, asked: started.append(asked.dagster_run.run_id))
    origin = ReconstructableRepository.for_module("lakehouse.definitions", "defs").get_reconstructable_job("realtime")
    run = dg.DagsterRun("realtime", job_code_origin=origin.get_python_origin())
    file = tmp_path / "warm.json"
    if state is not None:
        file.write_text(state)
    with open_instance(own) as history:
        launcher = ForkingRunLauncher(str(file))
        launcher.register_instance(history)
        launcher.launch_run(LaunchRunContext(run, None))
    assert started == [run.run_id]


def test_setting_selects_dagsters_own_launcher(tmp_path: Path) -> None:
    with open_instance(Settings(home=tmp_path / "warm")) as history:
        assert type(history.run_launcher) is ForkingRunLauncher
    with open_instance(Settings(home=tmp_path / "default", warm_runs=False)) as history:
        assert type(history.run_launcher) is dg.DefaultRunLauncher
