"""Ledgers = rows: what snapshots record about their rows is what tables hold. Only table metadata is read."""

from collections.abc import Mapping
from datetime import date

from pyiceberg.table import Table
from pyiceberg.table.snapshots import Snapshot

from lakehouse.auditing.context import Context, layer_of
from lakehouse.pipeline.long_form import DAILY_METRICS
from lakehouse.storage.iceberg.snapshots import history, ledger

CHECK = "ledger"
REPLACED_LAYERS = ("silver", "quarantine", "gold", "serving")
"""Layers whose partitions are written whole, so the newest commit of a day records all of the day's rows."""


def check(context: Context) -> None:
    """Compare the ledgers of snapshots with the rows that their commits added, and with what each day holds now."""
    for name, table in context.intact_tables():
        recorded: dict[str, int] = {}
        for snapshot in history(table):
            rows = {day: int(counts["rows"]) for day, counts in ledger(snapshot).items() if "rows" in counts}
            _check_commit(context, name, snapshot, rows)
            recorded |= rows
        if layer_of(table) in REPLACED_LAYERS:
            _check_days(context, name, table, recorded)


def _check_commit(context: Context, name: str, snapshot: Snapshot, rows: Mapping[str, int]) -> None:
    """Compare a ledger with the number of rows that Iceberg counted in the commit."""
    summary = snapshot.summary.additional_properties if snapshot.summary else {}
    added, recorded = int(summary.get("added-records", 0)), sum(rows.values())
    days = [day for day in rows if context.covers(day)]
    if recorded == added or not days:
        return
    detail = f"{name}: the commit {snapshot.snapshot_id} says it wrote {recorded} rows, and wrote {added}"
    layer = name.partition(".")[0]
    context.report_finding(layer, days[0], CHECK, detail, context.repair_command(days[0]))


def _check_days(context: Context, name: str, table: Table, recorded: Mapping[str, int]) -> None:
    """Compare the newest ledger of each day with the rows that the table holds."""
    layer, column = layer_of(table), "date_key" if name == DAILY_METRICS else "dt"
    actual = {str(day): rows for day, rows in context.rows_by_day(table, column).items()}
    days = context.readable(map(date.fromisoformat, recorded.keys() | actual.keys()), layer)
    # A run that died may have left rows in quarantine twice. Such days are stale, which `silver` reports.
    unfinished = context.unfinished(days) if layer == "quarantine" else set()
    readable = {str(day) for day in days if day not in unfinished}
    for day in sorted(readable & recorded.keys()):
        if context.covers(day) and recorded[day] != actual.get(day, 0):
            detail = (
                f"{name} holds {actual.get(day, 0)} rows, and the newest commit of the lakehouse wrote {recorded[day]}"
            )
            context.report_finding(layer, day, CHECK, detail, context.repair_command(day))
