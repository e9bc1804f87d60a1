"""`maintain` and `tag`: what keeps the lake quick and small, and what it must keep."""

from typing import Annotated

import typer

from lakehouse.cli.options import DryRun, Json

maintain = typer.Typer(
    help="Keep the lake quick and small; all of it when no task is named.", invoke_without_command=True
)

TASKS = {
    "retention": "Drop what the contracts no longer ask to keep.",
    "compact": "Put small files of a partition together, those first that save most.",
    "expire": "Let old snapshots go; tags and the last of each day within LAKEHOUSE_TIME_TRAVEL_DAYS stay.",
    "manifests": "Merge the manifests of tables that have many.",
    "orphans": "Delete files of tables, and halves of uploads, that nothing refers to and that are older than a day.",
    "history": "Drop old runs, their events and logs from Dagster's history; what is known of each partition stays.",
}
"""In the order in which each is of most use to the next."""


@maintain.callback()
def maintain_all(context: typer.Context, dry_run: DryRun = False, as_json: Json = False) -> None:
    """Every task in turn, as every night at 04:00. Each may run beside ingest, and be killed and run again."""
    if context.invoked_subcommand is None:
        _run(*TASKS, dry_run=dry_run, as_json=as_json)


def _add(task: str, said: str) -> None:
    @maintain.command(task, help=said)
    def maintain_one(dry_run: DryRun = False, as_json: Json = False) -> None:
        _run(task, dry_run=dry_run, as_json=as_json)


for _task, _said in TASKS.items():
    _add(_task, _said)


def _run(*tasks: str, dry_run: bool, as_json: bool) -> None:
    from lakehouse.cli.maintain import run_tasks

    run_tasks(tasks, dry_run=dry_run, as_json=as_json)


tag = typer.Typer(help="Names that pin a table's snapshot.", no_args_is_help=True)
TagName = Annotated[str, typer.Argument(metavar="NAME", help="Such as before-migration.")]
TagTables = Annotated[
    list[str] | None, typer.Option("--table", help="A table such as silver.retail; all when none is given.")
]


@tag.command("create")
def tag_create(name: TagName, table: TagTables = None, as_json: Json = False) -> None:
    """Pin what tables hold now, to be read as `layer.table at (version => 'NAME')` until the tag is deleted."""
    from lakehouse.cli.maintain import create_tag

    create_tag(name, table or [], as_json=as_json)


@tag.command("list")
def tag_list(as_json: Json = False) -> None:
    """List the tags of all tables."""
    from lakehouse.cli.maintain import list_tags

    list_tags(as_json=as_json)


@tag.command("delete")
def tag_delete(name: TagName, table: TagTables = None) -> None:
    """Take a tag off; what it alone kept goes with the next maintenance."""
    from lakehouse.cli.maintain import delete_tag

    delete_tag(name, table or [])
