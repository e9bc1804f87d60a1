"""Manifests are read whole, from storage that has to be asked again too; what is not there is known at once."""

from collections.abc import Callable
from pathlib import Path

import pytest
from pyiceberg.io import InputStream
from pyiceberg.io.pyarrow import PyArrowFile

from lakehouse.errors import StorageUnavailableError
from lakehouse.storage import retry
from lakehouse.storage.iceberg.retrying_file_io import RetryingFileIO

Failing = Callable[[float], list[str]]


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch) -> Failing:
    """Makes storage fail so many times; what was opened since."""

    def failing(times: float) -> list[str]:
        opened: list[str] = []
        whole = PyArrowFile.open

        def opens(file: PyArrowFile, seekable: bool = True) -> InputStream:
            opened.append(file.location)
            if len(opened) <= times:
                raise OSError("AWS Error UNKNOWN (HTTP status 503) during GetObject operation: No response body.")
            return whole(file, seekable)

        monkeypatch.setattr(PyArrowFile, "open", opens)
        return opened

    return failing


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    file = tmp_path / "snap-1.avro"
    file.write_bytes(b"Obj")
    return file


def test_a_manifest_is_asked_for_again_until_it_is_there(manifest: Path, failing: Failing) -> None:
    opened = failing(2)
    with RetryingFileIO().new_input(str(manifest)).open() as file:
        assert file.read() == b"Obj"
    assert opened == [str(manifest)] * 3


def test_storage_that_does_not_answer_for_long_is_said(
    manifest: Path, failing: Failing, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retry, "RETRY_SECONDS", 0.1)
    opened = failing(float("inf"))
    with pytest.raises(StorageUnavailableError, match=rf"asked for {manifest}; run it again \(AWS Error UNKNOWN"):
        RetryingFileIO().new_input(str(manifest)).open()
    assert len(opened) > 1


def test_a_manifest_that_is_gone_is_known_at_once(tmp_path: Path, failing: Failing) -> None:
    opened = failing(0)
    with pytest.raises(FileNotFoundError):
        RetryingFileIO().new_input(str(tmp_path / "snap-2.avro")).open()
    assert len(opened) == 1
