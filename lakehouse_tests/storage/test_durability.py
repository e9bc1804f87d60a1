"""Written files are on disk before a write counts as done, and what was acknowledged leaves a receipt."""

import os
import threading
import time
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest

from lakehouse.errors import StorageUnavailableError
from lakehouse.landing.writer import land
from lakehouse.storage.durability import RECEIPT_DAYS, Receipts, acknowledge, sync
from lakehouse.storage.objects.connection import Connection
from lakehouse.storage.objects.store import Objects

TODAY = datetime.now(UTC).date()


@pytest.fixture
def place(tmp_path: Path) -> Connection:
    """A connection to a server of which there are only files."""
    data = tmp_path / "data"
    (data / "filerldb2" / "00").mkdir(parents=True)
    for name in ("filerldb2/00/000001.log", "lake_1.idx", "lake_1.dat"):
        (data / name).write_bytes(b"some")
    return Connection("lake", "us-east-1", None, None, None, {}, data_directory=data)


@pytest.fixture
def synced(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the files that are synced, in order."""
    names: list[str] = []

    def fdatasync(descriptor: int) -> None:
        names.append(Path(f"/proc/self/fd/{descriptor}").readlink().name)

    monkeypatch.setattr(os, "fdatasync", fdatasync)
    return names


def _add(connection: Connection, name: str) -> None:
    assert connection.data_directory is not None
    with (connection.data_directory / name).open("ab") as file:
        file.write(b"more")


def test_sync_brings_changed_files_to_disk_in_order(place: Connection, synced: list[str]) -> None:
    sync(place)
    assert synced == ["lake_1.dat", "lake_1.idx", "000001.log"]
    sync(place)
    assert len(synced) == 3
    _add(place, "lake_1.idx")
    sync(place)
    assert synced[3:] == ["lake_1.idx"]


def test_file_written_after_the_clock_stepped_back_is_synced(
    place: Connection, synced: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    sync(place)
    earlier = time.time() - 3600
    _add(place, "lake_1.dat")
    assert place.data_directory is not None
    os.utime(place.data_directory / "lake_1.dat", (earlier, earlier))
    monkeypatch.setattr(time, "time", lambda: earlier)
    sync(place)
    assert synced[3:] == ["lake_1.dat"]


def test_receipt_is_written_after_its_object_is_on_disk(place: Connection, synced: list[str]) -> None:
    acknowledge(place, "realtime/iot/a").result()
    assert synced == ["lake_1.dat", "lake_1.idx", "000001.log", f"{TODAY}.txt"]
    assert [*Receipts.of(place).keys("iot")] == [("realtime/iot/a", TODAY)]


def test_callers_that_wait_share_one_sync(
    place: Connection, synced: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, go_on = threading.Event(), threading.Event()
    record = os.fdatasync

    def slow(descriptor: int) -> None:
        begun.set()
        assert go_on.wait(10)
        record(descriptor)

    monkeypatch.setattr(os, "fdatasync", slow)
    first = acknowledge(place, "realtime/iot/0")
    assert begun.wait(10)
    others = [acknowledge(place, f"realtime/iot/{number}") for number in range(1, 20)]
    assert not any(other.done() for other in others)
    go_on.set()
    for future in (first, *others):
        future.result()
    assert synced.count(f"{TODAY}.txt") == 2
    assert len([*Receipts.of(place).keys("iot")]) == 20


def test_failing_disk_acknowledges_nothing(place: Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    def fdatasync(descriptor: int) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "fdatasync", fdatasync)
    with pytest.raises(StorageUnavailableError, match="Input/output error"):
        acknowledge(place, "realtime/iot/a").result()
    assert [*Receipts.of(place).keys("iot")] == []
    with pytest.raises(StorageUnavailableError):
        sync(place)


def test_without_sync_only_the_receipt_is_written(place: Connection, synced: list[str]) -> None:
    unsynced = replace(place, sync=False)
    sync(unsynced)
    acknowledge(unsynced, "realtime/iot/a").result()
    assert synced == []
    assert [*Receipts.of(place).keys("iot")] == [("realtime/iot/a", TODAY)]


def test_external_storage_has_neither(place: Connection, synced: list[str]) -> None:
    external = replace(place, data_directory=None)
    sync(external)
    acknowledge(external, "realtime/iot/a").result()
    assert (synced, Receipts.of(external)) == ([], Receipts({}))


def test_receipts_are_those_of_their_moment_and_stream(place: Connection) -> None:
    acknowledge(place, "realtime/iot/a").result()
    moment = Receipts.of(place)
    acknowledge(place, "realtime/iot/b").result()
    acknowledge(place, "incoming/logs/c").result()
    (path,) = moment.files
    with path.open("ab") as file:
        file.write(b"realtime/iot/torn")
    assert [key for key, _ in moment.keys("iot")] == ["realtime/iot/a"]
    assert [key for key, _ in Receipts.of(place).keys("iot")] == ["realtime/iot/a", "realtime/iot/b"]
    assert [key for key, _ in Receipts.of(place).keys("logs")] == ["incoming/logs/c"]


def test_old_receipts_are_removed(place: Connection, tmp_path: Path) -> None:
    folder = tmp_path / "receipts"
    folder.mkdir()
    days = [TODAY - timedelta(days=back) for back in (0, RECEIPT_DAYS, RECEIPT_DAYS + 1)]
    for day in days:
        (folder / f"{day}.txt").write_text("realtime/iot/a\n")
    acknowledge(place, "realtime/iot/b").result()
    assert {date.fromisoformat(path.stem) for path in folder.iterdir()} == {*days[:2]}


def test_landed_lines_are_synced_and_have_a_receipt(
    connection: Connection, objects: Objects, synced: list[str]
) -> None:
    landing = land(objects, "durability", b"{}\n")
    assert {Path(name).suffix for name in synced} >= {".dat", ".idx", ".log", ".txt"}
    assert landing.key in {key for key, _ in Receipts.of(connection).keys("durability")}
