"""Tags: names that pin a table's snapshot, so that it neither expires nor loses its files, until the tag is deleted."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime

from pyiceberg.exceptions import CommitFailedException
from pyiceberg.table.refs import SnapshotRefType

from lakehouse.errors import LakehouseError
from lakehouse.pipeline.lake import Lake

NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,99}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Tag:
    """A name, the table it is of, and the snapshot it pins with the time that was committed."""

    name: str
    table: str
    snapshot_id: int
    committed: datetime | None


def create(lake: Lake, name: str, tables: Iterable[str] = ()) -> list[Tag]:
    """Pin the current snapshot of these tables, or of all that have one, under a name.

    Raises LakehouseError when the name can't be one or one of the tables has it already; then no table gets it.
    """
    if not NAME.fullmatch(name) or name == "main":
        raise LakehouseError(
            f"{name!r} can't be a tag's name; take letters, digits, _, . and -, such as before-migration or v2."
        )
    asked = list(tables)
    found = [lake.tables.load(table) for table in asked or lake.tables.names()]
    if empty := [".".join(table.name()) for table in found if asked and table.current_snapshot() is None]:
        raise LakehouseError(f"{', '.join(empty)} has nothing in it yet that could be tagged.")
    found = [table for table in found if table.current_snapshot() is not None]
    if taken := [".".join(table.name()) for table in found if name in table.metadata.refs]:
        raise LakehouseError(f"{', '.join(taken)} has a tag {name} already; `lakehouse tag delete {name}` frees it.")
    for table in found:
        snapshot = table.current_snapshot()
        assert snapshot is not None
        try:
            table.manage_snapshots().create_tag(snapshot.snapshot_id, name).commit()
        except CommitFailedException as problem:
            raise LakehouseError(f"{'.'.join(table.name())} was changed meanwhile; create the tag again.") from problem
    tagged = {".".join(table.name()) for table in found}
    return [tag for tag in listed(lake, tagged) if tag.name == name]


def listed(lake: Lake, tables: Iterable[str] = ()) -> list[Tag]:
    """The tags of these tables, or of all, by name and table."""
    tags = []
    for table_name in list(tables) or lake.tables.names():
        metadata = lake.tables.load(table_name).metadata
        for name, ref in metadata.refs.items():
            if ref.snapshot_ref_type == SnapshotRefType.TAG:
                snapshot = metadata.snapshot_by_id(ref.snapshot_id)
                committed = datetime.fromtimestamp(snapshot.timestamp_ms / 1000, UTC) if snapshot else None
                tags.append(Tag(name, table_name, ref.snapshot_id, committed))
    return sorted(tags, key=lambda tag: (tag.name, tag.table))


def delete(lake: Lake, name: str, tables: Iterable[str] = ()) -> list[Tag]:
    """Take the tag off these tables, or off all that have it. Raises LakehouseError when none has."""
    gone = [tag for tag in listed(lake, tables) if tag.name == name]
    if not gone:
        names = sorted({tag.name for tag in listed(lake)})
        raise LakehouseError(f"There is no tag {name}. There are: {', '.join(names) or 'none'}.")
    for tag in gone:
        try:
            lake.tables.load(tag.table).manage_snapshots().remove_tag(name).commit()
        except CommitFailedException as problem:
            raise LakehouseError(f"{tag.table} was changed meanwhile; delete the tag again.") from problem
    return gone
