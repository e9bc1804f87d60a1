"""Backups of a running home: one moment, whole, incremental, and refused where they can't be trusted."""

import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from lakehouse.auditing.audit import audit
from lakehouse.errors import LakehouseError
from lakehouse.landing.writer import land
from lakehouse.maintenance.backup import back_up
from lakehouse.maintenance.backup_store import CHUNK_BYTES, BackupStore
from lakehouse.maintenance.restore import restore
from lakehouse.pipeline.bronze import ingest_days
from lakehouse.pipeline.lake import Lake
from lakehouse.pipeline.silver import clean_days
from lakehouse.processes import home as homes
from lakehouse.settings import Settings
from lakehouse.storage.embedded import lifecycle
from lakehouse_tests.conftest import Events


@dataclass
class Home:
    settings: Settings
    lake: Lake
    place: str
    landed: list[str]
    """Keys of the landing objects that were acknowledged so far."""


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Home]:
    """A lake of its own with a stream that has a bronze and a silver day, and a Dagster history."""
    folder = tmp_path_factory.mktemp("backup")
    settings = Settings(home=folder / "home")
    (settings.root / "dagster" / "history").mkdir(parents=True)
    with sqlite3.connect(settings.root / "dagster" / "history" / "runs.db") as runs:
        runs.execute("create table runs as select 7 as id")
    runs.close()
    with lifecycle.running(settings) as connection:
        lake = Lake(settings, connection)
        lake.bootstrap()
        yield Home(settings, lake, str(folder / "backups"), [])


def restored(home: Home, tmp_path: Path, at: str | None = None) -> Settings:
    settings = Settings(home=tmp_path / "restored")
    restore(settings, home.place, at=at)
    return settings


def test_backup_during_ingest_restores_all_acknowledged_events(home: Home, events: Events, tmp_path: Path) -> None:
    lines = events(200)
    first = land(home.lake.objects, "financial", lines)
    stream = home.lake.stream("financial")
    ingest_days(home.lake, stream, [first.day])
    clean_days(home.lake, stream, [first.day])
    home.landed.append(first.key)
    stop = threading.Event()

    def ingest() -> None:
        while not stop.is_set():
            home.landed.append(land(home.lake.objects, "financial", lines).key)

    ingesting = threading.Thread(target=ingest)
    ingesting.start()
    try:
        time.sleep(0.3)
        before = list(home.landed)
        report = back_up(home.settings, home.place)
        after = len(home.landed)
        time.sleep(0.3)
    finally:
        stop.set()
        ingesting.join()
    assert len(home.landed) > after, "ingest goes on after the pause"
    assert {Path(home.place, folder).stat().st_mode & 0o777 for folder in ("chunks", "moments")} == {0o700}

    settings = restored(home, tmp_path, report.moment)
    assert settings.root.stat().st_mode & 0o777 == 0o700
    with sqlite3.connect(settings.root / "dagster" / "history" / "runs.db") as runs:
        assert runs.execute("select id from runs").fetchall() == [(7,)]
    runs.close()
    with lifecycle.running(settings) as connection:
        lake = Lake(settings, connection)
        held = {info.key for info in lake.objects.list("realtime/financial")}
        assert set(before) <= held
        audited = audit(lake, [lake.stream("financial")])
        assert not audited.wrong
        assert audited.rows["bronze.financial"] == 200


def test_second_backup_writes_what_is_new_and_restores_either_moment(home: Home, tmp_path: Path) -> None:
    home.lake.objects.put("noise", b"0" * 3 * CHUNK_BYTES)
    first = back_up(home.settings, home.place)
    time.sleep(1)  # moments are named by the second
    home.lake.objects.put("later", b"later")
    second = back_up(home.settings, home.place)

    assert second.bytes > 3 * CHUNK_BYTES > second.new_bytes
    with lifecycle.running(restored(home, tmp_path, first.moment)) as connection:
        assert Lake(Settings(home=tmp_path / "restored"), connection).objects.head("later") is None
    with lifecycle.running(restored(home, tmp_path / "second")) as connection:
        assert Lake(Settings(home=tmp_path / "second" / "restored"), connection).objects.get("later") == b"later"

    last = back_up(home.settings, home.place, keep=1)
    assert last.removed >= 2
    assert BackupStore.open(home.place).moments() == [last.moment]
    restored(home, tmp_path / "third")


