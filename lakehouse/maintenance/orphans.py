"""Files that nothing refers to: uploaded by a run that died before its commit, or left by snapshots that have expired.

What is younger than a safe age is left alone, for a running write may be about to commit it.
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from itertools import islice
from urllib.parse import unquote, urlparse

from pyiceberg.table import Table

from lakehouse.pipeline.lake import Lake
from lakehouse.storage.objects.multipart import abort_uploads
from lakehouse.storage.objects.store import Objects

SAFE_AGE = timedelta(days=1)
"""Runs are ended after six hours; four times that."""

FILES = (".parquet", ".orc", ".avro", ".metadata.json", ".puffin", ".stats")
"""What tables are made of; anything else in their folders is the catalog's own."""

DELETED_AT_ONCE = 1000
READ_AT_ONCE = 8


@dataclass(frozen=True, slots=True)
class Removed:
    """Files of a table that nothing referred to, or uploads that nobody finished."""

    what: str
    files: int = 0
    bytes: int = 0


def remove_orphans(
    lake: Lake, name: str, *, age: timedelta = SAFE_AGE, now: datetime | None = None, dry_run: bool = False
) -> Removed:
    """Delete what lies under the table's location, is older than the safe age and is named by nothing the table keeps."""
    before = (now or datetime.now(UTC)) - age
    location = urlparse(lake.tables.load(name).location())
    objects = Objects.from_connection(replace(lake.connection, bucket=location.netloc))
    # Listed first: what is committed while we look is then either younger or found among what is referred to.
    folder = location.path.strip("/")
    old = {
        info.key: info.size
        for info in objects.list(folder)
        if info.modified < before and info.key.startswith(f"{folder}/") and info.key.endswith(FILES)
    }
    if not old:
        return Removed(name)
    kept = {urlparse(path).path.lstrip("/") for path in reachable(lake.tables.load(name))}
    kept |= {unquote(key) for key in kept}
    gone = {key: size for key, size in old.items() if key not in kept}
    if not dry_run:
        keys = iter(gone)
        while batch := list(islice(keys, DELETED_AT_ONCE)):
            objects.delete(batch)
    return Removed(name, len(gone), sum(gone.values()))


def remove_uploads(
    lake: Lake, *, age: timedelta = SAFE_AGE, now: datetime | None = None, dry_run: bool = False
) -> Removed:
    """Abort multipart uploads into the lake's buckets that were begun before the safe age and never finished."""
    before = (now or datetime.now(UTC)) - age
    warehouse = urlparse(lake.connection.catalog.get("warehouse", "")).netloc
    buckets = sorted({lake.connection.bucket, warehouse} - {""})
    counts = [abort_uploads(replace(lake.connection, bucket=bucket), before, dry_run=dry_run) for bucket in buckets]
    return Removed("unfinished uploads", sum(counts))


def reachable(table: Table) -> Iterator[str]:
    """Every file that the table's metadata names: of all its snapshots, and the metadata files it still lists."""
    metadata = table.metadata
    yield table.metadata_location
    yield from (entry.metadata_file for entry in metadata.metadata_log)
    yield from (file.statistics_path for file in metadata.statistics)
    yield from (file.statistics_path for file in metadata.partition_statistics)
    yield from (snapshot.manifest_list for snapshot in metadata.snapshots)
    with ThreadPoolExecutor(READ_AT_ONCE, thread_name_prefix="manifests") as pool:
        lists = pool.map(lambda snapshot: snapshot.manifests(table.io), metadata.snapshots)
        manifests = {manifest.manifest_path: manifest for found in lists for manifest in found}
        yield from manifests
        entries = pool.map(lambda one: one.fetch_manifest_entry(table.io, discard_deleted=True), manifests.values())
        for found in entries:
            yield from (entry.data_file.file_path for entry in found)
