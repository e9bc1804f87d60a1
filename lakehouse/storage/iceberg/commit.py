"""One commit: upload the Parquet files of some partitions and make them, in one snapshot, what those partitions hold.

Other partitions' commits are retried past; another commit to the same partition since the table was loaded is a
CommitConflictError, and whoever computed the files computes them again.
"""

import functools
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import date
from itertools import chain
from typing import Any, Self
from urllib.parse import quote, urlparse

import pyarrow.parquet as pq
from pyiceberg.expressions import AlwaysFalse, BooleanExpression, In, Or
from pyiceberg.expressions.visitors import expression_evaluator, inclusive_projection, manifest_evaluator
from pyiceberg.io.pyarrow import (
    compute_statistics_plan,
    data_file_statistics_from_parquet_metadata,
    parquet_path_to_id_mapping,
)
from pyiceberg.manifest import DataFile, DataFileContent, FileFormat, ManifestContent, ManifestEntry, ManifestFile
from pyiceberg.schema import Schema
from pyiceberg.table import Table, Transaction
from pyiceberg.table.metadata import TableMetadata
from pyiceberg.table.snapshots import Operation
from pyiceberg.table.update import TableUpdate, update_table_metadata
from pyiceberg.table.update.snapshot import _ManifestMergeManager, _OverwriteFiles
from pyiceberg.typedef import Record
from pyiceberg.utils.concurrent import ExecutorFactory

from lakehouse.errors import LakehouseError
from lakehouse.storage.iceberg.commit_outcome import Producer, holds_files, make
from lakehouse.storage.iceberg.data_file import NewFile, Value
from lakehouse.storage.iceberg.snapshots import EPOCH
from lakehouse.storage.objects.connection import Connection
from lakehouse.storage.objects.store import Objects

UPLOADS_AT_ONCE = 8
MANIFEST_BYTES = 128 << 10
"""Manifests are merged up to this size, some five hundred files: who asks for one partition reads all of the manifest that
it is in, and every commit asks for its own. Iceberg's 8 MiB are for tables that are rarely committed to."""

VALUES_PER_PREDICATE = 150
"""Iceberg's evaluators take a set of more than 200 values for "might match anything"."""


@dataclass(frozen=True, slots=True)
class Committed:
    """What a commit did: the snapshot, and the sizes of what it added."""

    snapshot_id: int | None
    sequence: int
    files: int
    bytes: int


class Uploads:
    """Files on their way under the table's location, while others are still being made; use it in a `with` block.

    What has been put is deleted again when the block fails, so commit after it.
    """

    def __init__(self, connection: Connection, table: Table) -> None:
        self._connection, self._table = connection, table
        self._location = urlparse(table.location())
        self._objects = Objects.from_connection(replace(connection, bucket=self._location.netloc))
        self._describe = _describer(table)
        self._pool = ThreadPoolExecutor(UPLOADS_AT_ONCE, thread_name_prefix="upload")
        self._begun: list[Future[DataFile]] = []

    def add(self, files: Iterable[NewFile]) -> None:
        """Begin to put these; each is deleted here once it is put."""
        self._begun += [self._pool.submit(self._put, file) for file in files]

    def result(self) -> list[DataFile]:
        """The files as Iceberg data files in the order in which they were added, once all are put."""
        return [one.result() for one in self._begun]

    def __enter__(self) -> Self:
        """Nothing is begun yet."""
        return self

    def __exit__(self, failed: type[BaseException] | None, *_: object) -> None:
        """Wait for what has begun."""
        self._pool.shutdown(cancel_futures=failed is not None)
        if failed is not None:
            put = [one.result() for one in self._begun if not one.cancelled() and one.exception() is None]
            with suppress(LakehouseError):  # storage that is away keeps them, until orphans are removed
                discard(self._connection, put)

    def _put(self, file: NewFile) -> DataFile:
        folders = [
            f"{field.name}={quote(str(value))}"
            for field, value in zip(self._table.spec().fields, file.partition, strict=True)
        ]
        key = "/".join([self._location.path.strip("/"), "data", *folders, f"{uuid.uuid4().hex}.parquet"])
        data_file = self._describe(file, f"{self._location.scheme}://{self._location.netloc}/{key}")
        self._objects.put_file(key, file.path)
        file.path.unlink()  # beside the others' way there, and not all at the end
        return data_file


def upload(connection: Connection, table: Table, files: Iterable[NewFile]) -> list[DataFile]:
    """Put the files under the table's location, where they are deleted here, and describe them as Iceberg data files."""
    with Uploads(connection, table) as uploads:
        uploads.add(files)
        return uploads.result()


def commit(
    table: Table,
    added: Sequence[DataFile],
    *,
    touched: BooleanExpression,
    removed: Iterable[DataFile] = (),
    properties: Mapping[str, str],
) -> Committed:
    """Add and remove data files in one snapshot of `table`.

    `touched` is the filter of the partitions that this writer has read and decided about, those of all `removed` among
    them: a concurrent commit there raises CommitConflictError. `properties` go into the snapshot's summary. Raises
    StorageUnavailableError, as `make` does.
    """
    transaction = _Transaction(table)
    producer = _OverwriteMerging(
        operation=Operation.OVERWRITE, transaction=transaction, io=table.io, snapshot_properties=dict(properties)
    )
    producer.delete_by_predicate(touched)
    for data_file in removed:
        producer.delete_data_file(data_file)
    for data_file in added:
        producer.append_data_file(data_file)
    make(
        table,
        transaction,
        producer,
        beaten=f"Another writer committed to the same partitions of {'.'.join(table.name())} first; run it again.",
    )
    snapshot = table.metadata.snapshot_by_id(producer.snapshot_id)
    return Committed(
        snapshot_id=producer.snapshot_id,
        sequence=(snapshot.sequence_number or 0) if snapshot else 0,
        files=len(added),
        bytes=sum(f.file_size_in_bytes for f in added),
    )


