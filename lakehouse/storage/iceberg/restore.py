"""Commit a snapshot of what can still be read of a table that has lost manifests. See `readable` for finding that out."""

from dataclasses import dataclass

from pyiceberg.manifest import ManifestFile
from pyiceberg.table import Table
from pyiceberg.table.snapshots import Operation, Snapshot

from lakehouse.storage.iceberg.avro import read_manifest_list
from lakehouse.storage.iceberg.catalog import qualified_name
from lakehouse.storage.iceberg.commit_outcome import SnapshotProducer, commit_snapshot
from lakehouse.storage.iceberg.readable import UnreadableFile, forget_readable, unreadable_files


@dataclass(frozen=True, slots=True)
class Survivors:
    """The readable manifests of a table, and those that were lost."""

    manifests: list[ManifestFile]
    base: Snapshot | None
    """The newest snapshot whose manifest list can be read; None if there is none."""
    lost: list[UnreadableFile]
    """Manifests of the base that can't be read."""


def find_survivors(table: Table) -> Survivors:
    """Find the newest snapshot whose manifest list can be read, and those of its manifests that can."""
    for snapshot in sorted(table.metadata.snapshots, key=lambda one: one.sequence_number or 0, reverse=True):
        lost = [*unreadable_files(table, snapshot)]
        if all(file.manifest is not None for file in lost):
            gone = {file.url for file in lost}
            manifests = [one for one in read_manifest_list(table.io, snapshot) if one.manifest_path not in gone]
            return Survivors(manifests, snapshot, lost)
    return Survivors([], None, [])


def restore(table: Table, survivors: Survivors) -> None:
    """Commit a snapshot that lists the surviving manifests alone. Raises CommitConflictError if another commit was first."""
    producer = _Restored(operation=Operation.OVERWRITE, transaction=table.transaction(), io=table.io)
    producer.survivors = survivors.manifests
    conflict = f"Another writer committed to {qualified_name(table)} first; nothing was restored. Run it again."
    commit_snapshot(table, producer._transaction, producer, conflict=conflict)
    forget_readable()


class _Restored(SnapshotProducer):
    survivors: list[ManifestFile]

    def _manifests(self) -> list[ManifestFile]:
        return self.survivors

    def _validate_concurrency(self) -> None:
        # Not needed: the commit requires that the table's current snapshot is still the damaged one.
        return
