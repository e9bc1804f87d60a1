"""`maintain` and `tag`."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict

from lakehouse.cli.printing import console, print_json, print_table
from lakehouse.errors import LakehouseError
from lakehouse.maintenance import tags
from lakehouse.maintenance.tags import Tag
from lakehouse.maintenance.tasks import TaskReport, run_task
from lakehouse.pipeline.lake import Lake
from lakehouse.settings import get_settings
from lakehouse.storage.embedded import lifecycle as server

HISTORY = "history"


def run_tasks(tasks: Sequence[str], *, dry_run: bool, as_json: bool) -> None:
    """Run these tasks in turn and print what they did. Raises LakehouseError when one met a problem."""
    settings = get_settings()
    with server.running(settings) as connection:
        lake = Lake(settings, connection)
        found = []
        for outcome in _outcomes(lake, tasks, dry_run):
            found.append(outcome)
            if not as_json:
                _print(outcome, dry_run)
    if as_json:
        print_json([asdict(outcome) for outcome in found])
    elif not found:
        console.print("There is nothing to do.")
    if problems := [one for one in found if one.problem]:
        raise LakehouseError(f"{problems[0].task} of {problems[0].what}: {problems[0].problem}")


def _outcomes(lake: Lake, tasks: Sequence[str], dry_run: bool) -> Iterator[TaskReport]:
    for task in tasks:
        if task == HISTORY:
            yield from _history(lake, dry_run)
        else:
            yield from run_task(lake, task, dry_run=dry_run)


def _history(lake: Lake, dry_run: bool) -> Iterator[TaskReport]:
    from lakehouse.runtime.instance import open_instance  # Dagster takes seconds to import
    from lakehouse.runtime.pruning import prune

    with open_instance(lake.settings) as history:
        done = prune(history, lake.settings, dry_run=dry_run)
    if done.runs or done.events or done.ticks:
        words = f"{done.runs:,} runs, {done.events:,} events, {done.logs:,} logs, {done.ticks:,} ticks"
        yield TaskReport(HISTORY, "Dagster's history", words, done.logs)


def _print(outcome: TaskReport, dry_run: bool) -> None:
    verb = "would: " if dry_run else ""
    size = f" ({outcome.files:,} files, {outcome.bytes / 1e6:,.1f} MB)" if outcome.files or outcome.bytes else ""
    words = f"[red]{outcome.problem}[/red]" if outcome.problem else f"{verb}{outcome.done}{size}"
    console.print(f"{outcome.task:10} {outcome.what:36} {words}", highlight=False, soft_wrap=True)


def create_tag(name: str, tables: Sequence[str], *, as_json: bool) -> None:
    """Pin the snapshots of tables under a name."""
    settings = get_settings()
    with server.running(settings) as connection:
        made = tags.create_tags(Lake(settings, connection), name, tables)
    if as_json:
        print_json([asdict(tag) for tag in made])
    else:
        console.print(
            f"{name} pins {len(made)} tables; read one with `select … from layer.table at (version => '{name}')`.",
            soft_wrap=True,
        )


def list_tags(*, as_json: bool) -> None:
    """Print every tag."""
    settings = get_settings()
    with server.running(settings) as connection:
        found = tags.list_tags(Lake(settings, connection))
    if as_json:
        print_json([asdict(tag) for tag in found])
        return
    print_table("", ["tag", "table", "snapshot", "committed"], [_row(tag) for tag in found])


def _row(tag: Tag) -> list[str]:
    committed = f"{tag.committed:%Y-%m-%d %H:%M:%S}" if tag.committed else ""
    return [tag.name, tag.table, str(tag.snapshot_id), committed]


def delete_tag(name: str, tables: Sequence[str]) -> None:
    """Take a tag off tables."""
    settings = get_settings()
    with server.running(settings) as connection:
        gone = tags.delete_tags(Lake(settings, connection), name, tables)
    console.print(f"{name} is off {len(gone)} tables.")
