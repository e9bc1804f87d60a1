"""Files are there: storage has every data file that a table names, at its size. See the other checks for what files hold."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import date
from functools import partial
from urllib.parse import urlparse

from pyiceberg.manifest import DataFile
from pyiceberg.table import Table

from lakehouse.auditing.context import Context, layer_of
from lakehouse.errors import LakehouseError
from lakehouse.storage.objects.connection import Connection
from lakehouse.storage.objects.errors import first_line
from lakehouse.storage.objects.store import Objects, object_key, open_store

CHECK = "files are there"
LANDING_CHECK = "objects can be read"
CHECKS = (CHECK, LANDING_CHECK)
CONCURRENT_READS = 8
READ_SECONDS = 5.0
"""How long one attempt to read a file may take to answer."""


def check(context: Context) -> None:
    """Report the partitions that have lost a file, and mark them as unreadable for the other checks."""
    for name, table in context.intact_tables():
        files = context.files(table, _columns(table)[0])
        sizes = _stored_sizes(context, table) if files else {}
        for day, data_file in files:
            size = sizes.get(object_key(data_file.file_path))
            if size != data_file.file_size_in_bytes:
                what = "is gone" if size is None else f"has {size:,} bytes, not {data_file.file_size_in_bytes:,}"
                _report(context, name, day, data_file, what)


def read_all(context: Context) -> None:
    """Read every data file and landing object of the audited days, and report those that can't be read.

    One that is damaged costs seconds of retries in each comparison, so the other checks
    leave out what is found here.
    """
    keys_landed = context.keys_landed  # as they are listed, before any is left out
    landed = [obj for objects in context.landed.values() for obj in objects if obj.key in keys_landed]
    with ThreadPoolExecutor(CONCURRENT_READS, thread_name_prefix="audit") as pool:
        reasons = pool.map(partial(_failure, _impatient(context.lake.connection)), [obj.key for obj in landed])
        for obj, reason in [(obj, reason) for obj, reason in zip(landed, reasons, strict=True) if reason]:
            context.landed[obj.day].remove(obj)
            fix = "bring it back from a backup; what bronze holds of it stays"
            context.report_finding("landing", obj.day, LANDING_CHECK, f"{obj.key} can't be read ({reason})", fix)
        lost = [found for name, table in context.intact_tables() for found in _read_table(context, pool, name, table)]
    for name, day, data_file, reason in lost:
        _report(context, name, day, data_file, f"can't be read ({reason})")


def _read_table(
    context: Context, pool: ThreadPoolExecutor, name: str, table: Table
) -> list[tuple[str, date, DataFile, str]]:
    objects = _impatient(replace(context.lake.connection, bucket=urlparse(table.location()).netloc))
    known = context.unreadable.get(layer_of(table), set())
    files = [(day, file) for day, file in context.files(table, _columns(table)[0]) if day not in known]
    reasons = pool.map(partial(_failure, objects), [object_key(file.file_path) for _, file in files])
    return [(name, day, file, reason) for (day, file), reason in zip(files, reasons, strict=True) if reason]


def _impatient(connection: Connection) -> Objects:
    """Return the objects of a bucket with one attempt for each request."""
    return Objects(open_store(connection, READ_SECONDS, retries=0), connection)


def _failure(objects: Objects, key: str) -> str | None:
    """Read an object to its end, at most twice. Returns why that failed."""
    for _ in range(2):
        try:
            for _ in objects.stream(key):
                pass
        except LakehouseError as error:
            reason = first_line(error)
        else:
            return None
    return reason


def _report(context: Context, name: str, day: date, data_file: DataFile, what: str) -> None:
    layer, table = name.partition(".")[0], context.tables[name]
    context.report_finding(
        layer,
        day,
        CHECK,
        f"{name}: a data file of {data_file.record_count:,} rows {what}: {data_file.file_path}",
        _fix(context, layer, day),
    )
    lost = {day}
    if "dt" in _columns(table)[1:]:
        lost |= {event_date for event_date, file in context.files(table) if file.file_path == data_file.file_path}
    context.unreadable.setdefault(layer, set()).update(lost)


def _columns(table: Table) -> list[str]:
    return [field.name for field in table.spec().fields]


def _stored_sizes(context: Context, table: Table) -> dict[str, int]:
    """Find the size of each of the table's stored objects, by key."""
    objects = Objects.from_url(context.lake.connection, table.location())
    return {info.key: info.size for info in objects.list(f"{object_key(table.location())}/data")}


def _fix(context: Context, layer: str, day: object) -> str:
    repair = context.repair_command(day)
    if layer == "bronze":
        return f"bring the file back from a backup, or, where its landing objects are still there, {repair}"
    return repair
