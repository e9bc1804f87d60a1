"""Read data files into memory nearly as they are stored: texts stay dictionaries where that is quicker."""

from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from pyiceberg.manifest import DataFile
from pyiceberg.table import Table
from pyiceberg.types import StringType

from lakehouse.storage.objects.connection import Connection
from lakehouse.storage.objects.store import Objects, object_key

ROWS_PER_TEXT = 2
"""A dictionary with fewer rows per distinct text becomes plain text, which is then quicker to work with."""

DICTIONARY = pa.dictionary(pa.int32(), pa.string())


def read_files(connection: Connection, table: Table, files: Sequence[DataFile]) -> pa.Table:
    """Read all rows of a table's data files. Columns that a file lacks are null.

    Each column of texts is either plain or a dictionary.
    """
    objects = Objects.from_url(connection, table.location())
    rows = pa.concat_tables([_read(objects, table, file) for file in files])
    return pa.table({name: _plain_where_better(rows.column(name)) for name in rows.column_names})


def _read(objects: Objects, table: Table, file: DataFile) -> pa.Table:
    content: Any = pa.py_buffer(objects.get(object_key(file.file_path)))
    columns = table.schema().fields
    metadata = pq.read_metadata(content)
    stored = set(metadata.schema.to_arrow_schema().names)
    texts = [column.name for column in columns if isinstance(column.field_type, StringType) and column.name in stored]
    rows = pq.ParquetFile(content, metadata=metadata, read_dictionary=texts).read(use_threads=False)
    # A file only lacks columns of text, because tables gain columns by fields that a contract adds.
    missing: Any = pa.nulls(len(rows), DICTIONARY)
    by_name: dict[str, Any] = {c.name: rows.column(c.name) if c.name in stored else missing for c in columns}
    return pa.table(by_name)


def _plain_where_better(column: Any) -> Any:
    if column.type != DICTIONARY:
        return column
    distinct = sum(len(chunk.dictionary) for chunk in column.chunks)
    return column.cast(pa.string()) if distinct * ROWS_PER_TEXT > len(column) else column
