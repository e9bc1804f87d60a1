"""Metadata is there: the metadata file, the manifest list and the manifests of each table can be read."""

from collections.abc import Iterator

from pyiceberg.table import Table

from lakehouse.auditing.context import Context
from lakehouse.storage.iceberg.readable import UnreadableFile, unreadable_files, unreadable_metadata_file

CHECK = "metadata is there"


def check(context: Context) -> None:
    """Report each metadata file that can't be read, and mark its table as damaged for the other checks."""
    for name, table in context.tables.items():
        for file in unreadable_metadata(table):
            context.damaged.add(name)
            fix = f"bring the file back from a backup, or `lakehouse audit {context.stream.name} --repair`"
            context.report_finding(name.partition(".")[0], context.first, CHECK, f"{name}: {file}", fix)


def unreadable_metadata(table: Table) -> Iterator[UnreadableFile]:
    """Yield the files of the table's current metadata that can't be read."""
    if file := unreadable_metadata_file(table):
        yield file
    if (snapshot := table.current_snapshot()) is not None:
        yield from unreadable_files(table, snapshot)
