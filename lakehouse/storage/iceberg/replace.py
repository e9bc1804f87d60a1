"""One commit that stores the same rows otherwise: fewer files, or fewer manifests. What is worth rewriting is not known here.

It is Iceberg's REPLACE: the new files keep the sequence number of the rows in them, so that nobody takes them for a
change, and writers who append to the same partitions meanwhile are not in its way.
"""

from collections.abc import Iterable, Iterator, Mapping

from pyiceberg.manifest import DataFile, ManifestContent, ManifestEntry, ManifestEntryStatus, ManifestFile
from pyiceberg.table import Table
from pyiceberg.table.snapshots import Operation, Summary
from pyiceberg.table.update.snapshot import _ManifestMergeManager, _OverwriteFiles
from pyiceberg.typedef import EMPTY_DICT

from lakehouse.storage.iceberg.commit_outcome import Producer, holds_files, make

MANIFEST_BYTES = 8 << 20


def replace_files(table: Table, added: Mapping[DataFile, int], removed: Iterable[DataFile]) -> None:
    """Put files in place of others that hold the same rows; each new one is given with the sequence number of its rows.

    Raises CommitConflictError, with nothing changed, when another writer removed one of the files first.
    """
    transaction = table.transaction()
    producer = _Rewriting(operation=Operation.OVERWRITE, transaction=transaction, io=table.io)
    producer.sequences = {data_file.file_path: sequence for data_file, sequence in added.items()}
    for data_file in removed:
        producer.delete_data_file(data_file)
    for data_file in added:
        producer.append_data_file(data_file)
    _commit(table, producer)


def live_entries(table: Table) -> Iterator[ManifestEntry]:
    """Every data file of the table's current snapshot, with its sequence number and the snapshot that added it."""
    snapshot = table.current_snapshot()
    for manifest in snapshot.manifests(table.io) if snapshot else []:
        if manifest.content == ManifestContent.DATA:
            yield from manifest.fetch_manifest_entry(table.io, discard_deleted=True)


def merge_manifests(table: Table) -> None:
    """Bring the entries of all manifests together in as few as hold them. Raises CommitConflictError."""
    producer = _Rewriting(operation=Operation.OVERWRITE, transaction=table.transaction(), io=table.io)
    producer.merge_from = 2
    _commit(table, producer)


def _commit(table: Table, producer: "_Rewriting") -> None:
    beaten = f"Another writer changed what was rewritten of {'.'.join(table.name())}; it gets its turn."
    make(table, producer._transaction, producer, beaten=beaten)


class _Rewriting(Producer):
    """pyiceberg 0.12 has no REPLACE; this goes when it has."""

    sequences: Mapping[str, int] = {}
    merge_from: int | None = None

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
        found = []
        for spec_id, group in by_spec.items():
            with self.new_manifest_writer(self.spec(spec_id)) as writer:
                for entry in group:
                    writer.add_entry(entry)
            found.append(writer.to_manifest_file())
        return found

    def _process_manifests(self, manifests: list[ManifestFile]) -> list[ManifestFile]:
        if self.merge_from is None:
            return manifests
        data = [one for one in manifests if one.content == ManifestContent.DATA and holds_files(one)]
        merging: _ManifestMergeManager[_OverwriteFiles] = _ManifestMergeManager(
            target_size_bytes=MANIFEST_BYTES,
            min_count_to_merge=self.merge_from,
            merge_enabled=True,
            snapshot_producer=self,
        )
        return merging.merge_manifests(data) + [one for one in manifests if one.content != ManifestContent.DATA]

    def _summary(self, snapshot_properties: dict[str, str] = EMPTY_DICT) -> Summary:
        counted = super()._summary(snapshot_properties)
        return Summary(operation=Operation.REPLACE, **counted.additional_properties)

    def _validate_concurrency(self) -> None:
        # That the files removed are still there is seen when their entries are looked for; rows added beside them by
        # others meanwhile are no conflict.
        return
