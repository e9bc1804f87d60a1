"""Tell from names what is data, in a folder that is loaded and among the objects under `incoming/` alike.

See `selection` for files, `listing` for objects, and `readers.signatures` for what content tells.
"""

import re
from pathlib import PurePosixPath
from typing import Literal

from lakehouse.landing.formats import COMPRESSION_SUFFIXES, FORMAT_SUFFIXES, format_of_name

TableKind = Literal["a Delta table", "a Hudi table", "an Iceberg table"]

TABLE_MARKS: tuple[tuple[str, TableKind], ...] = (
    ("_delta_log", "a Delta table"),
    (".hoodie", "a Hudi table"),
    ("metadata/*.metadata.json", "an Iceberg table"),
)
"""Names inside a folder that mark it as a table, each with the kind. The first one found counts: a Delta table may also look like
an Iceberg table.
"""

OPAQUE_SUFFIXES = (
    *COMPRESSION_SUFFIXES,
    ".zip",
    ".7z",
    ".lz4",
    ".tar",
    ".tgz",
    ".tbz2",
    ".txz",
    ".xlsx",
    ".xls",
    ".ods",
    ".avro",
    ".orc",
)
"""Suffixes of files that are looked into: they may hold data."""

EXPORT = "export the table as Parquet, CSV or NDJSON and load that"

MAX_SUFFIX_CHARACTERS = 20
"""Longer ones are the rest of a name that has a point in it, such as that of a Firehose stream."""

_TABLE_MARK = re.compile(r"(?:^|/)(?:(_delta_log)/|(\.hoodie)/|metadata/[^/]+\.metadata\.json$)")


def hidden_reason(name: str) -> str | None:
    """Return why a file or folder of this name is no data; None if it may be.

    A folder `_x=1` gives its rows a column, and `.` and `..` may be parts of a key.
    """
    is_hidden = (name.startswith(".") and name.strip(".")) or (name.startswith("_") and "=" not in name)
    return "names that begin with . or _ are hidden or temporary" if is_hidden else None


def file_reason(name: str) -> str | None:
    """Return why a file of this name is no data; None if it may be."""
    if reason := hidden_reason(name):
        return reason
    suffix = PurePosixPath(name).suffix
    if format_of_name(name) or name.lower().endswith(OPAQUE_SUFFIXES) or not 0 < len(suffix) <= MAX_SUFFIX_CHARACTERS:
        return None
    if FORMAT_SUFFIXES.keys() & {part.lower() for part in PurePosixPath(name).suffixes}:
        return f"{suffix} after the format marks a copy or temporary file; name the file to load it"
    return f"{suffix} is no format that is read; name the file to load it"


def table_reason(subject: str, kind: TableKind, remedy: str) -> str:
    """Say why a table's files are not loaded as they are, and what to do."""
    return f"{subject} is {kind}, whose files also hold rows that it has deleted; {remedy}"


def table_of_key(key: str) -> tuple[str, TableKind] | None:
    """Return the folder of the table of which this key is a mark, and its kind; None if it is no such key."""
    match = _TABLE_MARK.search(key)
    if match is None:
        return None
    kind: TableKind = "a Delta table" if match[1] else "a Hudi table" if match[2] else "an Iceberg table"
    return key[: match.start()], kind
