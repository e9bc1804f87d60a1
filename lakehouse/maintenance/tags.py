"""Tags: names that pin a table's snapshot, so that it does not expire and keeps its files until the tag is deleted."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime

from pyiceberg.exceptions import CommitFailedException
from pyiceberg.table.refs import SnapshotRefType

from lakehouse.errors import LakehouseError
from lakehouse.pipeline.lake import Lake
from lakehouse.storage.iceberg.catalog import qualified_name

TAG_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,99}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Tag:
    """A tag of one table: the snapshot it pins, and when that snapshot was committed."""

    name: str
    table: str
    snapshot_id: int
    committed: datetime | None


def create_tags(lake: Lake, name: str, tables: Iterable[str] = ()) -> list[Tag]:
    """Tag the current snapshot of these tables, or of all tables that have one.

    Raises LakehouseError if the name is invalid, or if one of the tables is empty or already has the tag. No table is
    tagged then.
    """
    if not TAG_NAME.fullmatch(name) or name == "main":
        raise LakehouseError(
            f"{name!r} is not a valid tag name. Use letters, digits, _, . and -, such as before-migration or v2."
        )
    requested = list(tables)
    loaded = [lake.tables.load(table) for table in requested or lake.tables.names()]
    if empty := [qualified_name(table) for table in loaded if requested and table.current_snapshot() is None]:
        raise LakehouseError(f"Cannot tag {', '.join(empty)}: no snapshot yet. Write to it first.")
    loaded = [table for table in loaded if table.current_snapshot() is not None]
    if tagged := [qualified_name(table) for table in loaded if name in table.metadata.refs]:
        raise LakehouseError(
            f"{', '.join(tagged)} already has a tag {name}. Remove it with: lakehouse tag delete {name}"
        )
    for table in loaded:
        snapshot = table.current_snapshot()
        assert snapshot is not None
        try:
            table.manage_snapshots().create_tag(snapshot.snapshot_id, name).commit()
        except CommitFailedException as error:
            raise LakehouseError(
                f"Tag {name} was not created: {qualified_name(table)} changed meanwhile. Run it again."
            ) from error
    return [tag for tag in list_tags(lake, [qualified_name(table) for table in loaded]) if tag.name == name]


def list_tags(lake: Lake, tables: Iterable[str] = ()) -> list[Tag]:
    """List the tags of these tables, or of all, sorted by name and table."""
    tags = []
    for table_name in list(tables) or lake.tables.names():
        metadata = lake.tables.load(table_name).metadata
        for name, ref in metadata.refs.items():
            if ref.snapshot_ref_type == SnapshotRefType.TAG:
                snapshot = metadata.snapshot_by_id(ref.snapshot_id)
                committed = datetime.fromtimestamp(snapshot.timestamp_ms / 1000, UTC) if snapshot else None
                tags.append(Tag(name, table_name, ref.snapshot_id, committed))
    return sorted(tags, key=lambda tag: (tag.name, tag.table))


def delete_tags(lake: Lake, name: str, tables: Iterable[str] = ()) -> list[Tag]:
    """Delete the tag from these tables, or from all that have it. Raises LakehouseError if none has it."""
    deleted = [tag for tag in list_tags(lake, tables) if tag.name == name]
    if not deleted:
        names = sorted({tag.name for tag in list_tags(lake)})
        raise LakehouseError(f"There is no tag {name}. Existing tags: {', '.join(names) or 'none'}.")
    for tag in deleted:
        try:
            lake.tables.load(tag.table).manage_snapshots().remove_tag(name).commit()
        except CommitFailedException as error:
            raise LakehouseError(f"Tag {name} was not deleted: {tag.table} changed meanwhile. Run it again.") from error
    return deleted
