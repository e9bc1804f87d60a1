"""Read the state of one table from its metadata: snapshots, the days that it has, and those that are stale."""

from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime

import msgspec
from pyiceberg.table import Table
from pyiceberg.table.snapshots import Snapshot

from lakehouse.errors import LakehouseError
from lakehouse.pipeline.lake import Lake
from lakehouse.pipeline.lineage.staleness import last_changes, stale_days
from lakehouse.pipeline.model_inputs import Source
from lakehouse.pipeline.model_specs import day_column
from lakehouse.pipeline.model_staleness import LoadedModel
from lakehouse.serving.catalog.definitions import Definitions
from lakehouse.serving.monitoring.partition_state import layers_of
from lakehouse.serving.query.lake_snapshot import LakeSnapshot

MAX_SNAPSHOTS = 100
MAX_STALE_DAYS = 10

Load = Callable[[str], Table]


class SnapshotInfo(msgspec.Struct, frozen=True):
    """A version of a table. Query it with `at (version => …)`."""

    id: str
    at: datetime
    operation: str
    added: int
    """Rows that were added."""
    removed: int
    """Rows that were removed."""
    rows: int | None
    """Rows of the table since then."""
    columns_changed: list[str]
    """Columns that the table gained or lost since the snapshot before."""


class TableState(msgspec.Struct, frozen=True):
    """The state of a table."""

    snapshots: list[SnapshotInfo]
    """The newest hundred, newest first."""
    first_day: date | None
    last_day: date | None
    """The days that it has rows of; null for a table without days."""
    stale: int | None
    """Days that are to be computed; for a table without days, 1 if it is. Null where it is not known."""
    stale_days: list[date]
    """The newest ten of them."""


def table_state(lake: Lake, snapshot: LakeSnapshot, definitions: Definitions, name: str) -> TableState:
    """Read the state of a table. Raises LakehouseError if its metadata can't be read."""
    table = snapshot.tables.load(name)
    column = day_column(field.name for field in table.spec().fields)
    days = sorted(last_changes(table, column)) if column else []
    stale = _stale(lake, snapshot, definitions, name)
    return TableState(
        snapshots=_snapshots(table),
        first_day=days[0] if days else None,
        last_day=days[-1] if days else None,
        stale=None if stale is None else stale if isinstance(stale, int) else len(stale),
        stale_days=[] if stale is None or isinstance(stale, int) else [*stale[-MAX_STALE_DAYS:]][::-1],
    )


def _stale(lake: Lake, snapshot: LakeSnapshot, definitions: Definitions, name: str) -> Sequence[date] | int | None:
    """Find the stale days of a table; a number for one without days, and None for one that is not computed."""
    model, load = definitions.models.get(name), snapshot.tables.load
    if model is not None:
        if not all(map(snapshot.tables.exists, model.reads)):
            return None
        loaded = LoadedModel(lake, model, load(name), [Source(read, load(read)) for read in model.reads])
        return loaded.stale_days() if model.is_partitioned else int(loaded.is_stale())
    for stream in snapshot.streams.values():
        for layer in layers_of(stream):
            if layer.table == name and layer.name != "metrics":
                return stale_days(load(layer.source), load(name))
    return None


def _snapshots(table: Table) -> list[SnapshotInfo]:
    newest = sorted(table.metadata.snapshots, key=lambda snapshot: snapshot.sequence_number or 0)
    columns = {schema.schema_id: {field.name for field in schema.fields} for schema in table.metadata.schemas}
    infos, before = list[SnapshotInfo](), None
    for snapshot in newest:
        after = columns.get(snapshot.schema_id) if snapshot.schema_id is not None else None
        infos.append(_snapshot_info(snapshot, _changed(before, after)))
        before = before if after is None else after
    return infos[-MAX_SNAPSHOTS:][::-1]


def _changed(before: set[str] | None, after: set[str] | None) -> list[str]:
    if before is None or after is None:
        return []
    return [*(f"+ {name}" for name in sorted(after - before)), *(f"- {name}" for name in sorted(before - after))]


def _snapshot_info(snapshot: Snapshot, changed: list[str]) -> SnapshotInfo:
    counts = snapshot.summary.additional_properties if snapshot.summary else {}
    total = counts.get("total-records")
    return SnapshotInfo(
        id=str(snapshot.snapshot_id),
        at=datetime.fromtimestamp(snapshot.timestamp_ms / 1000, UTC),
        operation=snapshot.summary.operation.value if snapshot.summary else "unknown",
        added=int(counts.get("added-records", 0)),
        removed=int(counts.get("deleted-records", 0)),
        rows=None if total is None else int(total),
        columns_changed=changed,
    )


EMPTY = TableState([], None, None, None, [])
"""The state of what is no table."""

UNREADABLE = (LakehouseError, OSError)
"""Raised where metadata of a table can't be read."""
