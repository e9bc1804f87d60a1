"""Messages between the serving process and its reader process. Both are ours, so they are pickled."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pyarrow as pa

from lakehouse.serving.query.snapshot_views import Parameters


@dataclass(frozen=True, slots=True)
class ReaderSetup:
    """The first message: the statements that set up the database, and its limits."""

    statements: Sequence[str]
    threads: int
    """How many queries run at a time."""
    max_cached_bytes: int
    """How much to keep of files that were read."""


@dataclass(frozen=True, slots=True)
class ReadRequest:
    """Run a query."""

    number: int
    sql: str
    parameters: Parameters
    max_rows: int | None
    snapshot: int
    """The number of the lake snapshot."""
    views: Mapping[str, str]
    """The SELECT behind each name that the query may use."""


@dataclass(frozen=True, slots=True)
class StopRequest:
    """Stop the query with this number, wherever it is."""

    number: int


@dataclass(frozen=True, slots=True)
class ReadReply:
    """The rows of a query, or why it failed."""

    number: int
    table: pa.Table | None = None
    truncated: bool = False
    seconds: float = 0.0
    error: str = ""
    unavailable: bool = False
    """Whether it failed because a file of the lake can't be read."""
