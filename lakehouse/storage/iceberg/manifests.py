"""Reading manifests: which data files a table has, and what their statistics say. No data file is opened.

Every walk over manifest entries starts here. See `replace` for rewriting manifests.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from itertools import chain
from typing import Any

from pyiceberg.conversions import from_bytes
from pyiceberg.expressions import AlwaysTrue, BooleanExpression
from pyiceberg.io import FileIO
from pyiceberg.manifest import DataFile, ManifestContent, ManifestEntry, ManifestFile
from pyiceberg.table import Table
from pyiceberg.types import DateType, TimestampType
from pyiceberg.utils.concurrent import ExecutorFactory

from lakehouse.errors import LakehouseError, ObjectNotFoundError, UnreadableObjectError, UnreadableTableError
from lakehouse.storage.iceberg.avro import read_manifest, read_manifest_list
from lakehouse.storage.iceberg.partitions import PartitionMatcher, date_from_days
from lakehouse.storage.objects.errors import first_line

CACHED_MANIFESTS = 256
"""Each describes some hundred files."""

HOW_TO_REPAIR = "All other tables can be read. Bring the file back, or run: lakehouse audit --repair"


@dataclass(frozen=True, slots=True)
class FileSummary:
    """A data file's partition, age and event dates, as its manifest states them."""

    path: str
    partition: tuple[Any, ...]
    sequence: int
    """The sequence number of its newest rows."""
    days: tuple[date, date] | None
    """The first and last `dt` of its rows; None when the statistics do not cover all rows."""


def current_manifests(table: Table) -> list[ManifestFile]:
    """List the manifests of the table's current snapshot, of data files and of deletes.

    Raises UnreadableTableError if the manifest list is gone or damaged, and LakehouseError or OSError if storage fails.
    """
    if (snapshot := table.current_snapshot()) is None:
        return []
    with _translate_damage(snapshot.manifest_list):
        return read_manifest_list(table.io, snapshot)


def has_live_files(manifest: ManifestFile) -> bool:
    """Return whether a manifest lists any file that is not deleted."""
    return manifest.has_added_files() or manifest.has_existing_files()


def has_delete_files(table: Table) -> bool:
    """Return whether rows were deleted by position or value, as other engines do: data files then list too many rows."""
    return any(manifest.content == ManifestContent.DELETES for manifest in current_manifests(table))


def live_entries(table: Table, select: Callable[[ManifestFile], bool] | None = None) -> Iterator[ManifestEntry]:
    """Walk the data files of the table's current snapshot, in the manifests for which `select` holds.

    Raises UnreadableTableError if a manifest is gone or damaged, and LakehouseError or OSError if storage fails.
    """
    manifests = [
        manifest for manifest in _data_manifests(table) if has_live_files(manifest) and (not select or select(manifest))
    ]
    return chain.from_iterable(_read_parallel(table.io, manifests))


def select_files(table: Table, where: BooleanExpression) -> list[DataFile]:
    """List the data files of the partitions that `where`, a filter over partition columns, selects.

    A scan would give the same files. But it also checks each file's bounds and simplifies the filter for its rows, which
    takes milliseconds a file.
    """
    matchers = {spec_id: PartitionMatcher(table, spec_id, where) for spec_id in table.specs()}
    entries = live_entries(table, lambda manifest: matchers[manifest.partition_spec_id].may_match_manifest(manifest))
    return [
        entry.data_file
        for entry in entries
        if matchers[entry.data_file.spec_id].may_match_partition(entry.data_file.partition)
    ]


def newest_time(table: Table, column: str, where: BooleanExpression | None = None) -> datetime | None:
    """Return the largest value of a timestamp column by the files' statistics; None for a table without rows.

    `where`, a filter over partition columns, limits the partitions.
    """
    field_id = table.schema().find_field(column).field_id
    bounds = ((file.upper_bounds or {}).get(field_id) for file in select_files(table, where or AlwaysTrue()))
    newest = max((int(from_bytes(TimestampType(), bound)) for bound in bounds if bound is not None), default=None)
    return None if newest is None else datetime.fromtimestamp(0, UTC) + timedelta(microseconds=newest)


