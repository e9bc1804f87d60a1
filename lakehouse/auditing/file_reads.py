"""Find out which files storage can't return. See `data_files` for what is reported of them."""

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from tempfile import TemporaryFile

import pyarrow as pa
import pyarrow.parquet as pq
from pyiceberg.table import Table

from lakehouse.engine.connection import DuckDB
from lakehouse.errors import LakehouseError, ObjectNotFoundError, UnreadableObjectError
from lakehouse.pipeline.lake import Lake
from lakehouse.storage.iceberg.readable import UnreadableFile, unreadable_metadata
from lakehouse.storage.objects.connection import Connection
from lakehouse.storage.objects.errors import first_line
from lakehouse.storage.objects.store import Objects, open_store

CONCURRENT_READS = 8
ATTEMPTS = 2
ATTEMPT_SECONDS = 15.0
"""How long storage may take to answer an attempt. SeaweedFS looks for a damaged object for 13 s before it answers 500."""

HASTY_SECONDS = 5


class FileReads:
    """Why files can't be read. Each is read once in an audit, because a damaged one costs seconds of waiting.

    No file changes under its name but a landing object that someone brings back, which the next audit sees.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._reasons: dict[tuple[str, str], str | None] = {}
        self._metadata: dict[str, list[UnreadableFile]] = {}

    def unreadable_metadata(self, table: Table) -> list[UnreadableFile]:
        """List the files of the table's current metadata that can't be read."""
        if table.metadata_location not in self._metadata:
            self._metadata[table.metadata_location] = [*unreadable_metadata(table)]
        return self._metadata[table.metadata_location]

    def failures(self, bucket: str, keys: Iterable[str], *, written_here: bool = True) -> dict[str, str]:
        """Read these files of a bucket to their ends, unless that was done before; return why some can't be read.

        Parquet files that are `written_here` are decoded, because storage returns changed bytes as if they were right.
        """
        keys = [*dict.fromkeys(keys)]
        todo = [key for key in keys if (bucket, key) not in self._reasons]
        objects = _single_attempts(replace(self._connection, bucket=bucket), ATTEMPT_SECONDS)
        with ThreadPoolExecutor(CONCURRENT_READS, thread_name_prefix="audit") as pool:
            for key, reason in zip(todo, pool.map(partial(_failure, objects, written_here), todo), strict=True):
                self._reasons[bucket, key] = reason
        return {key: reason for key in keys if (reason := self._reasons[bucket, key])}


def hasty(lake: Lake) -> Lake:
    """Return the same lake with one short attempt for each read, to find out soon that some file can't be read."""
    other = Lake(lake.settings, lake.connection)
    other.streams, other.tables = lake.streams, lake.tables
    other.objects = _single_attempts(lake.connection, HASTY_SECONDS)
    other.engine = DuckDB.of(lake.settings, lake.connection)
    other.engine.database.execute(f"set global http_retries = 0; set global http_timeout = {HASTY_SECONDS}")
    return other


def _single_attempts(connection: Connection, seconds: float) -> Objects:
    return Objects(open_store(connection, seconds, retries=0), connection)


def _failure(objects: Objects, decode: bool, key: str) -> str | None:
    """Read an object to its end, and again if storage did not say what is wrong with it. Returns why that failed."""
    for _ in range(ATTEMPTS):
        try:
            _read(objects, key, decode and key.endswith(".parquet"))
        except (UnreadableObjectError, ObjectNotFoundError) as error:
            return first_line(error)
        except pa.ArrowException as error:
            return f"its content is damaged: {first_line(error)}"
        except LakehouseError as error:
            reason = first_line(error)
        else:
            return None
    return reason


def _read(objects: Objects, key: str, decode: bool) -> None:
    """Read an object to its end. Raises pyarrow.ArrowException if it is decoded and can't be."""
    if not decode:
        for _ in objects.stream(key):
            pass
        return
    with TemporaryFile() as file:
        file.writelines(objects.stream(key))
        try:
            for _ in pq.ParquetFile(file).iter_batches(use_threads=False):
                pass
        except OSError as error:  # raised by Arrow for pages that can't be decompressed
            raise pa.ArrowException(str(error)) from error
