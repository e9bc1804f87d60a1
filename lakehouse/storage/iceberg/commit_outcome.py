"""Committing a snapshot and finding out whether it succeeded, whatever the network does. See `commit` and `replace` for
what goes into it.
"""

from pyiceberg.exceptions import CommitFailedException, ValidationException
from pyiceberg.manifest import ManifestFile
from pyiceberg.table import Table, Transaction
from pyiceberg.table.update import AddSnapshotUpdate, TableUpdate, UpdatesAndRequirements
from pyiceberg.table.update.snapshot import _OverwriteFiles

from lakehouse.errors import CommitConflictError, StorageUnavailableError
from lakehouse.storage.iceberg.catalog import qualified_name
from lakehouse.storage.iceberg.errors import UNAVAILABLE_ERRORS
from lakehouse.storage.iceberg.manifests import has_live_files
from lakehouse.storage.objects.errors import first_line


class SnapshotProducer(_OverwriteFiles):
    """Writes the manifests of one snapshot, and deletes them only when it is certain that no snapshot refers to them.

    pyiceberg deletes them when the last attempt to commit is refused. But the reason may be that an earlier attempt
    succeeded and its answer was lost.
    """

    def _clean_all_uncommitted(self) -> None:
        return

    def _existing_manifests(self) -> list[ManifestFile]:
        """Return the manifests that list live files.

        pyiceberg also keeps those of deleted files alone, which only the snapshot that deleted them needs, and reads them
        in every later commit.
        """
        return [manifest for manifest in super()._existing_manifests() if has_live_files(manifest)]

    def _commit(self) -> UpdatesAndRequirements:
        """Return the snapshot with a time after the table's last update, because catalogs refuse one that is earlier.

        So a clock that was set back stalls no commit. The Java implementation does the same.
        """
        updates, requirements = super()._commit()
        earliest_ms = self._transaction.table_metadata.last_updated_ms + 1
        return tuple(_not_before(earliest_ms, update) for update in updates), requirements

    def discard(self) -> None:
        """Delete the manifests of a commit that was refused."""
        super()._clean_all_uncommitted()


def commit_snapshot(table: Table, transaction: Transaction, producer: SnapshotProducer, *, conflict: str) -> None:
    """Commit a snapshot. On return it is in the table exactly once, and `table` is up to date.

    Raises CommitConflictError with the message `conflict` if other writers were first and nothing was committed, and
    StorageUnavailableError if storage failed; then the commit may have succeeded, unless the message says otherwise.
    """
    name = qualified_name(table)
    try:
        producer.commit()  # writes manifests and stages the snapshot; makes no catalog request
    except (ValidationException, CommitFailedException) as error:
        producer.discard()
        raise CommitConflictError(conflict) from error
    except UNAVAILABLE_ERRORS as error:
        raise StorageUnavailableError(
            f"Storage failed while a commit to {name} was prepared, and nothing was committed; run it again "
            f"({first_line(error)})."
        ) from error
    try:
        transaction.commit_transaction()
    except (ValidationException, CommitFailedException) as error:
        if not _has_succeeded(table, producer.snapshot_id, error):
            producer.discard()
            raise CommitConflictError(conflict) from error
    except UNAVAILABLE_ERRORS as error:
        # Uploaded files stay because the request may still arrive. If it never does, they are removed as orphans.
        if not _has_succeeded(table, producer.snapshot_id, error):
            raise _unknown(name, error) from error


def _not_before(earliest_ms: int, update: TableUpdate) -> TableUpdate:
    if not isinstance(update, AddSnapshotUpdate) or update.snapshot.timestamp_ms >= earliest_ms:
        return update
    return AddSnapshotUpdate(snapshot=update.snapshot.model_copy(update={"timestamp_ms": earliest_ms}))


def _has_succeeded(table: Table, snapshot_id: int, error: Exception) -> bool:
    """Look for the snapshot in the table after `error`. Raises StorageUnavailableError if the table can't be loaded."""
    try:
        table.refresh()
    except UNAVAILABLE_ERRORS:
        raise _unknown(qualified_name(table), error) from error
    return table.metadata.snapshot_by_id(snapshot_id) is not None


def _unknown(name: str, error: Exception) -> StorageUnavailableError:
    return StorageUnavailableError(
        f"Storage did not say whether the commit to {name} succeeded; run it again ({first_line(error)})."
    )
