"""Making a commit and knowing what became of it, whatever the network does. What it changes is its caller's affair."""

from pyiceberg.exceptions import CommitFailedException, ValidationException
from pyiceberg.manifest import ManifestFile
from pyiceberg.table import Table, Transaction
from pyiceberg.table.update.snapshot import _OverwriteFiles

from lakehouse.errors import CommitConflictError, StorageUnavailableError
from lakehouse.storage.iceberg.errors import UNANSWERED, said


class Producer(_OverwriteFiles):
    """Writes the manifests of one snapshot, and deletes them again only when it is sure that nobody names them.

    pyiceberg deletes them when a commit is refused for the last time. It may be refused because it is there already: the
    answer was lost, and it was sent again.
    """

    def _clean_all_uncommitted(self) -> None:
        return

    def _existing_manifests(self) -> list[ManifestFile]:
        """Those that hold files. pyiceberg keeps what only lists files removed by earlier commits, and reads it each time;
        it is of use in the snapshot alone that removed them.
        """
        return [one for one in super()._existing_manifests() if holds_files(one)]

    def discard(self) -> None:
        """Delete the manifests of a commit that was not made."""
        super()._clean_all_uncommitted()


def holds_files(manifest: ManifestFile) -> bool:
    """Whether a manifest says of any file that it is there."""
    return manifest.has_added_files() or manifest.has_existing_files()


def make(table: Table, transaction: Transaction, producer: Producer, *, beaten: str) -> None:
    """Commit what the producer was told. When this returns the commit is in the table, once, and the table is up to date.

    Raises CommitConflictError with the words of `beaten` when other writers were first, and nothing was committed; and
    StorageUnavailableError when storage failed. Then it may be committed still, unless that says otherwise.
    """
    name = ".".join(table.name())
    try:
        producer.commit()  # writes manifests, and asks the catalog for nothing
    except (ValidationException, CommitFailedException) as problem:
        producer.discard()
        raise CommitConflictError(beaten) from problem
    except UNANSWERED as problem:
        raise StorageUnavailableError(
            f"Storage failed while a commit to {name} was prepared, and nothing was committed; run it again ({said(problem)})."
        ) from problem
    try:
        transaction.commit_transaction()
    except (ValidationException, CommitFailedException) as problem:
        if not _has_landed(table, producer.snapshot_id, problem):
            producer.discard()
            raise CommitConflictError(beaten) from problem
    except UNANSWERED as problem:
        # What was uploaded stays: the commit may still arrive. What never does is an orphan, and goes with the others.
        if not _has_landed(table, producer.snapshot_id, problem):
            raise _unknown(name, problem) from problem


def _has_landed(table: Table, snapshot_id: int, problem: Exception) -> bool:
    """Whether a commit whose answer was lost is in the table. Raises StorageUnavailableError when that can't be seen."""
    try:
        table.refresh()
    except UNANSWERED:
        raise _unknown(".".join(table.name()), problem) from problem
    return table.metadata.snapshot_by_id(snapshot_id) is not None


def _unknown(name: str, problem: Exception) -> StorageUnavailableError:
    return StorageUnavailableError(
        f"Storage did not say whether the commit to {name} succeeded; run it again ({said(problem)})."
    )
