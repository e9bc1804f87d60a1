"""`publish`: tables of the lake in a warehouse."""

from collections.abc import Sequence
from datetime import date
from typing import Annotated

import typer

from lakehouse.cli.options import DryRun, Json
from lakehouse.cli.printing import counted, print_json, print_table, print_text, progress
from lakehouse.pipeline.lake import Lake
from lakehouse.pipeline.lineage.date_ranges import format_days
from lakehouse.publishing.publish import LoadedTable, PublishedTable, tables_named
from lakehouse.publishing.publish import publish as publish_table
from lakehouse.publishing.targets import WHOLE
from lakehouse.publishing.warehouses import open_target
from lakehouse.settings import get_settings
from lakehouse.storage.embedded import lifecycle as storage

Tables = Annotated[list[str], typer.Argument(metavar="TABLE…", help="Tables such as gold.iot_daily or 'gold.*'.")]
To = Annotated[str, typer.Option("--to", metavar="NAME", help="The warehouse, as named under [publish].")]
Again = Annotated[bool, typer.Option("--again", help="Load every partition, changed or not.")]


def publish(tables: Tables, to: To, again: Again = False, dry_run: DryRun = False, as_json: Json = False) -> None:
    """Load the partitions of tables that changed since they were loaded. Raises LakehouseError if the warehouse refuses one."""
    settings = get_settings()
    with storage.running(settings) as connection, open_target(settings, to) as target, progress() as bars:
        lake = Lake(settings, connection)
        results = []
        for name in tables_named(lake, tables):
            if dry_run:
                results.append(PublishedTable(name, [], LoadedTable.load(lake, name).pending(target.loads(name))))
                continue
            task = bars.add_task(name, total=None)
            results.append(
                publish_table(lake, target, name, again=again, report=lambda *_, task=task: bars.advance(task))
            )
    if as_json:
        print_json(
            [
                {"table": each.name, "changes": each.changes, "pending": each.pending, "rows": each.rows}
                for each in results
            ]
        )
        return
    for change in (change for each in results for change in each.changes):
        print_text(change)
    rows = [[each.name, len(each.pending), _days(each.pending), each.rows] for each in results]
    print_table("", ["table", "partitions", "days", "rows"], rows, right=["partitions", "rows"])
    total = sum(len(each.pending) for each in results)
    print_text(f"{counted(total, 'partition')} {'would be' if dry_run else 'were'} loaded into {to}.")


def _days(partitions: Sequence[str]) -> str:
    """Return days as ranges; a table without days has the partition `whole`."""
    return WHOLE if WHOLE in partitions else format_days(map(date.fromisoformat, partitions))
