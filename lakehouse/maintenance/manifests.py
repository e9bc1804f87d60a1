"""Merge a table's manifests, so that planning a read opens few of them."""

from lakehouse.errors import CommitConflictError
from lakehouse.maintenance.file_changes import FileChanges
from lakehouse.pipeline.lake import Lake
from lakehouse.storage.iceberg.manifests import current_manifests
from lakehouse.storage.iceberg.replace import MANIFEST_BYTES, merge_manifests

MIN_MANIFESTS = 8
"""Fewer are not worth a commit: writers merge them from sixteen on."""


def merge_small_manifests(lake: Lake, name: str, *, dry_run: bool = False) -> FileChanges:
    """Merge the table's manifests if they are many and fit into few. Yields to a concurrent commit."""
    unchanged = FileChanges(name)
    table = lake.tables.load(name)
    manifests = current_manifests(table)
    needed = 1 + sum(manifest.manifest_length for manifest in manifests) // MANIFEST_BYTES
    if len(manifests) < max(MIN_MANIFESTS, 2 * needed):
        return unchanged
    if not dry_run:
        try:
            merge_manifests(table)
        except CommitConflictError:
            return unchanged
        needed = len(current_manifests(table))
    return FileChanges(name, removed=len(manifests), added=needed)
