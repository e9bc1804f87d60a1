"""Turn work into bytes that another machine can run, and run it there.

Tables travel as the name and address of their metadata, because the metadata itself grows with a table's age. The bytes
are pickles, as Spark's own are: only programs that may run code on the cluster can send them.
"""

import io
import os
import pickle
import tempfile
import threading
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
from pyiceberg.table import Table

from lakehouse.engine.connection import DuckDB
from lakehouse.errors import EngineError, LakehouseError, StorageUnavailableError
from lakehouse.storage.iceberg.tables import open_version
from lakehouse.storage.objects.connection import Connection

RESULT = "number int, result binary"
"""The columns of what a task gives back, as Spark names types."""

TRANSIENT = (StorageUnavailableError, duckdb.IOException, OSError)
"""Errors that may not come again: the cluster tries such a task again."""


@dataclass(frozen=True, slots=True)
class Machine:
    """The storage and limits of a worker's database."""

    connection: Connection
    memory_limit_mb: int
    spill_mb: int


@dataclass(frozen=True, slots=True)
class Failure:
    """An error that a function raised, with where it did."""

    error: BaseException
    trace: str


class _Pickler(pickle.Pickler):
    def __init__(self, file: io.BytesIO, connection: Connection) -> None:
        super().__init__(file, pickle.HIGHEST_PROTOCOL)
        self._connection = connection

    def reducer_override(self, obj: object) -> Any:
        if isinstance(obj, Table):
            return open_version, (self._connection, obj.name(), obj.metadata_location)
        return NotImplemented


def pack(machine: Machine, function: Callable[[DuckDB, Any], Any], item: object) -> bytes:
    """Turn a function of a module and an item into bytes."""
    file = io.BytesIO()
    _Pickler(file, machine.connection).dump((function, item))
    return file.getvalue()


def unpack(result: bytes) -> Any:
    """Return what a function made of its item, or raise its error."""
    value = pickle.loads(result)  # noqa: S301 see above
    if isinstance(value, Failure):
        value.error.add_note(f"On the cluster:\n{value.trace}")
        raise value.error
    return value


def run_items(release: str, machine: bytes, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Run packed items, given in batches of the columns `number` and `item`. The results have the columns of `RESULT`.

    Raises EngineError if the worker has another release of this package than `release`, because items are its objects.
    """
    if (own := version("lakehouse")) != release:
        raise EngineError(f"this worker has lakehouse {own}, and its driver {release}; install the same on both")
    engine = _engine(machine)
    for batch in batches:
        for row in batch.to_pylist():
            numbers, results = pa.array([row["number"]], pa.int32()), pa.array([_run(engine, row["item"])], pa.binary())
            yield pa.RecordBatch.from_arrays([numbers, results], ["number", "result"])


def _run(engine: DuckDB, packed: bytes) -> bytes:
    try:
        function, item = pickle.loads(packed)  # noqa: S301 see above
        return pickle.dumps(function(engine, item), pickle.HIGHEST_PROTOCOL)
    except TRANSIENT:
        raise
    except (LakehouseError, duckdb.Error, ArithmeticError, LookupError, TypeError, ValueError) as error:
        return pickle.dumps(Failure(error, traceback.format_exc()))


_opening = threading.Lock()


def _engine(machine: bytes) -> DuckDB:
    with _opening:  # a cluster may run several tasks in one process
        return _open_engine(machine)


@lru_cache(maxsize=1)
def _open_engine(machine: bytes) -> DuckDB:
    """Open this process's database: tasks use a core each, so it has a single thread of its own."""
    wanted: Machine = pickle.loads(machine)  # noqa: S301 see above
    return DuckDB(
        wanted.connection,
        scratch=_scratch(),
        memory_limit_mb=wanted.memory_limit_mb,
        spill_mb=wanted.spill_mb,
        threads=1,
    )


def _scratch() -> Path:
    """Make this user's folder for what workers spill. Other users of the machine can't read it."""
    folder = Path(tempfile.gettempdir(), f"lakehouse-worker-{os.getuid()}")
    folder.mkdir(mode=0o700, exist_ok=True)
    if folder.is_symlink() or folder.stat().st_uid != os.getuid():
        raise EngineError(f"{folder} belongs to another user; remove it, or set TMPDIR for Spark's workers")
    return folder
