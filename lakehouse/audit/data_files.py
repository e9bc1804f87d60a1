"""Every data file that a table names is in storage, as large as it was. What is in the files is compared elsewhere."""

from dataclasses import replace
from urllib.parse import urlparse

from pyiceberg.table import Table

from lakehouse.audit.context import Context
from lakehouse.storage.objects.store import Objects

CHECK = "files are there"


def check(sight: Context) -> None:
    """Say which partitions have lost a file, and leave them out of what follows."""
    for name, table in sight.tables.items():
        layer = name.partition(".")[0]
        column = table.spec().fields[0].name
        found = sight.files(table, column)
        sizes = _stored(sight, table) if found else {}
        days = [part.name for part in table.spec().fields]
        for day, data_file in found:
            size = sizes.get(urlparse(data_file.file_path).path.lstrip("/"))
            if size == data_file.file_size_in_bytes:
                continue
            what = "is gone" if size is None else f"has {size:,} bytes, not {data_file.file_size_in_bytes:,}"
            sight.say(
                layer, day, CHECK,
                f"{name}: a data file of {data_file.record_count:,} rows {what}: {data_file.file_path}",
                _mend(sight, layer, day),
            )  # fmt: skip
            lost = {day}
            if "dt" in days and column != "dt":
                lost |= {of for of, other in sight.files(table) if other.file_path == data_file.file_path}
            sight.unreadable.setdefault(layer, set()).update(lost)


def _stored(sight: Context, table: Table) -> dict[str, int]:
    location = urlparse(table.location())
    objects = Objects.from_connection(replace(sight.lake.connection, bucket=location.netloc))
    return {info.key: info.size for info in objects.list(f"{location.path.strip('/')}/data")}


def _mend(sight: Context, layer: str, day: object) -> str:
    if layer == "bronze":
        return f"bring the file back from a backup, or, where its landing objects are still there, {sight.repair(day)}"
    return sight.repair(day)
