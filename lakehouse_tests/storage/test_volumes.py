"""Volumes whose files lack their ends are made whole before the server starts: whatever a power cut leaves."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as runs
from hypothesis import strategies as st

from lakehouse.settings import Settings
from lakehouse.storage.embedded import lifecycle as storage
from lakehouse.storage.embedded.volumes import repair_volumes
from lakehouse.storage.objects.store import Objects

ENTRY_BYTES = 17
TRAILER_BYTES = 16
"""A time and padding end a needle. A file that is torn there lost none of its data."""

STORED = {f"kept/{number:03d}": f"{number} ".encode() * (number * 7 + 1) for number in range(40)}


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """A home whose server was stopped, with objects that were written and others that were deleted."""
    settings = Settings(home=tmp_path_factory.mktemp("volumes"))
    with storage.running(settings) as connection:
        objects = Objects.from_connection(connection)
        for key, content in STORED.items():
            objects.put(key, content)
            objects.put(f"gone/{key}", content)
        objects.delete(f"gone/{key}" for key in STORED)
    return settings


@pytest.fixture(scope="module")
def volume(settings: Settings) -> Path:
    return settings.root / "storage" / "data" / "lake_1"


@pytest.fixture(scope="module")
def copy(volume: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[], Path]:
    """`copy()`: a copy of the volume's files to damage, always the same one."""
    folder = tmp_path_factory.mktemp("copy")

    def copy() -> Path:
        for suffix in (".dat", ".idx"):
            shutil.copy(volume.with_suffix(suffix), folder)
        return folder / volume.name

    return copy


def test_whole_volume_is_left_alone(volume: Path) -> None:
    before = {path: path.read_bytes() for path in volume.parent.glob("*.[di]*")}
    assert repair_volumes(volume.parent) == []
    assert {path: path.read_bytes() for path in before} == before


@runs(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(kept=st.floats(0, 1), garbage=st.binary(max_size=40))
def test_index_cut_anywhere_is_rebuilt_from_the_volume(copy: Callable[[], Path], kept: float, garbage: bytes) -> None:
    volume = copy()
    index = volume.with_suffix(".idx")
    whole = index.read_bytes()
    damaged = whole[: int(len(whole) * kept)] + garbage
    index.write_bytes(damaged)
    assert len(repair_volumes(volume.parent)) == (damaged != whole)
    assert index.read_bytes() == whole


@runs(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(kept=st.floats(0.05, 1), zeros=st.integers(0, 100))
def test_volume_cut_anywhere_keeps_the_whole_needles_before(copy: Callable[[], Path], kept: float, zeros: int) -> None:
    volume = copy()
    dat, index = volume.with_suffix(".dat"), volume.with_suffix(".idx")
    content, entries = dat.read_bytes(), index.read_bytes()
    dat.write_bytes(content[: int(len(content) * kept)] + bytes(zeros))
    repair_volumes(volume.parent)
    left = index.read_bytes()
    assert entries.startswith(left)
    assert len(left) % ENTRY_BYTES == 0
    assert content.startswith(dat.read_bytes()[:-TRAILER_BYTES])
    assert repair_volumes(volume.parent) == []


def test_server_with_torn_index_starts_with_every_object(
    settings: Settings, volume: Path, caplog: pytest.LogCaptureFixture
) -> None:
    index = volume.with_suffix(".idx")
    index.write_bytes(index.read_bytes()[: -20 * ENTRY_BYTES - 5])
    with storage.running(settings) as connection:
        objects = Objects.from_connection(connection)
        assert {key: objects.get(key) for key in STORED} == STORED
    assert "Repaired volume lake_1" in caplog.text


def test_other_file_is_no_volume(tmp_path: Path) -> None:
    tmp_path.joinpath("old.dat").write_bytes(b"\x02" + bytes(100))
    tmp_path.joinpath("short.dat").write_bytes(b"\x03")
    assert repair_volumes(tmp_path) == []
