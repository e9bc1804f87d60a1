"""Errors of DuckDB while a partition is computed are raised as errors of the lakehouse."""

import duckdb
import pytest

from lakehouse.errors import StorageUnavailableError
from lakehouse.pipeline.commits import retry_on_conflict


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (
            duckdb.HTTPException("HTTP Error: HTTP GET error reading 'http://there/file' (HTTP 503)\n\nLINE 1: select"),
            r"HTTP Error: HTTP GET .* \(HTTP 503\)",
        ),
        (
            duckdb.IOException(
                "IO Error: Failure when receiving data from the peer error for HTTP HEAD to 'http://there'"
            ),
            "IO Error: Failure when receiving data from the peer .*",
        ),
    ],
)
def test_unreadable_storage_raises_a_one_line_error(error: Exception, message: str) -> None:
    def compute() -> None:
        raise error

    with pytest.raises(StorageUnavailableError, match=rf"run it again \({message}\)\.$"):
        retry_on_conflict(compute)


def test_unreadable_local_file_is_not_a_storage_error() -> None:
    def compute() -> None:
        raise duckdb.IOException("IO Error: No files found that match the pattern")

    with pytest.raises(duckdb.IOException, match="No files found"):
        retry_on_conflict(compute)
