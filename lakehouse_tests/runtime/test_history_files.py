"""A damaged file of Dagster's history is named with what to do, whichever it is."""

from pathlib import Path

import pytest

from lakehouse.errors import LakehouseError
from lakehouse.runtime.history_files import check_history
from lakehouse.runtime.instance import dagster_home, open_instance
from lakehouse.settings import Settings

FILES = ("history/event_log.db", "history/runs.db", "schedules/schedules.db")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    settings = Settings(home=tmp_path_factory.mktemp("home"))
    with open_instance(settings):
        return dagster_home(settings)


@pytest.mark.parametrize("damage", ["other bytes", "a page", "cut off"])
@pytest.mark.parametrize("name", FILES)
def test_damaged_history_file_is_named_until_it_is_moved_away(home: Path, name: str, damage: str) -> None:
    file = home / name
    check_history(home)
    intact = file.read_bytes()
    changed = {
        "other bytes": b"\xff" * len(intact),
        "a page": intact[:4096] + b"\xff" * 4096 + intact[8192:],
        "cut off": intact[: len(intact) // 2],
    }
    file.write_bytes(changed[damage])
    with pytest.raises(LakehouseError, match=rf"{file} \(.*\)\. It holds past runs alone"):
        check_history(home)
    file.unlink()
    check_history(home)
    file.write_bytes(intact)


def test_instance_with_damaged_history_is_refused_with_what_to_do(home: Path) -> None:
    file = home / "history" / "runs.db"
    intact = file.read_bytes()
    file.write_bytes(intact[:4096])
    with pytest.raises(LakehouseError, match=r"move runs\.db away"):
        open_instance(Settings(home=home.parent))
    file.write_bytes(intact)
