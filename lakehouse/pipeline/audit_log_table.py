"""Copy the audit log into a table that SQL reads, each entry once."""

from datetime import datetime

import pyarrow as pa
from filelock import FileLock, Timeout
from pyiceberg.table import Table

from lakehouse.audit_log.entries import Entry
from lakehouse.audit_log.log import End, log_folder, read_entries, read_head, segments
from lakehouse.pipeline.lake import Lake
from lakehouse.storage.iceberg.schema import TableSpec

AUDIT_LOG = "serving.audit_log"
END_PROPERTY = "lakehouse.audit-log-end"
"""The table's property that names the last entry that it holds. It is set in the commit that adds the entry."""

SPEC = TableSpec(
    AUDIT_LOG,
    (
        ("number", "BIGINT"),
        ("time", "TIMESTAMP"),
        ("actor", "VARCHAR"),
        ("action", "VARCHAR"),
        ("subject", "VARCHAR"),
        ("detail", "VARCHAR"),
        ("previous", "VARCHAR"),
        ("hash", "VARCHAR"),
        ("month", "VARCHAR"),
    ),
    ("month",),
    properties={"lakehouse.snapshots-kept": "48"},
)


def copy_entries(lake: Lake) -> int:
    """Add the entries to the table that it does not hold, and return how many. Safe to repeat after a kill.

    Does nothing while another process does it. Raises ValueError at an entry that was changed; `lakehouse audit` says
    more about it.
    """
    head = read_head(lake.settings)
    if head is None:
        return 0
    try:
        with FileLock(log_folder(lake.settings) / "copy.lock", timeout=0):
            lake.tables.ensure([SPEC])
            table = lake.tables.load(AUDIT_LOG)
            end = copied_end(table)
            entries = [] if end and end[0] >= head[0] else [*read_entries(lake.settings, end[0] if end else 0)]
            if entries:
                _append(table, entries)
    except Timeout:
        return 0
    return len(entries)


def copied_end(table: Table) -> End | None:
    """Return the last entry that the table holds; None if it holds none."""
    number, _, digest = table.properties.get(END_PROPERTY, "").partition(" ")
    return (int(number), digest) if number else None


def drop_expired_months(lake: Lake) -> list[str]:
    """Drop the months from the table that the log has dropped, and return them."""
    kept = segments(lake.settings)
    if not kept or not lake.tables.exists(AUDIT_LOG):
        return []
    copy_entries(lake)  # with the entry that says what has expired
    table = lake.tables.load(AUDIT_LOG)
    condition = f"month < '{kept[0].stem}'"
    months = sorted({task.file.partition[0] for task in table.scan(row_filter=condition).plan_files()})
    if months:
        table.delete(condition)
    return months


def _append(table: Table, entries: list[tuple[str, Entry]]) -> None:
    rows = [
        {
            "number": entry.number,
            "time": datetime.fromisoformat(entry.time).replace(tzinfo=None),
            "actor": entry.actor,
            "action": entry.action,
            "subject": entry.subject,
            "detail": entry.detail,
            "previous": entry.previous,
            "hash": entry.hash,
            "month": month,
        }
        for month, entry in entries
    ]
    with table.transaction() as transaction:
        transaction.append(pa.Table.from_pylist(rows, schema=table.schema().as_arrow()))
        _, last = entries[-1]
        transaction.set_properties({END_PROPERTY: f"{last.number} {last.hash}"})
