"""Data files of a table read into memory nearly as they are stored: texts as numbers into what distinct ones there are."""

from collections.abc import Iterator, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from pyiceberg.manifest import DataFile
from pyiceberg.table import Table
from pyiceberg.types import StringType

from lakehouse.storage.objects.connection import Connection
from lakehouse.storage.objects.store import Objects, object_key

ROWS_PER_TEXT = 2
"""A column with fewer rows for each distinct text is plain text, which is then quicker to work with."""

NUMBERED = pa.dictionary(pa.int32(), pa.string())


def read_files(connection: Connection, table: Table, files: Sequence[DataFile]) -> pa.Table:
    """All rows of these data files of the table, with its columns; those that a file lacks are null.

    Texts are plain or dictionaries, column by column.
    """
    objects = Objects.from_url(connection, table.location())
    rows = pa.concat_tables([_read(objects, table, file) for file in files])
    return pa.table({name: _plain_where_better(rows.column(name)) for name in rows.column_names})


def _read(objects: Objects, table: Table, file: DataFile) -> pa.Table:
    content: Any = pa.py_buffer(objects.get(object_key(file.file_path)))
    columns = table.schema().fields
    metadata = pq.read_metadata(content)
    there = set(metadata.schema.to_arrow_schema().names)
    texts = [column.name for column in columns if isinstance(column.field_type, StringType) and column.name in there]
    rows = pq.ParquetFile(content, metadata=metadata, read_dictionary=texts).read(use_threads=False)
    # A table gains columns of text alone: fields that were added to the contract.
    missing: Any = pa.nulls(len(rows), NUMBERED)
    found: dict[str, Any] = {c.name: rows.column(c.name) if c.name in there else missing for c in columns}
    return pa.table(found)


def _plain_where_better(column: Any) -> Any:
    if column.type != NUMBERED:
        return column
    distinct = sum(len(chunk.dictionary) for chunk in _chunks(column))
    return column.cast(pa.string()) if distinct * ROWS_PER_TEXT > len(column) else column


def _chunks(column: Any) -> Iterator[Any]:
    return iter(column.chunks)
