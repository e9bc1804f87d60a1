"""Shuffle rows between tasks: some write them in pieces to storage, and others read one piece each.

So an engine needs no shuffle of its own, and a task's memory depends on the size of a piece alone. A file is named after
its task and piece, so a task that runs twice overwrites what it wrote before.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self
from uuid import uuid4

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from pyiceberg.table import Table

from lakehouse.engine.partition_writer import ROW_GROUP, with_one_dictionary
from lakehouse.errors import LakehouseError
from lakehouse.storage.objects.connection import Connection
from lakehouse.storage.objects.store import Objects, object_key


@dataclass(frozen=True, slots=True)
class PieceFile:
    """A Parquet file with rows of one piece, described as a data file is."""

    file_path: str
    record_count: int
    file_size_in_bytes: int


Pieces = Mapping[int, Sequence[PieceFile]]
"""The files of each piece, by its number."""


@contextmanager
def shuffle_folder(connection: Connection, table: Table) -> Iterator[str]:
    """Give the URL of a folder for pieces, and delete them afterwards.

    It is below the table's location, where `maintain orphans` removes the pieces if this process is killed.
    """
    url = f"{table.location().rstrip('/')}/data/shuffle-{uuid4().hex}"
    try:
        yield url
    finally:
        with suppress(LakehouseError):  # if storage is down, they stay until orphans are removed
            objects = Objects.from_url(connection, url)
            objects.delete([info.key for info in objects.list(f"{object_key(url)}/")])


class PieceWriter:
    """Writes rows by piece. Use it in a `with` block, and call `upload` at its end.

    Each piece is a local file while it is written, so memory holds a chunk of rows only.
    """

    def __init__(self, folder: Path) -> None:
        """Write below a local folder that has nothing else in it."""
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._schema: pa.Schema | None = None
        self._writers: dict[int, pq.ParquetWriter] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._close()

    def write(self, rows: pa.Table, pieces: NDArray[np.int64]) -> None:
        """Write a chunk of rows, each to the piece at its place in `pieces`. All chunks have the same columns."""
        self._schema = schema = self._schema or rows.schema
        order = np.argsort(pieces, kind="stable")
        places: Any = pa.array(order)
        numbers, starts = np.unique(pieces[order], return_index=True)
        ordered = rows.cast(schema).take(places)
        for number, start, end in zip(numbers.tolist(), starts, [*starts[1:], len(rows)], strict=True):
            part = _as(with_one_dictionary(ordered.slice(start, end - start)), schema)
            self._writer(number, schema).write_table(part, row_group_size=ROW_GROUP)

    def upload(self, connection: Connection, url: str) -> dict[int, list[PieceFile]]:
        """Upload the file of each piece. `url` starts the names of the files, and tells this task from all others."""
        self._close()
        objects = Objects.from_url(connection, url)
        files: dict[int, list[PieceFile]] = {}
        for number in sorted(self._writers):
            path = self._path(number)
            file = PieceFile(f"{url}-{number}.parquet", pq.read_metadata(path).num_rows, path.stat().st_size)
            objects.put_file(object_key(file.file_path), path)
            path.unlink()
            files[number] = [file]
        return files

    def _writer(self, number: int, schema: pa.Schema) -> pq.ParquetWriter:
        if number not in self._writers:
            make: Any = pq.ParquetWriter  # its stubs know no list of columns
            self._writers[number] = make(
                self._path(number),
                schema,
                compression="lz4",  # because a piece is read once, and soon
                use_dictionary=[name for name in schema.names if name != "_row"],
                write_statistics=False,
                store_decimal_as_integer=True,
                write_batch_size=32_768,
            )
        return self._writers[number]

    def _close(self) -> None:
        for writer in self._writers.values():
            writer.close()

    def _path(self, number: int) -> Path:
        return self._folder / f"{number}.parquet"


def gather(parts: Iterable[Pieces]) -> dict[int, list[PieceFile]]:
    """Gather the files of each piece from what several tasks wrote, in the order of their numbers."""
    gathered: dict[int, list[PieceFile]] = defaultdict(list)
    for part in parts:
        for number, files in part.items():
            gathered[number] += files
    return dict(sorted(gathered.items()))


def _as(rows: pa.Table, schema: pa.Schema) -> pa.Table:
    """Give columns the types of the schema again, because a dictionary may have become plain text."""
    return rows if rows.schema.equals(schema) else rows.cast(schema)
