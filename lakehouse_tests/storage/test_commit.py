"""Commits: one snapshot replaces whole partitions, and conflicts only with commits to the same partitions."""

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import date, timedelta
from itertools import count
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyiceberg.expressions import AlwaysFalse, AlwaysTrue
from pyiceberg.expressions.parser import parse
from pyiceberg.manifest import ManifestEntry, ManifestFile
from pyiceberg.table import Table
from pyiceberg.table.metadata import TableMetadata
from pyiceberg.table.update import update_table_metadata

from lakehouse.errors import CommitConflictError, StorageUnavailableError
from lakehouse.storage.iceberg import commit as committing
from lakehouse.storage.iceberg import snapshots
from lakehouse.storage.iceberg.commit import Uploads, commit, discard, upload
from lakehouse.storage.iceberg.manifests import select_files
from lakehouse.storage.iceberg.partitions import NewFile, partitions_filter
from lakehouse.storage.iceberg.schema import TableSpec, field_ids
from lakehouse.storage.iceberg.snapshots import expirable, expire, ledger
from lakehouse.storage.iceberg.tables import Tables
from lakehouse.storage.objects.connection import Connection
from lakehouse.storage.objects.store import Objects, object_key

DAY = date(2022, 1, 1)
_numbers = count()

Replace = Callable[..., int | None]


@pytest.fixture
def name(connection: Connection) -> str:
    name = f"gold.commit_{next(_numbers)}"
    Tables(connection).ensure([TableSpec(name, (("dt", "DATE"), ("n", "BIGINT")), ("dt",))])
    return name


def _file(table: Table, folder: Path, day: date, numbers: Sequence[int]) -> NewFile:
    ids = field_ids(table.schema())
    fields: list[pa.Field[Any]] = [
        pa.field(column, kind, metadata={"PARQUET:field_id": str(ids[column])})
        for column, kind in (("dt", pa.date32()), ("n", pa.int64()))
    ]
    rows = [{"dt": day, "n": number} for number in numbers]
    path = folder / f"{next(_numbers)}.parquet"
    pq.write_table(pa.Table.from_pylist(rows, pa.schema(fields)), path)
    return NewFile(path, (day,))


@pytest.fixture
def write(connection: Connection, name: str, tmp_path: Path) -> Replace:
    """Replace the rows of some days, starting from `table` or from its current version."""

    def replace_days(
        days: Mapping[date, Sequence[int]], table: Table | None = None, properties: Mapping[str, str] | None = None
    ) -> int | None:
        table = table or Tables(connection).load(name)
        files = [_file(table, tmp_path, day, numbers) for day, numbers in days.items() if numbers]
        touched = partitions_filter("dt", days)
        added = upload(connection, table, files)
        removed = select_files(table, touched)
        return commit(table, added, touched=touched, removed=removed, properties=properties or {}).snapshot_id

    return replace_days


def _rows(connection: Connection, name: str) -> dict[date, list[int]]:
    rows: dict[date, list[int]] = {}
    for row in Tables(connection).load(name).scan().to_arrow().to_pylist():
        rows.setdefault(row["dt"], []).append(row["n"])
    return {day: sorted(numbers) for day, numbers in sorted(rows.items())}


def test_partitions_are_replaced_in_one_snapshot(connection: Connection, name: str, write: Replace) -> None:
    second = DAY + timedelta(days=1)
    write({DAY: [1, 2], second: [3]})
    snapshot_id = write({DAY: [4]}, properties={"lakehouse.ledger": '{"2022-01-01": {"rows": 1}}'})
    assert _rows(connection, name) == {DAY: [4], second: [3]}
    table = Tables(connection).load(name)
    assert len(table.metadata.snapshots) == 2
    newest = table.current_snapshot()
    assert newest is not None
    assert (newest.snapshot_id, ledger(newest)) == (snapshot_id, {"2022-01-01": {"rows": 1}})
    write({DAY: []})
    assert _rows(connection, name) == {second: [3]}


def test_statistics_let_readers_skip_files(connection: Connection, name: str, write: Replace) -> None:
    write({DAY: [1, 7], DAY + timedelta(days=1): [100]})
    table = Tables(connection).load(name)
    assert [task.file.record_count for task in table.scan(row_filter="n > 50").plan_files()] == [1]
    assert Counter(file.record_count for file in select_files(table, partitions_filter("dt", [DAY]))) == {2: 1}


