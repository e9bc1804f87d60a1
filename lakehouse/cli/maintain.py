"""`maintain`: the tasks that keep the lake fast and small, by hand."""

from collections.abc import Iterator
from dataclasses import asdict

import typer

from lakehouse.cli.options import DryRun, Json
from lakehouse.cli.printing import console, counted, print_json, print_text
from lakehouse.errors import LakehouseError
from lakehouse.maintenance.tasks import TaskReport, run_task
from lakehouse.pipeline.lake import Lake
from lakehouse.settings import get_settings
from lakehouse.storage.embedded import lifecycle as storage

HISTORY = "history"

TASKS = {
    "retention": "Drop data that is older than its contract keeps.",
    "compact": "Merge the small files of each partition, starting where that saves most.",
    "expire": "Expire old snapshots; tags and the last of each day within LAKEHOUSE_TIME_TRAVEL_DAYS stay.",
    "manifests": "Merge the manifests of tables that have many.",
    "orphans": "Delete files and unfinished uploads older than a day that no table refers to.",
    HISTORY: "Drop old runs, their events and logs from Dagster's history; each partition's latest state stays.",
}
"""Help by task, in the order in which each task leaves the least work to the next."""

maintain = typer.Typer(invoke_without_command=True, add_completion=False)


@maintain.callback()
def maintain_all(context: typer.Context, dry_run: DryRun = False, as_json: Json = False) -> None:
    """Run every task in turn, as the schedule does at 04:00. Safe beside ingest, to kill and to repeat."""
    if context.invoked_subcommand is None:
        _run(*TASKS, dry_run=dry_run, as_json=as_json)


def _add_command(task: str, help_text: str) -> None:
    @maintain.command(task, help=help_text)
    def run_one(dry_run: DryRun = False, as_json: Json = False) -> None:
        _run(task, dry_run=dry_run, as_json=as_json)


for _task, _help in TASKS.items():
    _add_command(_task, _help)


def _run(*tasks: str, dry_run: bool, as_json: bool) -> None:
    """Run the tasks in turn and print what they did. Raises LakehouseError if a task failed."""
    settings = get_settings()
    reports = []
    with storage.running(settings) as connection:
        lake = Lake(settings, connection)
        for report in (report for task in tasks for report in _reports(lake, task, dry_run)):
            reports.append(report)
            if not as_json:
                _print(report, dry_run)
    if as_json:
        print_json([asdict(report) for report in reports])
    elif not reports:
        console.print("There is nothing to do.")
    if failed := [report for report in reports if report.problem]:
        raise LakehouseError(f"{failed[0].task} of {failed[0].what}: {failed[0].problem}")


def _reports(lake: Lake, task: str, dry_run: bool) -> Iterator[TaskReport]:
    return _prune_history(lake, dry_run) if task == HISTORY else run_task(lake, task, dry_run=dry_run)


def _prune_history(lake: Lake, dry_run: bool) -> Iterator[TaskReport]:
    from lakehouse.runtime.instance import open_instance  # Dagster takes seconds to import
    from lakehouse.runtime.pruning import prune

    with open_instance(lake.settings) as instance:
        pruned = prune(instance, lake.settings, dry_run=dry_run)
    if pruned.runs or pruned.events or pruned.ticks:
        counts = f"{pruned.runs:,} runs, {pruned.events:,} events, {pruned.logs:,} logs, {pruned.ticks:,} ticks"
        yield TaskReport(HISTORY, "Dagster's history", counts, pruned.logs)


def _print(report: TaskReport, dry_run: bool) -> None:
    verb = "would: " if dry_run else ""
    size = f" ({counted(report.files, 'file')}, {report.bytes / 1e6:,.1f} MB)" if report.files or report.bytes else ""
    text = report.problem or f"{verb}{report.done}{size}"
    print_text(f"{report.task:10} {report.what:36} {text}", style="red" if report.problem else None)
