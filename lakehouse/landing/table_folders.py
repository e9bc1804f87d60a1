"""Recognise the folders of Delta, Iceberg and Hudi tables, and read the rows of their current snapshot.

Their data files must not be read as they are, because they also hold rows that the table has deleted.
"""

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pyarrow as pa

from lakehouse.landing.data_names import TABLE_MARKS, TableKind

_VERSION = re.compile(r"v?(\d+)")

Batches = tuple[pa.Schema, Iterable[Any]]


def table_in(folder: Path) -> TableKind | None:
    """Return the kind of table that a folder is; None if it is none."""
    return next((kind for mark, kind in TABLE_MARKS if next(folder.glob(mark), None) is not None), None)


def delta_batches(folder: Path) -> Batches:
    """Read a Delta table at its current version. Raises an error if it has a feature that the reader lacks."""
    from deltalake import DeltaTable

    table = DeltaTable(folder)
    if table.metadata().configuration.get("delta.columnMapping.mode", "none") != "none":
        raise ValueError("its columns are mapped to other names in its files")
    rows = table.to_pyarrow_dataset()
    return rows.schema, rows.to_batches()


def iceberg_batches(folder: Path) -> Batches:
    """Read an Iceberg table at its current snapshot, also if its folder was copied from elsewhere."""
    from pyiceberg.table import StaticTable

    location = str(_current_metadata(folder))
    table = StaticTable.from_metadata(location)
    properties = {
        "py-io-impl": "lakehouse.landing.copied_table.CopiedTableIO",
        "copied.from": table.location(),
        "copied.to": str(folder.absolute()),
    }
    rows = StaticTable.from_metadata(location, properties).scan().to_arrow_batch_reader()
    return rows.schema, rows


def _current_metadata(folder: Path) -> Path:
    """Find the metadata file of the newest version, or the one that a file system's catalog points to."""
    hint = folder / "metadata" / "version-hint.text"
    if hint.is_file() and (named := folder / "metadata" / f"v{hint.read_text().strip()}.metadata.json").is_file():
        return named
    return max(folder.glob("metadata/*.metadata.json"), key=_version_of)


def _version_of(path: Path) -> tuple[int, float]:
    version = _VERSION.match(path.name)
    return int(version[1]) if version else -1, path.stat().st_mtime
