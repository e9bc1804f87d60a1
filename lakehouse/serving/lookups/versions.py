"""The published versions of look-ups: sorted Parquet objects `serving/lookup/{name}/{version}.parquet`.

An object's first column is the `id`, as text and in order. A version is the sequence numbers of the tables it was computed
from, so that a slow run never replaces a newer result; that of a declared look-up has its definition, too.
"""

from dataclasses import dataclass
from pathlib import Path

from lakehouse.contracts.sql import literal
from lakehouse.pipeline.lake import Lake
from lakehouse.serving.lookups.paths import cached_copies, cached_copy, lookups_folder
from lakehouse.storage.objects.store import Objects

PREFIX = "serving/lookup"

MAX_VERSIONS = 2
"""Versions that are kept: a reader may still be fetching the older one."""


@dataclass(frozen=True, slots=True)
class LookupVersion:
    """An object that holds a version of a look-up."""

    key: str
    numbers: tuple[int, ...]
    """The sequence numbers of the tables that it was computed from."""
    size: int
    """Bytes."""
    definition: str = ""
    """The definition of the declared look-up that it was computed by."""

    @property
    def stem(self) -> str:
        """The version as the object's name has it."""
        return Path(self.key).stem


def published_names(objects: Objects) -> list[str]:
    """List the look-ups that have a version."""
    return [folder.rstrip("/").rpartition("/")[2] for folder in objects.folders(PREFIX)]


def version_key(name: str, numbers: tuple[int, ...], definition: str = "") -> str:
    """Return the key of a look-up's version."""
    stem = "-".join(f"{number:012d}" for number in numbers)
    return f"{PREFIX}/{name}/{stem}{f'_{definition}' if definition else ''}.parquet"


def list_versions(objects: Objects, name: str) -> list[LookupVersion]:
    """List the versions of a look-up, the newest last."""
    versions = []
    for info in objects.list(f"{PREFIX}/{name}/"):
        stem, _, definition = Path(info.key).stem.partition("_")
        numbers = stem.split("-")
        if info.key.endswith(".parquet") and all(number.isdigit() for number in numbers):
            versions.append(LookupVersion(info.key, tuple(map(int, numbers)), info.size, definition))
    return sorted(versions, key=lambda version: version.numbers)


def scan_version_sql(lake: Lake, version: LookupVersion) -> str:
    """Return a table function that reads a version."""
    return f"read_parquet({literal(f's3://{lake.connection.bucket}/{version.key}')})"


def delete_old_versions(lake: Lake, name: str, keep: int = 1) -> None:
    """Delete all versions of a look-up but the newest, and their copies on this machine, also those that are open."""
    versions = list_versions(lake.objects, name)
    kept = versions[len(versions) - keep :]
    lake.objects.delete(version.key for version in versions if version not in kept)
    folder = lookups_folder(lake.settings)
    newest = {cached_copy(folder, name, version.stem) for version in kept}
    for path in cached_copies(folder, name):
        if path not in newest:
            path.unlink(missing_ok=True)