def file_summaries(table: Table) -> Iterator[FileSummary]:
    """Summarize the table's data files, from a cache: a manifest never changes.

    Raises UnreadableTableError if a manifest is gone or damaged, and LakehouseError or OSError if storage fails.
    """
    column = table.schema().find_field("dt").field_id
    for manifest in _data_manifests(table):
        yield from _summarize(_CacheKey(manifest.manifest_path, column, manifest, table.io))


def referenced_files(table: Table) -> Iterator[str]:
    """Yield the URL of every file that the table's metadata names.

    These are the files of all its snapshots, and the metadata files that it still lists.
    """
    metadata = table.metadata
    yield table.metadata_location
    yield from (entry.metadata_file for entry in metadata.metadata_log)
    yield from (file.statistics_path for file in metadata.statistics)
    yield from (file.statistics_path for file in metadata.partition_statistics)
    yield from (snapshot.manifest_list for snapshot in metadata.snapshots)
    lists = ExecutorFactory.get_or_create().map(
        lambda snapshot: read_manifest_list(table.io, snapshot), metadata.snapshots
    )
    manifests = {manifest.manifest_path: manifest for manifest in chain.from_iterable(lists)}
    yield from manifests
    for entries in _read_parallel(table.io, manifests.values()):
        yield from (entry.data_file.file_path for entry in entries)


def _data_manifests(table: Table) -> list[ManifestFile]:
    return [manifest for manifest in current_manifests(table) if manifest.content == ManifestContent.DATA]


def _read_parallel(files: FileIO, manifests: Iterable[ManifestFile]) -> Iterator[list[ManifestEntry]]:
    return ExecutorFactory.get_or_create().map(lambda manifest: _read(files, manifest), manifests)


def _read(files: FileIO, manifest: ManifestFile) -> list[ManifestEntry]:
    with _translate_damage(manifest.manifest_path):
        return read_manifest(files, manifest)


@contextmanager
def _translate_damage(url: str) -> Iterator[None]:
    """Raise UnreadableTableError for a file that is gone, and in place of what is raised for a damaged one."""
    try:
        yield
    except (ObjectNotFoundError, FileNotFoundError) as error:
        raise UnreadableTableError(f"{url} is gone. {HOW_TO_REPAIR}") from error
    except UnreadableObjectError as error:
        raise UnreadableTableError(f"{url} can't be read ({first_line(error)}). {HOW_TO_REPAIR}") from error
    except (OSError, LakehouseError):
        raise
    except Exception as error:  # the parser has no class of its own for this
        reason = f"{type(error).__name__}: {first_line(error)}"
        raise UnreadableTableError(f"{url} is damaged ({reason}). {HOW_TO_REPAIR}") from error


@dataclass(frozen=True, slots=True)
class _CacheKey:
    path: str
    column: int
    """The field id of `dt`."""
    manifest: ManifestFile = field(compare=False)
    files: FileIO = field(compare=False)


@lru_cache(maxsize=CACHED_MANIFESTS)
def _summarize(key: _CacheKey) -> tuple[FileSummary, ...]:
    return tuple(
        FileSummary(
            entry.data_file.file_path,
            tuple(entry.data_file.partition[n] for n in range(len(entry.data_file.partition))),
            entry.sequence_number or 0,
            _days(entry.data_file, key.column),
        )
        for entry in _read(key.files, key.manifest)
    )


def _days(file: DataFile, column: int) -> tuple[date, date] | None:
    lower, upper = ((bounds or {}).get(column) for bounds in (file.lower_bounds, file.upper_bounds))
    if lower is None or upper is None or (file.null_value_counts or {}).get(column) != 0:
        return None
    return _day(lower), _day(upper)


def _day(bound: bytes) -> date:
    days: Any = from_bytes(DateType(), bound)  # a number of days, whatever its annotation says
    return date_from_days(days)
