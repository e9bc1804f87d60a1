"""Open an empty database that `connection.setup_sql` can set up. Imports little, because worker processes start with it."""

import duckdb


def open_database() -> duckdb.DuckDBPyConnection:
    """Open an in-memory database that loads extensions without checking their signatures.

    The check hashes 85 MB, half a second of a core for each database. The files come from wheels, whose installer has checked
    them.
    """
    return duckdb.connect(":memory:", config={"allow_unsigned_extensions": "true"})
