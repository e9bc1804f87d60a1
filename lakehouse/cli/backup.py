"""`backup` and `restore`: a home at one moment, while it runs."""

from dataclasses import asdict
from typing import Annotated

import typer

from lakehouse.cli.options import Json
from lakehouse.cli.printing import counted, print_json, print_text
from lakehouse.maintenance.backup import back_up
from lakehouse.maintenance.backup_store import BackupStore
from lakehouse.maintenance.restore import restore as restore_home
from lakehouse.settings import get_settings

Place = Annotated[str, typer.Argument(help="A folder, or s3://bucket/prefix with the AWS variables' credentials.")]
Keep = Annotated[int | None, typer.Option(min=1, help="Delete all but the newest of so many backups there.")]
At = Annotated[
    str | None, typer.Option(help="The newest backup at or before this, such as 2026-11-28 or 2026-11-28T12.")
]
List = Annotated[bool, typer.Option("--list", help="List the backups there, and restore nothing.")]
NoAudit = Annotated[bool, typer.Option("--no-audit", help="Don't audit the restored lake.")]


def backup(place: Place, keep: Keep = None, as_json: Json = False) -> None:
    """Back up the lake, Dagster's history and the API keys, while everything runs. Writes only what is new."""
    report = back_up(get_settings(), place, keep=keep)
    if as_json:
        print_json(asdict(report))
        return
    print_text(
        f"{report.moment}: {counted(report.files, 'file')}, {_mb(report.bytes)}, of which {_mb(report.new_bytes)} are new."
    )
    if report.removed:
        print_text(f"Deleted {counted(report.removed, 'older backup')}.")


def restore(place: Place, at: At = None, list_only: List = False, no_audit: NoAudit = False) -> None:
    """Restore a backup into an empty LAKEHOUSE_HOME and audit it. Exit with 1 if the audit finds a difference."""
    settings = get_settings()
    if list_only:
        store = BackupStore.open(place)
        for name in store.moments():
            print_text(f"{name}  {_mb(store.moment(name).size)}")
        return
    moment = restore_home(settings, place, at=at)
    print_text(
        f"{settings.root} is as it was at {moment.name}: {counted(len(moment.files), 'file')}, {_mb(moment.size)}."
    )
    if not no_audit:
        from lakehouse.cli.audit import audit  # it imports the engine, which restoring does not need

        audit()


def _mb(size: int) -> str:
    return f"{size / 1e6:,.1f} MB"