def files_of(table: Table, where: BooleanExpression) -> list[DataFile]:
    """The data files of the table's partitions that `where`, a filter over the columns it is partitioned by, selects.

    A scan would say the same, but looks at each file's bounds and works out what is left of the filter for its rows: some
    milliseconds a file for the days of a year.
    """
    snapshot = table.current_snapshot()
    if snapshot is None:
        return []
    selects = {number: _Selects(table, number, where) for number in table.specs()}

    def selected(manifest: ManifestFile) -> list[DataFile]:
        data_files = (entry.data_file for entry in manifest.fetch_manifest_entry(table.io))
        return [one for one in data_files if selects[manifest.partition_spec_id].partition(one.partition)]

    manifests = [
        manifest
        for manifest in snapshot.manifests(table.io)
        if manifest.content == ManifestContent.DATA
        and holds_files(manifest)
        and selects[manifest.partition_spec_id].manifest(manifest)
    ]
    return [*chain.from_iterable(ExecutorFactory.get_or_create().map(selected, manifests))]


class _Selects:
    """Whether a filter may select rows of a manifest, and of a partition, under one of the table's partitionings."""

    def __init__(self, table: Table, spec_id: int, where: BooleanExpression) -> None:
        schema, spec = table.schema(), table.specs()[spec_id]
        projected = inclusive_projection(schema, spec)(where)
        self.manifest = manifest_evaluator(spec, schema, projected)
        self.partition = expression_evaluator(
            Schema(*spec.partition_type(schema).fields), projected, case_sensitive=True
        )


def partitions_filter(column: str, values: Iterable[Value]) -> BooleanExpression:
    """The filter of the partitions with these values of `column`."""
    wanted = sorted(set(values))
    if not wanted:
        return AlwaysFalse()
    literals = [value.isoformat() if isinstance(value, date) else value for value in wanted]
    chunks = [literals[i : i + VALUES_PER_PREDICATE] for i in range(0, len(literals), VALUES_PER_PREDICATE)]
    among: Any = In  # pydantic hides its signature from type checkers
    parts: list[BooleanExpression] = [among(column, chunk) for chunk in chunks]
    return functools.reduce(Or, parts) if len(parts) > 1 else parts[0]


class _Transaction(Transaction):
    """A transaction that makes its metadata once for what it is made of; pyiceberg 0.12 makes it and copies it, with every
    snapshot in it, each of the twenty times that a commit looks at it. Nobody changes metadata in place.
    """

    _made: tuple[TableMetadata, tuple[TableUpdate, ...], TableMetadata] | None = None

    @property
    def table_metadata(self) -> TableMetadata:
        """The table's metadata with what is staged."""
        base, updates = self._table.metadata, self._updates
        if not updates:
            return base
        if self._made is None or self._made[0] is not base or self._made[1] is not updates:
            self._made = (base, updates, update_table_metadata(base, updates))
        return self._made[2]


class _OverwriteMerging(Producer):
    """An overwrite that merges small manifests, as appends do; pyiceberg 0.12 leaves them, one a commit, for ever.

    One that removes nothing does not read the manifests of the partitions it adds to.
    """

    def _build_delete_files_partition_predicate(self) -> None:
        # What is removed is of partitions that the commit's own filter selects. pyiceberg would ask each manifest for every
        # one of them, by a filter with as many terms.
        return

    def _existing_manifests(self) -> list[ManifestFile]:
        if self._deleted_data_files:
            return super()._existing_manifests()
        snapshot = self._transaction.table_metadata.snapshot_by_name(name=self._target_branch)
        return [one for one in snapshot.manifests(io=self._io) if holds_files(one)] if snapshot else []

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
    schema, spec = table.schema(), table.spec()
    plan = compute_statistics_plan(schema, table.properties)
    mapping = parquet_path_to_id_mapping(schema)

    def describe(file: NewFile, location: str) -> DataFile:
        statistics = data_file_statistics_from_parquet_metadata(pq.read_metadata(file.path), plan, mapping)
        return DataFile.from_args(
            content=DataFileContent.DATA,
            file_path=location,
            file_format=FileFormat.PARQUET,
            partition=Record(*(_internal(value) for value in file.partition)),
            file_size_in_bytes=file.path.stat().st_size,
            sort_order_id=None,
            spec_id=spec.spec_id,
            equality_ids=None,
            key_metadata=None,
            **statistics.to_serialized_dict(),
        )

    return describe


def _internal(value: Value) -> str | int:
    """A partition value as Iceberg keeps it: a date as days since 1970-01-01."""
    return (value - EPOCH).days if isinstance(value, date) else value


def discard(connection: Connection, uploaded: Iterable[DataFile]) -> None:
    """Delete uploaded files that no snapshot names."""
    by_bucket: dict[str, list[str]] = {}
    for data_file in uploaded:
        url = urlparse(data_file.file_path)
        by_bucket.setdefault(url.netloc, []).append(url.path.lstrip("/"))
    for bucket, keys in by_bucket.items():
        Objects.from_connection(replace(connection, bucket=bucket)).delete(keys)
