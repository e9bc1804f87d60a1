"""Files are there: storage has every data file that a table names, at its size. See the other checks for what files hold."""

from pyiceberg.table import Table

from lakehouse.auditing.context import Context
from lakehouse.storage.objects.store import Objects, object_key

CHECK = "files are there"


def check(context: Context) -> None:
    """Report the partitions that have lost a file, and mark them as unreadable for the other checks."""
    for name, table in context.tables.items():
        layer = name.partition(".")[0]
        columns = [field.name for field in table.spec().fields]
        files = context.files(table, columns[0])
        sizes = _stored_sizes(context, table) if files else {}
        for day, data_file in files:
            size = sizes.get(object_key(data_file.file_path))
            if size == data_file.file_size_in_bytes:
                continue
            defect = "is gone" if size is None else f"has {size:,} bytes, not {data_file.file_size_in_bytes:,}"
            context.report_finding(
                layer, day, CHECK,
                f"{name}: a data file of {data_file.record_count:,} rows {defect}: {data_file.file_path}",
                _fix(context, layer, day),
            )  # fmt: skip
            lost = {day}
            if "dt" in columns[1:]:
                lost |= {event_date for event_date, f in context.files(table) if f.file_path == data_file.file_path}
            context.unreadable.setdefault(layer, set()).update(lost)


def _stored_sizes(context: Context, table: Table) -> dict[str, int]:
    """Find the size of each of the table's stored objects, by key."""
    objects = Objects.from_url(context.lake.connection, table.location())
    return {info.key: info.size for info in objects.list(f"{object_key(table.location())}/data")}


def _fix(context: Context, layer: str, day: object) -> str:
    repair = context.repair_command(day)
    if layer == "bronze":
        return f"bring the file back from a backup, or, where its landing objects are still there, {repair}"
    return repair
