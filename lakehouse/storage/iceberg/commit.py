"""Committing data files: upload the Parquet files of some partitions and replace those partitions in one snapshot.

Commits to other partitions are retried past. A commit to the same partition since the table was loaded raises
CommitConflictError; the caller then computes the files again. See `replace` for commits that change no rows.
"""

import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Self
from urllib.parse import quote

import pyarrow.parquet as pq
from pyiceberg.expressions import BooleanExpression
from pyiceberg.io.pyarrow import (
    compute_statistics_plan,
    data_file_statistics_from_parquet_metadata,
    parquet_path_to_id_mapping,
)
from pyiceberg.manifest import DataFile, DataFileContent, FileFormat, ManifestEntry, ManifestFile
from pyiceberg.table import Table, Transaction
from pyiceberg.table.metadata import TableMetadata
from pyiceberg.table.snapshots import Operation
from pyiceberg.table.update import TableUpdate, update_table_metadata
from pyiceberg.table.update.snapshot import _ManifestMergeManager, _OverwriteFiles
from pyiceberg.typedef import Record

from lakehouse.errors import LakehouseError
from lakehouse.storage.iceberg.avro import read_manifest_list
from lakehouse.storage.iceberg.catalog import qualified_name
from lakehouse.storage.iceberg.commit_outcome import SnapshotProducer, commit_snapshot
from lakehouse.storage.iceberg.manifests import has_live_files
from lakehouse.storage.iceberg.partitions import NewFile, stored_value
from lakehouse.storage.objects.connection import Connection
from lakehouse.storage.objects.store import Objects, object_key

MAX_CONCURRENT_UPLOADS = 8
MANIFEST_BYTES = 128 << 10
"""Size up to which commits merge manifests, some five hundred files. A reader of one partition reads all of its manifest,
and every commit reads that of its own partitions. Iceberg's default of 8 MiB suits tables with few commits."""


@dataclass(frozen=True, slots=True)
class CommitResult:
    """The snapshot that a commit made, and the size of what it added."""

    snapshot_id: int | None
    sequence: int
    files: int
    bytes: int


class Uploads:
    """Uploads files below the table's location while others are still being written. Use it in a `with` block.

    If the block fails, the uploaded files are deleted again. So commit after the block.
    """

    def __init__(self, connection: Connection, table: Table) -> None:
        self._connection, self._table = connection, table
        self._objects = Objects.from_url(connection, table.location())
        self._describe = _describer(table)
        self._pool = ThreadPoolExecutor(MAX_CONCURRENT_UPLOADS, thread_name_prefix="upload")
        self._futures: list[Future[DataFile]] = []

    def add(self, files: Iterable[NewFile]) -> None:
        """Start uploading files; each local file is deleted once it is uploaded."""
        self._futures += [self._pool.submit(self._upload, file) for file in files]

    def result(self) -> list[DataFile]:
        """Wait for all uploads and return the files as Iceberg data files, in the order in which they were added."""
        return [future.result() for future in self._futures]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, failure: type[BaseException] | None, *_: object) -> None:
        self._pool.shutdown(cancel_futures=failure is not None)
        if failure is not None:
            succeeded = (future for future in self._futures if not future.cancelled() and future.exception() is None)
            # If storage is down, the files stay until orphans are removed.
            with suppress(LakehouseError):
                discard(self._connection, [future.result() for future in succeeded])

    def _upload(self, file: NewFile) -> DataFile:
        folders = [
            f"{field.name}={quote(str(value))}"
            for field, value in zip(self._table.spec().fields, file.partition, strict=True)
        ]
        url = "/".join([self._table.location().rstrip("/"), "data", *folders, f"{uuid.uuid4().hex}.parquet"])
        data_file = self._describe(file, url)
        self._objects.put_file(object_key(url), file.path)
        file.path.unlink()  # now, in parallel with other uploads, because deleting all at the end takes longer
        return data_file


def upload(connection: Connection, table: Table, files: Iterable[NewFile]) -> list[DataFile]:
    """Upload files below the table's location, delete them locally, and return them as Iceberg data files."""
    with Uploads(connection, table) as uploads:
        uploads.add(files)
        return uploads.result()


def discard(connection: Connection, uploaded: Iterable[DataFile]) -> None:
    """Delete uploaded files that no snapshot refers to. All are in one bucket."""
    urls = [data_file.file_path for data_file in uploaded]
    if urls:
        Objects.from_url(connection, urls[0]).delete(map(object_key, urls))


@contextmanager
def discarded_on_failure(connection: Connection) -> Iterator[list[DataFile]]:
    """Give a list for uploaded files, which are deleted again if the block fails."""
    uploaded: list[DataFile] = []
    try:
        yield uploaded
    except BaseException:
        with suppress(LakehouseError):  # if storage is down, they stay until orphans are removed
            discard(connection, uploaded)
        raise