def test_commit_to_another_partition_does_not_conflict(connection: Connection, name: str, write: Replace) -> None:
    before = Tables(connection).load(name)
    write({DAY: [1]})
    write({DAY + timedelta(days=1): [2]}, table=before)
    assert _rows(connection, name) == {DAY: [1], DAY + timedelta(days=1): [2]}


def test_commit_to_the_same_partition_conflicts(connection: Connection, name: str, write: Replace) -> None:
    write({DAY: [0]})
    before = Tables(connection).load(name)
    write({DAY: [1]})
    with pytest.raises(CommitConflictError, match=f"committed to the same partitions of {name} first; run it again"):
        write({DAY: [2]}, table=before)
    assert _rows(connection, name) == {DAY: [1]}


def test_concurrent_commits_to_different_partitions_succeed(connection: Connection, name: str, write: Replace) -> None:
    days = [DAY + timedelta(days=n) for n in range(6)]
    with ThreadPoolExecutor(6) as pool:
        list(pool.map(lambda day: write({day: [day.day]}), days))
    assert _rows(connection, name) == {day: [day.day] for day in days}


def test_discarded_files_are_deleted(connection: Connection, name: str, tmp_path: Path) -> None:
    table = Tables(connection).load(name)
    added = upload(connection, table, [_file(table, tmp_path, DAY, [1])])
    objects, key = Objects.from_url(connection, table.location()), object_key(added[0].file_path)
    assert objects.head(key) is not None
    discard(connection, added)
    assert objects.head(key) is None


def test_failing_block_deletes_its_uploads(connection: Connection, name: str, tmp_path: Path) -> None:
    table = Tables(connection).load(name)
    uploads = Uploads(connection, table)
    uploads.add([_file(table, tmp_path, DAY, [1])])
    (added,) = uploads.result()
    with pytest.raises(ZeroDivisionError), uploads:
        raise ZeroDivisionError
    assert Objects.from_url(connection, table.location()).head(object_key(added.file_path)) is None


def test_manifests_are_merged(connection: Connection, name: str, write: Replace) -> None:
    with Tables(connection).load(name).transaction() as change:
        change.set_properties({"commit.manifest.min-count-to-merge": "3"})
    for n in range(8):
        write({DAY + timedelta(days=n): [n]})
    table = Tables(connection).load(name)
    snapshot = table.current_snapshot()
    assert snapshot is not None
    assert len(snapshot.manifests(table.io)) <= 4
    assert _rows(connection, name) == {DAY + timedelta(days=n): [n] for n in range(8)}