def test_damaged_backup_restores_nothing(home: Home, tmp_path: Path) -> None:
    report = back_up(home.settings, home.place)
    chunk = max(Path(home.place, "chunks").rglob("*"), key=lambda path: path.stat().st_size if path.is_file() else 0)
    whole = chunk.read_bytes()
    chunk.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(LakehouseError, match="is damaged"):
        restored(home, tmp_path, report.moment)
    chunk.unlink()
    with pytest.raises(LakehouseError, match="can't be read"):
        restored(home, tmp_path, report.moment)
    assert not list(tmp_path.glob("restored*"))
    chunk.write_bytes(whole)
    restored(home, tmp_path, report.moment)


def test_restore_into_a_home_that_is_not_empty_is_refused(home: Home) -> None:
    back_up(home.settings, home.place)
    with pytest.raises(LakehouseError, match="is not empty"):
        restore(home.settings, home.place)


def test_place_without_a_fitting_backup_is_refused(home: Home, tmp_path: Path) -> None:
    with pytest.raises(LakehouseError, match="can't be opened"):
        restore(Settings(home=tmp_path / "new"), str(tmp_path / "missing"))
    back_up(home.settings, home.place)
    with pytest.raises(LakehouseError, match="no backup at or before 2020"):
        restored(home, tmp_path, "2020")
    with pytest.raises(LakehouseError, match="LAKEHOUSE_BUCKET"):
        restore(Settings(home=tmp_path / "new", bucket="another"), home.place)


def test_backup_of_a_newer_release_is_refused(home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    report = back_up(home.settings, home.place)
    monkeypatch.setattr(homes, "HOME_VERSION", homes.HOME_VERSION - 1)
    with pytest.raises(LakehouseError, match="newer release"):
        restored(home, tmp_path, report.moment)
    assert not (tmp_path / "restored").exists()


def test_backup_of_another_lake_to_the_same_place_is_refused(home: Home, tmp_path: Path) -> None:
    back_up(home.settings, home.place)
    with pytest.raises(LakehouseError, match="There is no lake in"):
        back_up(Settings(home=tmp_path / "new"), home.place)
    credentials = tmp_path / "new" / "storage" / "credentials.json"
    credentials.parent.mkdir()
    credentials.write_text('{"access_key_id": "OTHER", "secret_access_key": "x"}')
    with pytest.raises(LakehouseError, match="of another lake"):
        back_up(Settings(home=tmp_path / "new"), home.place)


def test_backup_of_external_storage_is_refused(tmp_path: Path) -> None:
    external = Settings(home=tmp_path, storage="external", catalog="glue", s3_region="eu-central-1")
    with pytest.raises(LakehouseError, match="versioned buckets"):
        back_up(external, str(tmp_path / "place"))


def test_killed_backup_leaves_the_server_running(home: Home) -> None:
    state = lifecycle.status(home.settings)
    code = f"""
import time, psutil
from lakehouse.storage.embedded import frozen
frozen.MAX_PAUSE_SECONDS = 1
with frozen._paused(psutil.Process({state.pid})):
    print(flush=True)
    time.sleep(60)
"""
    with subprocess.Popen([sys.executable, "-P", "-c", code], stdout=subprocess.PIPE) as killed:
        assert killed.stdout is not None
        killed.stdout.readline()
        server = psutil.Process(state.pid)
        threads = [psutil.Process(thread.id) for thread in server.threads()]
        assert {thread.status() for thread in threads} == {psutil.STATUS_STOPPED}
        killed.send_signal(signal.SIGKILL)
    home.lake.objects.put("after", b"")
    assert server.status() != psutil.STATUS_STOPPED
