"""Commits that store the same rows in fewer files or fewer manifests. See `maintenance` for what is worth rewriting.

These are Iceberg's REPLACE operations. The new files keep the sequence number of their rows, so no reader takes them for
a change, and they do not conflict with concurrent appends to the same partitions.
"""

from collections.abc import Iterable, Mapping

from pyiceberg.manifest import DataFile, ManifestContent, ManifestEntry, ManifestEntryStatus, ManifestFile
from pyiceberg.table import Table
from pyiceberg.table.snapshots import Operation, Summary
from pyiceberg.table.update.snapshot import _ManifestMergeManager, _OverwriteFiles
from pyiceberg.typedef import EMPTY_DICT

from lakehouse.storage.iceberg.catalog import qualified_name
from lakehouse.storage.iceberg.commit_outcome import SnapshotProducer, commit_snapshot
from lakehouse.storage.iceberg.manifests import has_live_files

MANIFEST_BYTES = 8 << 20


def replace_files(table: Table, added: Mapping[DataFile, int], removed: Iterable[DataFile]) -> None:
    """Replace files by others that hold the same rows; `added` maps each new file to the sequence number of its rows.

    Raises CommitConflictError, with nothing changed, if another writer removed one of the files first.
    """
    producer = _Rewrite(operation=Operation.OVERWRITE, transaction=table.transaction(), io=table.io)
    producer.sequences = {data_file.file_path: sequence for data_file, sequence in added.items()}
    for data_file in removed:
        producer.delete_data_file(data_file)
    for data_file in added:
        producer.append_data_file(data_file)
    _commit(table, producer)


def merge_manifests(table: Table) -> None:
    """Merge the table's manifests into as few as possible. Raises CommitConflictError."""
    producer = _Rewrite(operation=Operation.OVERWRITE, transaction=table.transaction(), io=table.io)
    producer.min_count_to_merge = 2
    _commit(table, producer)


def _commit(table: Table, producer: "_Rewrite") -> None:
    conflict = f"Another writer changed the rewritten files of {qualified_name(table)} first; nothing was changed."
    commit_snapshot(table, producer._transaction, producer, conflict=conflict)


class _Rewrite(SnapshotProducer):
    """A REPLACE operation. Goes when pyiceberg has one; 0.12 does not."""

    sequences: Mapping[str, int] = {}
    min_count_to_merge: int | None = None

    def _manifests(self) -> list[ManifestFile]:
        self._build_delete_files_partition_predicate()
        deleted = self._deleted_entries()
        manifests = [*self._added_manifest(), *self._deleted_manifests(deleted), *self._existing_manifests()]
        return self._process_manifests(manifests)

    def _added_manifest(self) -> list[ManifestFile]:
        if not self._added_data_files:
            return []
        with self.new_manifest_writer(self._transaction.table_metadata.spec()) as writer:
            for data_file in self._added_data_files:
                writer.add_entry(
                    ManifestEntry.from_args(
                        status=ManifestEntryStatus.ADDED,
                        snapshot_id=self._snapshot_id,
                        sequence_number=self.sequences[data_file.file_path],
                        file_sequence_number=None,
                        data_file=data_file,
                    )
                )
        return [writer.to_manifest_file()]

    def _deleted_manifests(self, entries: Iterable[ManifestEntry]) -> list[ManifestFile]:
        by_spec: dict[int, list[ManifestEntry]] = {}
        for entry in entries:
            by_spec.setdefault(entry.data_file.spec_id, []).append(entry)
        manifests = []
        for spec_id, group in by_spec.items():
            with self.new_manifest_writer(self.spec(spec_id)) as writer:
                for entry in group:
                    writer.add_entry(entry)
            manifests.append(writer.to_manifest_file())
        return manifests

    def _process_manifests(self, manifests: list[ManifestFile]) -> list[ManifestFile]:
        if self.min_count_to_merge is None:
            return manifests
        data = [
            manifest for manifest in manifests if manifest.content == ManifestContent.DATA and has_live_files(manifest)
        ]
        merging: _ManifestMergeManager[_OverwriteFiles] = _ManifestMergeManager(
            target_size_bytes=MANIFEST_BYTES,
            min_count_to_merge=self.min_count_to_merge,
            merge_enabled=True,
            snapshot_producer=self,
        )
        deletes = [manifest for manifest in manifests if manifest.content != ManifestContent.DATA]
        return merging.merge_manifests(data) + deletes

    def _summary(self, snapshot_properties: dict[str, str] = EMPTY_DICT) -> Summary:
        summary = super()._summary(snapshot_properties)
        return Summary(operation=Operation.REPLACE, **summary.additional_properties)

    def _validate_concurrency(self) -> None:
        # Not needed: writing the deleted entries fails if a removed file is gone, and rows that others add to the same
        # partitions are no conflict.
        return
