"""RetryingFileIO: metadata files are read again until storage answers; a missing one fails at once."""

from collections.abc import Callable
from pathlib import Path

import pytest
from pyiceberg.io import InputStream
from pyiceberg.io.pyarrow import PyArrowFile

from lakehouse.errors import StorageUnavailableError
from lakehouse.storage import retry
from lakehouse.storage.iceberg.retrying_file_io import RetryingFileIO

Fail = Callable[[float], list[str]]


@pytest.fixture
def fail(monkeypatch: pytest.MonkeyPatch) -> Fail:
    """Make the next openings of a file fail, so many of them, and return the list of those opened since."""

    def fail(times: float) -> list[str]:
        opened: list[str] = []
        original = PyArrowFile.open

        def open_or_fail(file: PyArrowFile, seekable: bool = True) -> InputStream:
            opened.append(file.location)
            if len(opened) <= times:
                raise OSError("AWS Error UNKNOWN (HTTP status 503) during GetObject operation: No response body.")
            return original(file, seekable)

        monkeypatch.setattr(PyArrowFile, "open", open_or_fail)
        return opened

    return fail


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    path = tmp_path / "snap-1.avro"
    path.write_bytes(b"Obj")
    return path


def test_manifest_is_read_again_until_storage_answers(manifest: Path, fail: Fail) -> None:
    opened = fail(2)
    with RetryingFileIO().new_input(str(manifest)).open() as file:
        assert file.read() == b"Obj"
    assert opened == [str(manifest)] * 3


def test_storage_that_keeps_failing_raises_unavailable(
    manifest: Path, fail: Fail, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retry, "RETRY_SECONDS", 0.1)
    opened = fail(float("inf"))
    with pytest.raises(StorageUnavailableError, match=rf"asked for {manifest}; run it again \(AWS Error UNKNOWN"):
        RetryingFileIO().new_input(str(manifest)).open()
    assert len(opened) > 1


def test_missing_manifest_is_not_retried(tmp_path: Path, fail: Fail) -> None:
    opened = fail(0)
    with pytest.raises(FileNotFoundError):
        RetryingFileIO().new_input(str(tmp_path / "snap-2.avro")).open()
    assert len(opened) == 1
