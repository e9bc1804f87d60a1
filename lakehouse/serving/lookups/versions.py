"""The published versions of look-ups: sorted Parquet objects `serving/lookup/{name}/{version}.parquet`.

An object's first column is the `id`, as text and in order. A version is the sequence numbers of the tables it was computed
from, so that a slow run never replaces a newer result.
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

    @property
    def stem(self) -> str:
        """The version as the object's name has it."""
        return Path(self.key).stem


def version_key(name: str, numbers: tuple[int, ...]) -> str:
    """Return the key of a look-up's version."""
    return f"{PREFIX}/{name}/{'-'.join(f'{number:012d}' for number in numbers)}.parquet"


def list_versions(objects: Objects, name: str) -> list[LookupVersion]:
    """List the versions of a look-up, the newest last."""
    versions = []
    for info in objects.list(f"{PREFIX}/{name}/"):
        numbers = Path(info.key).stem.split("-")
        if info.key.endswith(".parquet") and all(number.isdigit() for number in numbers):
            versions.append(LookupVersion(info.key, tuple(map(int, numbers)), info.size))
    return sorted(versions, key=lambda version: version.numbers)


def scan_version_sql(lake: Lake, version: LookupVersion) -> str:
    """Return a table function that reads a version."""
    return f"read_parquet({literal(f's3://{lake.connection.bucket}/{version.key}')})"


def delete_old_versions(lake: Lake, name: str) -> None:
    """Delete all versions of a look-up but the newest, and their copies on this machine, also those that are open."""
    versions = list_versions(lake.objects, name)
    lake.objects.delete(version.key for version in versions[:-1])
    folder = lookups_folder(lake.settings)
    newest = {cached_copy(folder, name, version.stem) for version in versions[-1:]}
    for path in cached_copies(folder, name):
        if path not in newest:
            path.unlink(missing_ok=True)
