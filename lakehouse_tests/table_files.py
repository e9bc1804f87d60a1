"""The URLs of a table's files, which tests damage."""

from pyiceberg.expressions import AlwaysTrue
from pyiceberg.table import Table

from lakehouse.storage.iceberg.manifests import current_manifests, select_files


def metadata_file(table: Table) -> str:
    return table.metadata_location


def manifest_list(table: Table) -> str:
    snapshot = table.current_snapshot()
    assert snapshot is not None
    return snapshot.manifest_list


def manifest(table: Table) -> str:
    return current_manifests(table)[0].manifest_path


def data_file(table: Table) -> str:
    return select_files(table, AlwaysTrue())[0].file_path
