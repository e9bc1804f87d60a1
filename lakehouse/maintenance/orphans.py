"""Orphan files: uploaded by a run that died before its commit, or left behind by expired snapshots.

Files younger than a safe age are kept, because a running write may be about to commit them.
"""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from urllib.parse import unquote

from lakehouse.maintenance.file_changes import FileChanges
from lakehouse.pipeline.lake import Lake
from lakehouse.storage.iceberg.manifests import referenced_files
from lakehouse.storage.objects.multipart import abort_uploads
from lakehouse.storage.objects.store import Objects, object_key

SAFE_AGE = timedelta(days=1)
"""Four times the longest run, which is ended after six hours."""

FILE_SUFFIXES = (".parquet", ".orc", ".avro", ".metadata.json", ".puffin", ".stats")
"""Suffixes of the files that make up a table. Anything else in its folder belongs to the catalog."""


def remove_orphans(
    lake: Lake, name: str, *, age: timedelta = SAFE_AGE, now: datetime | None = None, dry_run: bool = False
) -> FileChanges:
    """Delete files under the table's location that are older than `age` and that no table metadata references."""
    before = (now or datetime.now(UTC)) - age
    location = lake.tables.load(name).location()
    objects = Objects.from_url(lake.connection, location)
    # List before reading the metadata: a file committed in between is then either too young or referenced.
    folder = object_key(location)
    old = {
        info.key: info.size
        for info in objects.list(folder)
        if info.modified < before and info.key.startswith(f"{folder}/") and info.key.endswith(FILE_SUFFIXES)
    }
    if not old:
        return FileChanges(name)
    kept = {object_key(path) for path in referenced_files(lake.tables.load(name))}
    kept |= {unquote(key) for key in kept}
    orphans = {key: size for key, size in old.items() if key not in kept}
    if not dry_run:
        objects.delete(orphans)
    return FileChanges(name, removed=len(orphans), bytes=sum(orphans.values()))


def abort_unfinished_uploads(
    lake: Lake, *, age: timedelta = SAFE_AGE, now: datetime | None = None, dry_run: bool = False
) -> FileChanges:
    """Abort multipart uploads into the lake's buckets that started before `age` ago and never finished."""
    before = (now or datetime.now(UTC)) - age
    buckets = sorted(lake.connection.buckets)
    counts = [abort_uploads(replace(lake.connection, bucket=bucket), before, dry_run=dry_run) for bucket in buckets]
    return FileChanges("unfinished uploads", removed=sum(counts))
