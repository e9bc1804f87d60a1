"""`erase`: a subject's rows leave the lakehouse, and it is looked whether they did."""

from collections.abc import Sequence
from typing import Any

import typer

from lakehouse.cli.printing import console, notes, print_json, print_table
from lakehouse.errors import LakehouseError
from lakehouse.maintenance import erase
from lakehouse.maintenance.residue_scan import find_residue
from lakehouse.maintenance.subject import Subject
from lakehouse.pipeline.lake import Lake
from lakehouse.pipeline.lineage.date_ranges import format_days
from lakehouse.settings import get_settings
from lakehouse.storage.embedded import lifecycle as server

SHOWN = 10
"""Objects that are named in a message."""


def erase_subject(name: str, words: Sequence[str], *, dry_run: bool, yes: bool, as_json: bool) -> None:
    """Find the subject's rows and, once that is agreed to, remove them. Raises LakehouseError when something is left."""
    settings = get_settings()
    subject = Subject.parse(Lake(settings).stream(name), words)
    with server.running(settings) as connection:
        lake = Lake(settings, connection)
        found = erase.find_rows(lake, subject)
        if not dry_run:
            if not yes:
                _print(found)
                typer.confirm("Remove these rows for good, and all older snapshots of these tables?", abort=True)
            found = _erase(lake, subject)
    if as_json:
        print_json(_as_data(found))
        return
    _print(found)
    if found.record:
        console.print(f"Nothing of them is left. The record is {found.record}.", soft_wrap=True)


def _erase(lake: Lake, subject: Subject) -> erase.ErasureResult:
    from lakehouse.automation.repair import ingest_incoming, recompute  # Dagster takes seconds to import

    found = erase.erase_rows(lake, subject)
    notes.print("computing what is below bronze again")
    recompute(lake, subject.stream, sorted(found.days))
    ingest_incoming(lake, subject.stream)
    erase.rewrite_exports(lake, subject.stream)
    notes.print("letting old snapshots go")
    erase.expire_history(lake, subject)
    notes.print("looking for traces")
    if left := find_residue(lake, subject):
        more = f" and {len(left) - SHOWN} more" if len(left) > SHOWN else ""
        raise LakehouseError(
            f"The values are still in {', '.join(left[:SHOWN])}{more}. A run may have been writing meanwhile: run it again."
        )
    return found


def _as_data(found: erase.ErasureResult) -> dict[str, Any]:
    return {
        "rows": found.rows,
        "landing_objects": found.landing_objects,
        "days": format_days(found.days),
        "record": found.record,
    }


def _print(found: erase.ErasureResult) -> None:
    print_table("", ["table", "rows"], [[table, rows] for table, rows in found.rows.items() if rows], right=["rows"])
    console.print(f"{len(found.landing_objects):,} landing objects; days: {format_days(found.days) or 'none'}")