def commit(
    table: Table,
    added: Sequence[DataFile],
    *,
    touched: BooleanExpression,
    removed: Iterable[DataFile] = (),
    properties: Mapping[str, str],
) -> CommitResult:
    """Add and remove data files in one snapshot of `table`.

    `touched` is the filter of all partitions that the caller has read and decided about, those of `removed` among them.
    `properties` go into the snapshot's summary.

    Raises CommitConflictError if another writer committed to one of these partitions since the table was loaded, and
    StorageUnavailableError as `commit_snapshot` does.
    """
    transaction = _CachingTransaction(table)
    producer = _MergingOverwrite(
        operation=Operation.OVERWRITE, transaction=transaction, io=table.io, snapshot_properties=dict(properties)
    )
    producer.delete_by_predicate(touched)
    for data_file in removed:
        producer.delete_data_file(data_file)
    for data_file in added:
        producer.append_data_file(data_file)
    commit_snapshot(
        table,
        transaction,
        producer,
        conflict=f"Another writer committed to the same partitions of {qualified_name(table)} first; run it again.",
    )
    snapshot = table.metadata.snapshot_by_id(producer.snapshot_id)
    return CommitResult(
        snapshot_id=producer.snapshot_id,
        sequence=(snapshot.sequence_number or 0) if snapshot else 0,
        files=len(added),
        bytes=sum(data_file.file_size_in_bytes for data_file in added),
    )


class _CachingTransaction(Transaction):
    """A transaction that computes its metadata once for each set of updates.

    pyiceberg 0.12 computes and copies it, with every snapshot in it, each of the twenty times that a commit reads it.
    Caching is safe because metadata is never changed in place.
    """

    _cache: tuple[TableMetadata, tuple[TableUpdate, ...], TableMetadata] | None = None

    @property
    def table_metadata(self) -> TableMetadata:
        """The table's metadata with the staged updates."""
        base, updates = self._table.metadata, self._updates
        if not updates:
            return base
        if self._cache is None or self._cache[0] is not base or self._cache[1] is not updates:
            self._cache = (base, updates, update_table_metadata(base, updates))
        return self._cache[2]


class _MergingOverwrite(SnapshotProducer):
    """An overwrite that merges small manifests, as pyiceberg's appends do.

    pyiceberg 0.12 adds a manifest for each overwrite and never merges them. An overwrite that removes no file does not
    read the manifests of its partitions.
    """

    def _build_delete_files_partition_predicate(self) -> None:
        # The commit's own filter already covers the removed files. pyiceberg would evaluate another with a term for each
        # of them against every manifest.
        return

    def _existing_manifests(self) -> list[ManifestFile]:
        if self._deleted_data_files:
            return super()._existing_manifests()
        snapshot = self._transaction.table_metadata.snapshot_by_name(name=self._target_branch)
        return (
            [manifest for manifest in read_manifest_list(self._io, snapshot) if has_live_files(manifest)]
            if snapshot
            else []
        )

    def _deleted_entries(self) -> list[ManifestEntry]:
        return super()._deleted_entries() if self._deleted_data_files else []

    def _process_manifests(self, manifests: list[ManifestFile]) -> list[ManifestFile]:
        properties = self._transaction.table_metadata.properties
        merging: _ManifestMergeManager[_OverwriteFiles] = _ManifestMergeManager(
            target_size_bytes=MANIFEST_BYTES,
            min_count_to_merge=int(properties.get("commit.manifest.min-count-to-merge", 100)),
            merge_enabled=properties.get("commit.manifest-merge.enabled") == "true",
            snapshot_producer=self,
        )
        return merging.merge_manifests(manifests)


def _describer(table: Table) -> Callable[[NewFile, str], DataFile]:
    """Return a function that describes a local file, to be stored at a URL, as an Iceberg data file."""
    schema, spec = table.schema(), table.spec()
    plan = compute_statistics_plan(schema, table.properties)
    mapping = parquet_path_to_id_mapping(schema)

    def describe(file: NewFile, url: str) -> DataFile:
        statistics = data_file_statistics_from_parquet_metadata(pq.read_metadata(file.path), plan, mapping)
        return DataFile.from_args(
            content=DataFileContent.DATA,
            file_path=url,
            file_format=FileFormat.PARQUET,
            partition=Record(*map(stored_value, file.partition)),
            file_size_in_bytes=file.path.stat().st_size,
            sort_order_id=None,
            spec_id=spec.spec_id,
            equality_ids=None,
            key_metadata=None,
            **statistics.to_serialized_dict(),
        )

    return describe
