"""A home is private to its owner, and its state files do not count in a copy of it."""

import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from lakehouse.errors import LakehouseError
from lakehouse.http import api_keys
from lakehouse.pipeline.lake import Lake
from lakehouse.processes.home import HOME_VERSION, private_home, read_state, write_state
from lakehouse.processes.service import Service
from lakehouse.runtime import supervisor
from lakehouse.runtime.instance import dagster_home
from lakehouse.settings import Settings
from lakehouse.storage.embedded import lifecycle
from lakehouse.storage.embedded.state import ServerState, StorageHome
from lakehouse.storage.objects.connection import Connection


@pytest.fixture(params=[0o000, 0o022, 0o077], ids=oct)
def umask(request: pytest.FixtureRequest) -> Iterator[None]:
    before = os.umask(request.param)
    yield
    os.umask(before)


def _mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


def _storage(settings: Settings) -> None:
    with lifecycle.running(settings):
        pass


CREATORS = {
    "storage": _storage,
    "keys": lambda settings: api_keys.create(settings, "name"),
    "dagster": dagster_home,
    "service": lambda settings: Service("http", "").register(settings, "http://localhost", needs_keys=False),
    "supervisor": lambda settings: supervisor.claim(settings).__enter__(),
}


@pytest.mark.parametrize("create", CREATORS.values(), ids=CREATORS)
@pytest.mark.parametrize("exists", [False, True], ids=["new", "existing"])
def test_home_is_private_whatever_creates_it(
    tmp_path: Path, create: Callable[[Settings], object], exists: bool
) -> None:
    settings = Settings(home=tmp_path / "home")
    if exists:
        settings.root.mkdir(mode=0o755)
    create(settings)
    assert _mode(settings.root) == 0o700


@pytest.mark.usefixtures("umask")
def test_home_is_private_whatever_the_umask(tmp_path: Path, connection: Connection) -> None:
    settings = Settings(home=tmp_path / "home")
    assert Lake(settings, connection).engine
    assert _mode(private_home(settings)) == 0o700
    settings.root.chmod(0o777)
    assert _mode(private_home(settings)) == 0o700


@pytest.mark.parametrize("create", CREATORS.values(), ids=CREATORS)
def test_home_of_a_newer_release_is_refused_and_left_as_it_is(
    tmp_path: Path, create: Callable[[Settings], object]
) -> None:
    settings = Settings(home=tmp_path / "home")
    assert private_home(settings) == settings.root
    assert (settings.root / "version").read_text() == f"{HOME_VERSION}\n"
    (settings.root / "version").write_text(f"{HOME_VERSION + 1}\n")
    with pytest.raises(LakehouseError, match="newer release"):
        create(settings)
    with pytest.raises(LakehouseError, match="newer release"):
        lifecycle.connection(settings)
    assert [path.name for path in settings.root.iterdir()] == ["version"]


@pytest.mark.parametrize("text", [None, "", "\0\0", "0\n"])
def test_home_without_a_version_gets_one(tmp_path: Path, text: str | None) -> None:
    if text is not None:
        (tmp_path / "version").write_text(text)
    private_home(Settings(home=tmp_path))
    assert (tmp_path / "version").read_text() == f"{HOME_VERSION}\n"


def test_state_is_valid_in_its_folder_and_after_a_move_only(tmp_path: Path) -> None:
    home, copy, moved = tmp_path / "home", tmp_path / "copy", tmp_path / "moved"
    home.mkdir()
    write_state(home / "state.json", {"pid": 1})
    assert read_state(home / "state.json") == {"pid": 1}
    assert json.loads((home / "state.json").read_text())["folder"]["path"] == str(home)
    shutil.copytree(home, copy)
    assert read_state(copy / "state.json") is None
    home.rename(moved)
    assert read_state(moved / "state.json") == {"pid": 1}
    copy.rename(home)
    assert read_state(home / "state.json") is None


@pytest.mark.parametrize(
    ("text", "state"),
    [
        pytest.param('{"pid": 1}', {"pid": 1}, id="earlier version"),
        pytest.param("", None, id="empty"),
        pytest.param("[]", None, id="array"),
        pytest.param('{"pid": 1, "folder": 7}', None, id="folder is a number"),
        pytest.param('{"pid": 1, "folder": {}}', None, id="folder without an inode"),
        pytest.param("\0" * 9, None, id="zeros after a power cut"),
    ],
)
def test_damaged_state_counts_as_missing(tmp_path: Path, text: str, state: object) -> None:
    (tmp_path / "state.json").write_text(text)
    assert read_state(tmp_path / "state.json") == state
    assert read_state(tmp_path / "missing.json") is None


def test_copy_of_a_running_home_neither_sees_nor_stops_its_processes(tmp_path: Path) -> None:
    home, copy = Settings(home=tmp_path / "home"), Settings(home=tmp_path / "copy")
    process = psutil.Process()
    service = Service("http", "The HTTP server")
    service.register(home, "http://localhost:1", needs_keys=False)
    child = supervisor.Child("supervisor", process.pid, process.create_time())
    write_state(supervisor.state_path(home), {"supervisor": _fields(child), "children": [], "ready": True})
    storage = StorageHome.of(home)
    storage.folder.mkdir()
    storage.write_state(ServerState(process.pid, process.create_time(), True))
    storage.take_lease()
    assert supervisor.is_up(home)
    assert service.running(home) is not None
    assert storage.is_leased()

    shutil.copytree(home.root, copy.root)
    assert not supervisor.is_up(copy)
    assert service.running(copy) is None
    assert StorageHome.of(copy).state() is None
    assert not StorageHome.of(copy).is_leased()
    assert not supervisor.stop(copy)
    assert not service.stop(copy)
    assert not lifecycle.stop(copy)
    assert supervisor.is_up(home)


def _fields(child: supervisor.Child) -> dict[str, object]:
    return {"name": child.name, "pid": child.pid, "created": child.created}
