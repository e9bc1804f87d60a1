"""What commits say they wrote is what tables hold. Metadata alone is read."""

from datetime import date

from lakehouse.auditing.context import Context, layer_of
from lakehouse.storage.iceberg.snapshots import ledger

CHECK = "ledger"
REPLACED = ("silver", "quarantine", "gold", "serving")
"""Layers whose partitions are written whole: the newest commit about a day says all that it holds."""


def check(sight: Context) -> None:
    """Compare the ledgers in snapshots with the rows that their commits added, and with what each day holds now."""
    for name, table in sight.tables.items():
        layer = layer_of(table)
        column = "date_key" if name == "gold.daily_metrics" else "dt"
        said: dict[str, int] = {}
        for snapshot in sorted(table.metadata.snapshots, key=lambda s: s.sequence_number or 0):
            rows = {day: int(row["rows"]) for day, row in ledger(snapshot).items() if "rows" in row}
            said |= rows
            summary = snapshot.summary.additional_properties if snapshot.summary else {}
            added = int(summary.get("added-records", 0))
            if rows and sum(rows.values()) != added:
                what = f"{name}: the commit {snapshot.snapshot_id} says it wrote {sum(rows.values())} rows, and wrote {added}"
                days = [day for day in rows if sight.covers(day)]
                if days:
                    sight.say(layer, days[0], CHECK, what, sight.repair(days[0]))
        if layer in REPLACED:
            held = {str(day): rows for day, rows in sight.days(table, column).items()}
            among = {str(day) for day in sight.readable(map(date.fromisoformat, said.keys() | held.keys()), layer)}
            for day in sorted(among & said.keys()):
                if sight.covers(day) and said[day] != held.get(day, 0):
                    what = f"{name} holds {held.get(day, 0)} rows, and the newest commit of the lakehouse wrote {said[day]}"
                    sight.say(layer, day, CHECK, what, sight.repair(day))
