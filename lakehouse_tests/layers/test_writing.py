"""What goes wrong while a partition is computed is said in our words."""

import duckdb
import pytest

from lakehouse.errors import StorageUnavailableError
from lakehouse.layers.writing import recomputing


def test_storage_that_duckdb_can_not_read_is_said_in_one_line() -> None:
    def compute() -> None:
        raise duckdb.HTTPException(
            "HTTP Error: HTTP GET error reading 'http://there/file' (HTTP 503)\n\nLINE 1: select"
        )

    with pytest.raises(StorageUnavailableError, match=r"run it again \(HTTP Error: HTTP GET .* \(HTTP 503\)\)\.$"):
        recomputing(compute)
