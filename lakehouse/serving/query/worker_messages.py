"""Messages between the serving process and its query workers, over a worker's standard input and output.

Each is MessagePack after its length. Imports little, because the worker processes start with it.
"""

from typing import Any

import msgspec

from lakehouse.serving.query.rendering import Format, Statistics

LENGTH_BYTES = 8
"""Bytes of the length before each message."""


class Setup(msgspec.Struct, tag=True):
    """The first message: how to set up the database."""

    statements: list[str]
    """The SQL that makes an empty database one that reads the lake and nothing else."""
    memory_mb: int
    spool: str
    """The folder for long results."""


class QueryRequest(msgspec.Struct, tag=True):
    """Run a query."""

    sql: str
    parameters: list[Any] | dict[str, Any]
    form: Format
    max_rows: int
    max_bytes: int
    """Size of the rendered result; a larger one is an error."""
    snapshot: int
    """The number of the lake snapshot."""
    views: dict[str, str]
    """The SELECT behind each name that the query may use."""
    snapshots: dict[str, str | None]
    """The snapshot id of each table that it reads."""
    table_names: list[str]
    """Every table that the user may read, to list them when the query names an unknown one."""


class Interrupt(msgspec.Struct, tag=True):
    """Stop the running query."""


class WorkerReply(msgspec.Struct):
    """A query's result or error; an empty one after `Setup`, when the worker is ready."""

    error: str | None = None
    """Why the query failed; then nothing else is set."""
    statistics: Statistics | None = None
    body: bytes = b""
    path: str | None = None
    """The file with a long result. The reader deletes it."""
    unavailable: bool = False
    """Whether it failed because a file of the lake can't be read."""
    out_of_memory: bool = False
    """Whether memory ran out. Not all of it is returned to the system, so the process must be replaced."""


REQUEST_DECODER = msgspec.msgpack.Decoder(Setup | QueryRequest | Interrupt)
REPLY_DECODER = msgspec.msgpack.Decoder(WorkerReply)


def encode(message: msgspec.Struct) -> bytes:
    """Return a message with its length before it."""
    content = msgspec.msgpack.encode(message)
    return len(content).to_bytes(LENGTH_BYTES, "big") + content
