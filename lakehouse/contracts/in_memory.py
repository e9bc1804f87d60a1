"""Open a DuckDB that checks or converts rows in memory. See `engine` for the one that reads the lake."""

from typing import Any

import duckdb


def open_in_memory(**config: Any) -> duckdb.DuckDBPyConnection:
    """Open a database with one thread that writes nothing to disk.

    By default DuckDB would spill to `.tmp` in the current folder, up to 90 % of the disk. `config` has further options, such
    as `memory_limit`.
    """
    return duckdb.connect(config={"threads": 1, "temp_directory": "", **config})
