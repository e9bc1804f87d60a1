"""How new a stream's newest event is, as the statistics of its tables' files say; no file is opened."""

from datetime import UTC, datetime

from pyiceberg.conversions import from_bytes
from pyiceberg.manifest import ManifestContent
from pyiceberg.table import Table
from pyiceberg.types import PrimitiveType


def newest(table: Table, column: str) -> datetime | None:
    """The largest value of a column of times in any of the table's files; None for an empty table."""
    snapshot = table.current_snapshot()
    if snapshot is None:
        return None
    field = table.schema().find_field(column)
    assert isinstance(field.field_type, PrimitiveType), f"{column} holds times"
    largest: int | None = None
    for manifest in snapshot.manifests(table.io):
        if manifest.content != ManifestContent.DATA:
            continue
        for entry in manifest.fetch_manifest_entry(table.io, discard_deleted=True):
            bound = (entry.data_file.upper_bounds or {}).get(field.field_id)
            if bound is not None:
                value = int(from_bytes(field.field_type, bound))
                largest = value if largest is None else max(largest, value)
    return None if largest is None else datetime.fromtimestamp(largest / 1e6, UTC)
