"""Orphan files are deleted once they are old enough; files that a snapshot references are kept."""

from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest

from lakehouse.maintenance.compaction import Budget, compact
from lakehouse.maintenance.orphans import abort_unfinished_uploads, remove_orphans
from lakehouse.pipeline.commits import expire_snapshots
from lakehouse.storage.iceberg.manifests import referenced_files
from lakehouse.storage.objects.multipart import open_client
from lakehouse.storage.objects.store import Objects, object_key
from lakehouse_tests.pipeline.own import Own, noon, payment

DAY = date(2018, 6, 1)
NO_QUIET_TIME = timedelta(0)
ANY_AGE = timedelta(seconds=-5)
"""Younger than any file, because storage's clock has whole seconds."""


@pytest.fixture
def own(make_stream: Callable[..., Own]) -> Own:
    own = make_stream()
    for minute in range(4):
        own.land([payment(f"e{minute}", noon(DAY))], noon(DAY) + timedelta(minutes=minute))
        own.bronze(DAY)
    return own


def _objects(own: Own) -> Objects:
    return Objects.from_url(own.lake.connection, own.lake.tables.load(f"bronze.{own.name}").location())


def _files(own: Own) -> set[str]:
    folder = f"bronze/{own.name}"
    keys = {info.key for info in _objects(own).list(folder)}
    return {key for key in keys if key.endswith((".parquet", ".avro", ".json"))}


def _reachable_keys(own: Own) -> set[str]:
    return {object_key(path) for path in referenced_files(own.lake.tables.load(f"bronze.{own.name}"))}


def test_old_upload_of_a_dead_run_is_removed(own: Own) -> None:
    name = f"bronze.{own.name}"
    orphan = f"bronze/{own.name}/data/arrival_dt={DAY}/dt={DAY}/left.parquet"
    neighbour = f"bronze/{own.name}0/data/left.parquet"
    for key in (orphan, neighbour):
        _objects(own).put(key, b"rows")
    before = _files(own)
    assert remove_orphans(own.lake, name).removed == 0, "a running write may still commit it"
    assert remove_orphans(own.lake, name, age=ANY_AGE, dry_run=True).removed == 1
    assert _files(own) == before
    done = remove_orphans(own.lake, name, age=ANY_AGE)
    assert (done.removed, done.bytes) == (1, 4)
    assert before - _files(own) == {orphan}
    assert _objects(own).head(neighbour) is not None, "another table's folder may start with the same letters"
    assert own.ask("select count(*) from {bronze}") == [(4,)]


def test_files_of_a_compaction_killed_before_commit_are_removed(own: Own, monkeypatch: pytest.MonkeyPatch) -> None:
    name = f"bronze.{own.name}"

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("lakehouse.maintenance.compaction.replace_files", killed)
        with pytest.raises(KeyboardInterrupt):
            compact(own.lake, name, Budget(), quiet=NO_QUIET_TIME)
    assert own.ask("select count(*), count(distinct event_id) from {bronze}") == [(4, 4)]
    assert remove_orphans(own.lake, name, age=ANY_AGE).removed == 1
    assert compact(own.lake, name, Budget(), quiet=NO_QUIET_TIME).added == 1
    assert own.ask("select count(*), count(distinct event_id) from {bronze}") == [(4, 4)]


def test_files_of_expired_snapshots_are_removed(own: Own) -> None:
    name = f"bronze.{own.name}"
    compact(own.lake, name, Budget(), quiet=NO_QUIET_TIME)
    assert remove_orphans(own.lake, name, age=ANY_AGE).removed == 0, "older snapshots still reference the small files"
    table = own.lake.tables.load(name)
    with table.transaction() as change:
        change.set_properties({"lakehouse.snapshots-kept": "2"})
    assert expire_snapshots(own.lake, own.lake.tables.load(name), at_least=1) == 3
    remove_orphans(own.lake, name, age=ANY_AGE)
    assert _files(own) == _reachable_keys(own)
    kept = own.lake.tables.load(name)
    counts = [len(kept.scan(snapshot_id=snapshot.snapshot_id).to_arrow()) for snapshot in kept.metadata.snapshots]
    assert counts == [4, 4]


def test_unfinished_uploads_are_aborted_after_the_safe_age(own: Own) -> None:
    client: Any = open_client(own.lake.connection)
    bucket = own.lake.connection.bucket
    client.create_multipart_upload(Bucket=bucket, Key=f"incoming/{own.name}/half.csv")

    def unfinished() -> int:
        return sum(
            own.name in upload["Key"] for upload in client.list_multipart_uploads(Bucket=bucket).get("Uploads", ())
        )

    abort_unfinished_uploads(own.lake)
    assert unfinished() == 1
    abort_unfinished_uploads(own.lake, now=datetime.now(UTC) + timedelta(days=2))
    assert unfinished() == 0