def test_merged_manifests_do_not_exceed_the_target_size(
    connection: Connection, name: str, write: Replace, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Tables(connection).load(name).transaction() as change:
        change.set_properties({"commit.manifest.min-count-to-merge": "2"})
    write({DAY: [0]})
    (first,) = _manifests(connection, name)
    # Most of a manifest is the schema; this leaves room for two schemas and some files.
    monkeypatch.setattr(committing, "MANIFEST_BYTES", first.manifest_length * 2 + 400)
    for n in range(1, 12):
        write({DAY + timedelta(days=n): [n]})
    sizes = [manifest.manifest_length for manifest in _manifests(connection, name)]
    assert 2 <= len(sizes) <= 6
    assert max(sizes) < first.manifest_length * 2
    assert _rows(connection, name) == {DAY + timedelta(days=n): [n] for n in range(12)}


def test_commit_that_only_adds_reads_no_manifest(
    connection: Connection, name: str, tmp_path: Path, write: Replace, monkeypatch: pytest.MonkeyPatch
) -> None:
    write({DAY: [1]})
    table = Tables(connection).load(name)
    added = upload(connection, table, [_file(table, tmp_path, DAY, [2])])

    def fail(*_: object, **__: object) -> list[ManifestEntry]:
        raise AssertionError("a manifest was read")

    with monkeypatch.context() as patch:
        patch.setattr(ManifestFile, "fetch_manifest_entry", fail)
        commit(table, added, touched=partitions_filter("dt", [DAY]), properties={})
    assert _rows(connection, name) == {DAY: [1, 2]}


def test_metadata_is_computed_once_for_each_change(
    connection: Connection, name: str, write: Replace, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = 0

    def count_calls(*arguments: Any, **options: Any) -> TableMetadata:
        nonlocal calls
        calls += 1
        return update_table_metadata(*arguments, **options)

    monkeypatch.setattr(committing, "update_table_metadata", count_calls)
    write({DAY: [1]})
    write({DAY: [2]})
    assert calls <= 4
    assert _rows(connection, name) == {DAY: [2]}


def _manifests(connection: Connection, name: str) -> list[ManifestFile]:
    table = Tables(connection).load(name)
    snapshot = table.current_snapshot()
    return snapshot.manifests(table.io) if snapshot else []


def test_old_snapshots_expire_and_the_current_one_stays(
    connection: Connection, name: str, write: Replace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(snapshots, "MIN_SNAPSHOTS_TO_EXPIRE", 2)
    for n in range(3):
        write({DAY: [n]})
    assert expirable(Tables(connection).load(name), 2) == []
    write({DAY: [3]})
    table = Tables(connection).load(name)
    old = expirable(table, 2)
    assert [s.sequence_number for s in old] == [1, 2]
    other = Tables(connection).load(name)
    assert expire(table, old, {"note": "first"})
    expire(other, expirable(other, 2), {"note": "first"})  # from the same version; has no effect
    assert Tables(connection).load(name).properties["note"] == "first"
    remaining = Tables(connection).load(name)
    assert sorted(s.sequence_number or 0 for s in remaining.metadata.snapshots) == [3, 4]
    assert _rows(connection, name) == {DAY: [3]}
    assert len(expirable(remaining, 0)) == 0, "the current snapshot never expires"


def test_selected_files_are_those_that_a_scan_reads(connection: Connection, name: str, write: Replace) -> None:
    days = [DAY + timedelta(days=n) for n in range(6)]
    write({day: [n, n + 1] for n, day in enumerate(days)})
    write({days[1]: [], days[2]: [7]})
    table = Tables(connection).load(name)
    for where in (
        partitions_filter("dt", days[1:4]),
        partitions_filter("dt", days[1:2]),
        parse(f"dt >= '{days[2]}' and dt < '{days[4]}'"),
        AlwaysTrue(),
        AlwaysFalse(),
    ):
        scanned = [task.file.file_path for task in table.scan(row_filter=where).plan_files()]
        assert sorted(data_file.file_path for data_file in select_files(table, where)) == sorted(scanned), where


def test_filter_of_many_days_selects_each_of_them(connection: Connection, name: str, write: Replace) -> None:
    write({DAY + timedelta(days=n): [n] for n in (0, 250, 499, 500)})
    table = Tables(connection).load(name)
    assert partitions_filter("dt", []) == AlwaysFalse()
    assert len(select_files(table, partitions_filter("dt", [DAY + timedelta(days=n) for n in range(500)]))) == 3
    assert select_files(table, partitions_filter("dt", [DAY + timedelta(days=600 + n) for n in range(500)])) == []


def test_removed_files_are_listed_only_by_their_snapshot(connection: Connection, name: str, write: Replace) -> None:
    days = [DAY + timedelta(days=n) for n in range(5)]
    for number in range(4):
        write({day: [number] for day in days})
    table = Tables(connection).load(name)
    newest = table.current_snapshot()
    assert newest is not None
    manifests = newest.manifests(table.io)
    without_files = [
        manifest for manifest in manifests if not manifest.has_added_files() and not manifest.has_existing_files()
    ]
    assert [manifest.added_snapshot_id for manifest in without_files] == [newest.snapshot_id]
    assert _rows(connection, name) == {day: [3] for day in days}


def test_clock_that_was_set_back_stalls_no_commit(
    connection: Connection, name: str, write: Replace, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = time.time
    with monkeypatch.context() as ahead:
        ahead.setattr("pyiceberg.table.snapshots.time.time", lambda: real() + 13 * 60)
        write({DAY: [1]})
    write({DAY: [2]})
    write({DAY + timedelta(days=1): [3]})
    table = Tables(connection).load(name)
    times = [
        snapshot.timestamp_ms for snapshot in sorted(table.metadata.snapshots, key=lambda s: s.sequence_number or 0)
    ]
    assert times == sorted(set(times))
    # SeaweedFS gives a commit without a snapshot the time of its own clock.
    with pytest.raises(StorageUnavailableError, match="clock was set back"), table.transaction() as transaction:
        transaction.set_properties({"lakehouse.clock": "set back"})
