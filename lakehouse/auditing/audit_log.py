"""The audit log: its chain is whole, and its table holds the same entries."""

from collections.abc import Iterator

from lakehouse.audit_log.chain import Chain, verify
from lakehouse.audit_log.entries import FIELDS, Entry
from lakehouse.auditing.findings import Finding
from lakehouse.auditing.models import WHOLE
from lakehouse.engine.connection import scan_sql
from lakehouse.pipeline.audit_log_table import AUDIT_LOG, copied_end
from lakehouse.pipeline.lake import Lake

CHECK = "audit log = its chain of hashes"
BATCH_ROWS = 10_000
FIX = "restore it from a backup; the entries around the place say who did what before and after"


def audit_log_findings(lake: Lake) -> list[Finding]:
    """Return a finding for each place where the log or its table was tampered with."""
    table = lake.tables.load(AUDIT_LOG) if lake.tables.exists(AUDIT_LOG) else None
    faults = verify(lake.settings, copied_end(table) if table is not None else None)
    if table is not None and not faults:
        chain = Chain()
        faults = [f"{AUDIT_LOG}: {fault}" for fault in chain.check(_rows(lake, scan_sql(table)))]
        end = copied_end(table)
        if not faults and end is not None and not chain.has(end):
            faults = [f"{AUDIT_LOG} lacks entry {end[0]:,}, which it held: rows at its end are gone"]
    return [Finding("audit_log", "audit_log", WHOLE, CHECK, "wrong", fault, FIX) for fault in faults]


def _rows(lake: Lake, scan: str) -> Iterator[tuple[str, bytes]]:
    """Yield the table's rows as the lines that they were made from."""
    columns = [f'"{name}"' for name in (*FIELDS, "hash")]
    columns[FIELDS.index("time")] = "strftime(time, '%Y-%m-%dT%H:%M:%S.%g+00:00')"
    with lake.engine.cursor() as cursor:
        result = cursor.execute(f"select {', '.join(columns)} from {scan} order by number")
        while rows := result.fetchmany(BATCH_ROWS):
            for row in rows:
                entry = Entry(*row)
                yield f"entry {entry.number:,}", entry.line
