"""Every data file that a table names is in storage, as large as it was. What is in the files is compared elsewhere."""

from pyiceberg.table import Table

from lakehouse.auditing.context import Context
from lakehouse.storage.objects.store import Objects, object_key

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
            size = sizes.get(object_key(data_file.file_path))
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
    objects = Objects.from_url(sight.lake.connection, table.location())
    return {info.key: info.size for info in objects.list(f"{object_key(table.location())}/data")}


def _mend(sight: Context, layer: str, day: object) -> str:
    if layer == "bronze":
        return f"bring the file back from a backup, or, where its landing objects are still there, {sight.repair(day)}"
    return sight.repair(day)
