"""The names of loaded files, by landing object: the column `_file` of bronze and quarantine.

`load` keeps a file's name in the metadata of its object, because the key has only the hash of the content. The key of any
other object under `incoming/` ends with the name. Objects under `realtime/` come from no file.
"""

from collections.abc import Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import unquote_to_bytes

import pyarrow as pa
from pyiceberg.table import Table

from lakehouse.storage.objects.store import Objects

FILE_COLUMN = "_file"

INCOMING = "incoming/"

NAME_METADATA = "name"
"""The metadata of an object in which `landing.upload` keeps the file's name, percent-encoded."""

MAX_CONCURRENT_REQUESTS = 8


def file_names(objects: Objects, keys: Collection[str]) -> dict[str, str]:
    """Find the file names of those of these landing objects that come from files, by key."""
    of_files = [key for key in keys if key.startswith(INCOMING)]
    if not of_files:
        return {}
    with ThreadPoolExecutor(min(MAX_CONCURRENT_REQUESTS, len(of_files))) as pool:
        stored = pool.map(objects.metadata, of_files)
        return {key: _name(key, metadata) for key, metadata in zip(of_files, stored, strict=True)}


def _name(key: str, metadata: Mapping[str, str]) -> str:
    name = metadata.get(NAME_METADATA)
    # Bytes that are not UTF-8 are written as escapes, as commands print them.
    return unquote_to_bytes(name).decode("utf-8", "backslashreplace") if name else key.rsplit("/", 1)[-1]


def file_column(keys: Any, names: Mapping[str, str]) -> Any:
    """Build the column `_file` of rows of these landing objects, a column of Arrow texts."""
    if not names:
        return pa.nulls(len(keys), pa.string())
    encoded: Any = keys.combine_chunks()
    if not pa.types.is_dictionary(encoded.type):
        encoded = encoded.dictionary_encode()
    return pa.array(map(names.get, encoded.dictionary.to_pylist()), pa.string()).take(encoded.indices)


def has_file_column(table: Table) -> bool:
    """Return whether the table has the column `_file`: those that earlier releases made gain it from `bootstrap`."""
    return any(column.name == FILE_COLUMN for column in table.schema().fields)


def file_sql(table: Table) -> str:
    """Write the SQL of a row's file name in a table that may lack the column."""
    return FILE_COLUMN if has_file_column(table) else "null::varchar"
