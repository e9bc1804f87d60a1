"""Manifests: a table's list of files in few pieces, so that whoever plans a read opens few."""

from dataclasses import dataclass

from lakehouse.errors import CommitConflictError
from lakehouse.pipeline.lake import Lake
from lakehouse.storage.iceberg.replace import MANIFEST_BYTES, merge_manifests

MANY = 8
"""Fewer are not worth a commit; writers merge them from sixteen on."""


@dataclass(frozen=True, slots=True)
class Merged:
    """Manifests of a table before and after."""

    table: str
    before: int = 0
    after: int = 0


def tidy(lake: Lake, name: str, *, dry_run: bool = False) -> Merged:
    """Merge the table's manifests when there are many that fit into few; a writer that is first keeps its turn."""
    table = lake.tables.load(name)
    snapshot = table.current_snapshot()
    manifests = snapshot.manifests(table.io) if snapshot else []
    needed = 1 + sum(one.manifest_length for one in manifests) // MANIFEST_BYTES
    if len(manifests) < max(MANY, 2 * needed):
        return Merged(name, len(manifests), len(manifests))
    if dry_run:
        return Merged(name, len(manifests), needed)
    try:
        merge_manifests(table)
    except CommitConflictError:
        return Merged(name, len(manifests), len(manifests))
    merged = table.current_snapshot()
    return Merged(name, len(manifests), len(merged.manifests(table.io)) if merged else 0)
