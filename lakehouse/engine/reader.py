"""Read data files into memory nearly as they are stored: texts stay dictionaries where that is quicker."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol
from uuid import uuid4

import pyarrow as pa
import pyarrow.parquet as pq
from pyiceberg.table import Table
from pyiceberg.types import StringType

from lakehouse.storage.objects.connection import Connection
from lakehouse.storage.objects.store import Objects, object_key

ROWS_PER_TEXT = 2
"""A dictionary with fewer rows per distinct text becomes plain text, which is then quicker to work with."""

DICTIONARY = pa.dictionary(pa.int32(), pa.string())


class Stored(Protocol):
    """A Parquet file in storage, as Iceberg's manifests describe it."""

    @property
    def file_path(self) -> str:
        """The URL of the file."""
        ...

    @property
    def record_count(self) -> int:
        """The number of its rows."""
        ...

    @property
    def file_size_in_bytes(self) -> int:
        """Its size."""
        ...


MAX_FILE_BYTES_IN_MEMORY = 64 << 20
"""A larger file is read by row groups, from a copy on disk."""


def read_files(connection: Connection, table: Table, files: Sequence[Stored]) -> pa.Table:
    """Read all rows of a table's data files, or of copies of some. Columns that a file lacks are null.

    Each column of texts is either plain or a dictionary.
    """
    rows = pa.concat_tables(_read(connection, table, file) for file in files)
    return pa.table({name: _plain_where_better(rows.column(name)) for name in rows.column_names})


def read_chunks(
    connection: Connection, table: Table, files: Sequence[Stored], max_rows: int, folder: Path
) -> Iterator[pa.Table]:
    """Read all rows of a table's data files, about `max_rows` at a time. Large files are copied to a local folder first."""
    held: list[pa.Table] = []
    for file in files:
        for part in _parts(connection, table, file, max_rows, folder):
            if held and sum(map(len, held)) + len(part) > max_rows:
                yield pa.concat_tables(held)
                held = []
            held.append(part)
    if held:
        yield pa.concat_tables(held)


def _parts(connection: Connection, table: Table, file: Stored, max_rows: int, folder: Path) -> Iterator[pa.Table]:
    """Read a file whole, or where it is large some of its row groups at a time."""
    if file.file_size_in_bytes <= MAX_FILE_BYTES_IN_MEMORY and file.record_count <= max_rows:
        yield _read(connection, table, file)
        return
    path = folder / f"{uuid4().hex}.parquet"
    with path.open("wb") as copy:
        for piece in Objects.from_url(connection, file.file_path).stream(object_key(file.file_path)):
            copy.write(piece)
    metadata = pq.read_metadata(path)
    groups: list[int] = []
    rows = 0
    for group in range(metadata.num_row_groups):
        size = metadata.row_group(group).num_rows
        if groups and rows + size > max_rows:
            yield _read_groups(path, table, metadata, groups)
            groups, rows = [], 0
        groups.append(group)
        rows += size
    if groups:
        yield _read_groups(path, table, metadata, groups)
    path.unlink()


def _read(connection: Connection, table: Table, file: Stored) -> pa.Table:
    content: Any = pa.py_buffer(Objects.from_url(connection, file.file_path).get(object_key(file.file_path)))
    return _read_groups(content, table, pq.read_metadata(content), None)


def _read_groups(content: Any, table: Table, metadata: pq.FileMetaData, groups: list[int] | None) -> pa.Table:
    columns = table.schema().fields
    stored = set(metadata.schema.to_arrow_schema().names)
    texts = [column.name for column in columns if isinstance(column.field_type, StringType) and column.name in stored]
    file = pq.ParquetFile(content, metadata=metadata, read_dictionary=texts)
    rows = file.read(use_threads=False) if groups is None else file.read_row_groups(groups, use_threads=False)
    # A file only lacks columns of text, because tables gain columns by fields that a contract adds.
    missing: Any = pa.nulls(len(rows), DICTIONARY)
    by_name: dict[str, Any] = {c.name: rows.column(c.name) if c.name in stored else missing for c in columns}
    return pa.table(by_name)


def _plain_where_better(column: Any) -> Any:
    if column.type != DICTIONARY:
        return column
    distinct = sum(len(chunk.dictionary) for chunk in column.chunks)
    return column.cast(pa.string()) if distinct * ROWS_PER_TEXT > len(column) else column
