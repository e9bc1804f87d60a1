"""Files are there: storage has every data file that a table names, at its size. See the other checks for what files hold."""

from collections.abc import Sequence
from datetime import date
from urllib.parse import urlparse

from pyiceberg.manifest import DataFile
from pyiceberg.table import Table

from lakehouse.auditing.context import Context, layer_of
from lakehouse.landing.keys import LandingObject
from lakehouse.pipeline.exports import unified_key
from lakehouse.storage.objects.store import Objects, object_key

CHECK = "files are there"
LANDING_CHECK = "objects can be read"
CHECKS = (CHECK, LANDING_CHECK)


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
    """Read every data file, exported object and landing object of the audited days, and report those that can't be read.

    The other checks leave out what is found here.
    """
    _read_landing(context)
    _read_exports(context)
    for name, table in context.intact_tables():
        known = context.unreadable.get(layer_of(table), set())
        files = [(day, file) for day, file in context.files(table, _columns(table)[0]) if day not in known]
        keys = [object_key(file.file_path) for _, file in files]
        reasons = context.reads.failures(urlparse(table.location()).netloc, keys)
        for (day, file), key in zip(files, keys, strict=True):
            if key in reasons:
                _report(context, name, day, file, f"can't be read ({reasons[key]})")


def _read_landing(context: Context) -> None:
    keys_landed = context.keys_landed  # as they are listed, before any is left out
    report_unreadable(
        context, [obj for objects in context.landed.values() for obj in objects if obj.key in keys_landed]
    )


def report_unreadable(context: Context, landed: Sequence[LandingObject]) -> None:
    """Read these landing objects, report those that can't be read, and leave them out of the other checks."""
    keys = [obj.shared_key or obj.key for obj in landed] if context.read_landing else []
    reasons = context.reads.failures(context.lake.objects.bucket, keys, written_here=False)
    for obj in landed:
        if reason := reasons.get(obj.shared_key or obj.key):
            context.landed[obj.day].remove(obj)
            fix = "bring it back from a backup; what bronze holds of it stays"
            context.report_finding("landing", obj.day, LANDING_CHECK, f"{obj.key} can't be read ({reason})", fix)


def _read_exports(context: Context) -> None:
    stored = {info.key for info in context.lake.objects.list(f"serving/unified/{context.stream.name}")}
    days = {
        key: day
        for day in context.rows_by_day(context.table("silver"))
        if (key := unified_key(context.stream, day)) in stored
    }
    for key, reason in context.reads.failures(context.lake.objects.bucket, days).items():
        context.lost_exports.add(key)
        context.report_wrong("serving", days[key], CHECK, f"{key} can't be read ({reason})")


def _report(context: Context, name: str, day: date, data_file: DataFile, what: str) -> None:
    layer, table = name.partition(".")[0], context.tables[name]
    context.report_finding(
        layer,
        day,
        CHECK,
        f"{name}: a data file of {data_file.record_count:,} rows {what}: {data_file.file_path}",
        _fix(context, layer, day),
    )
    if layer == "realtime":
        # The checks read realtime by event date and by key, so they would meet a file of any hour.
        context.damaged.add(name)
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
