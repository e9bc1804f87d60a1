"""`tag`: names that pin snapshots of tables."""

from dataclasses import asdict
from typing import Annotated

import typer

from lakehouse.cli.options import Json
from lakehouse.cli.printing import console, counted, print_json, print_table
from lakehouse.maintenance import tags
from lakehouse.maintenance.tags import Tag
from lakehouse.pipeline.lake import Lake
from lakehouse.settings import get_settings
from lakehouse.storage.embedded import lifecycle as storage

tag = typer.Typer(no_args_is_help=True, add_completion=False)

TagName = Annotated[str, typer.Argument(metavar="NAME", help="A name such as before-migration.")]
TagTables = Annotated[
    list[str] | None, typer.Option("--table", help="A table such as silver.retail; all when you give none.")
]


@tag.command("create")
def create(name: TagName, table: TagTables = None, as_json: Json = False) -> None:
    """Pin what tables hold now. Read it as `layer.table at (version => 'NAME')` until you delete the tag."""
    settings = get_settings()
    with storage.running(settings) as connection:
        created = tags.create_tags(Lake(settings, connection), name, table or [])
    if as_json:
        print_json([asdict(tag) for tag in created])
    else:
        console.print(
            f"{name} pins {counted(len(created), 'table')}; read one with `select … from layer.table at (version => '{name}')`.",
            soft_wrap=True,
        )


@tag.command("list")
def list_tags(as_json: Json = False) -> None:
    """List the tags of all tables."""
    settings = get_settings()
    with storage.running(settings) as connection:
        listed = tags.list_tags(Lake(settings, connection))
    if as_json:
        print_json([asdict(tag) for tag in listed])
        return
    print_table("", ["tag", "table", "snapshot", "committed"], [_row(tag) for tag in listed])


def _row(tag: Tag) -> list[str]:
    committed = f"{tag.committed:%Y-%m-%d %H:%M:%S}" if tag.committed else ""
    return [tag.name, tag.table, str(tag.snapshot_id), committed]


@tag.command("delete")
def delete(name: TagName, table: TagTables = None) -> None:
    """Delete a tag. The next maintenance drops the snapshots that it alone kept."""
    settings = get_settings()
    with storage.running(settings) as connection:
        deleted = tags.delete_tags(Lake(settings, connection), name, table or [])
    console.print(f"Deleted {name} from {counted(len(deleted), 'table')}.")
