"""Find out which table has the data file that a query could not read. See `readable` for metadata files.

SeaweedFS looks for a damaged object for 13 s before it answers, while it answers for all others within milliseconds.
"""

from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from urllib.parse import urlparse

from pyiceberg.table import Table

from lakehouse.errors import LakehouseError, ObjectNotFoundError, UnreadableObjectError, UnreadableTableError
from lakehouse.storage.iceberg.catalog import qualified_name
from lakehouse.storage.iceberg.manifests import live_entries
from lakehouse.storage.objects.connection import Connection
from lakehouse.storage.objects.store import Objects, object_key, open_store

PROBE_SECONDS = 0.6
CERTAIN_SECONDS = 3.0
"""How long a chunk must be silent at its second probe. A busy server may take longer than the first one waits."""

CHUNK_BYTES = 4 << 20
"""SeaweedFS checks an object by chunks of this size, so that one byte tells whether a chunk can be read."""

MAX_PROBES = 2000
CONCURRENT_PROBES = 16
MAX_KNOWN_CHUNKS = 100_000

HOW_TO_REPAIR = "All other tables can. Bring the file back, or run: lakehouse audit --repair"

_intact: set[tuple[str, int]] = set()
"""Chunks that were read once. A file never changes under its name."""


def raise_if_silent(connection: Connection, tables: Iterable[Table]) -> None:
    """Raise UnreadableTableError if embedded storage is silent about a data file of these tables and answers for others.

    Reads a byte of each part of each file that this process has not probed before.
    """
    if connection.data_directory is None:
        return  # other storage does not search for seconds
    for table in tables:
        objects = _hasty(connection, table, PROBE_SECONDS)
        chunks = _unknown_chunks(objects, table)
        with ThreadPoolExecutor(CONCURRENT_PROBES, thread_name_prefix="probe") as pool:
            silent = [chunk for chunk in pool.map(partial(_is_silent, objects), chunks) if chunk]
            # Once more, beside a file that can be read: a busy server is silent about any file.
            patient = _hasty(connection, table, CERTAIN_SECONDS)
            silent = [chunk for chunk in pool.map(partial(_is_silent, patient), silent[:CONCURRENT_PROBES]) if chunk]
        if silent and _answers(objects, table):
            raise unreadable_table(table, f"its data file {_url(table, silent[0][0])} is damaged")


def named_failure(connection: Connection, tables: Sequence[Table], reason: str) -> UnreadableTableError | None:
    """Return the error of a query over these tables that could not read a file. `reason` is the engine's message.

    Names the table and, where it is known, the file; None if the query reads no table.
    """
    named = [table for table in tables if f"{_path(table)}/" in reason]
    for table in named or tables:
        if what := _missing_file(connection, table):
            return unreadable_table(table, what)
    tables = named or tables
    if not tables:
        return None
    if len(tables) == 1:
        return unreadable_table(tables[0], reason)
    names = ", ".join(map(qualified_name, tables))
    return UnreadableTableError(f"A file of one of {names} can't be read: {reason.rstrip('.')}. {HOW_TO_REPAIR}")


def unreadable_table(table: Table, reason: str) -> UnreadableTableError:
    """Build the error for a table of which some file can't be read."""
    return UnreadableTableError(f"{qualified_name(table)} can't be read: {reason.rstrip('.')}. {HOW_TO_REPAIR}")


def _unknown_chunks(objects: Objects, table: Table) -> list[tuple[str, int]]:
    if len(_intact) > MAX_KNOWN_CHUNKS:
        _intact.clear()
    listed = objects.list(f"{object_key(table.location())}/data/")
    chunks = [(info.key, start) for info in listed for start in range(0, info.size, CHUNK_BYTES)]
    return [chunk for chunk in chunks if chunk not in _intact][:MAX_PROBES]


def _is_silent(objects: Objects, chunk: tuple[str, int]) -> tuple[str, int] | None:
    """Return the chunk if storage does not return its first byte in time."""
    key, start = chunk
    try:
        objects.read_range(key, start, 1)
    except ObjectNotFoundError:
        return None  # expired since it was listed
    except LakehouseError:
        return chunk
    _intact.add(chunk)
    return None


def _answers(objects: Objects, table: Table) -> bool:
    try:
        objects.read_range(object_key(table.metadata_location), 0, 1)
    except UnreadableObjectError:
        return True
    except LakehouseError:
        return False
    return True


def _missing_file(connection: Connection, table: Table) -> str | None:
    """Return which data file of the current snapshot is gone or has another size than its manifest says."""
    objects = Objects.from_url(connection, table.location())
    try:
        sizes = {info.key: info.size for info in objects.list(f"{object_key(table.location())}/data/")}
        files = [entry.data_file for entry in live_entries(table)]
    except (LakehouseError, OSError):
        return None
    for file in files:
        size = sizes.get(object_key(file.file_path))
        if size is None:
            return f"its data file {file.file_path} is gone"
        if size != file.file_size_in_bytes:
            return f"its data file {file.file_path} has {size:,} bytes, not {file.file_size_in_bytes:,}"
    return None


def _hasty(connection: Connection, table: Table, seconds: float) -> Objects:
    own = Objects.from_url(connection, table.location()).connection
    return Objects(open_store(own, seconds, retries=0), own)


def _path(table: Table) -> str:
    url = urlparse(table.location())
    return f"{url.netloc}{url.path}"


def _url(table: Table, key: str) -> str:
    return f"s3://{urlparse(table.location()).netloc}/{key}"
