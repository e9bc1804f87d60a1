"""The tasks of maintenance by name, over all tables and streams; one that fails keeps no other from its turn."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from lakehouse.errors import LakehouseError, StorageUnavailableError
from lakehouse.maintenance.budget import Budget
from lakehouse.maintenance.compaction import compact
from lakehouse.maintenance.manifests import tidy
from lakehouse.maintenance.orphans import remove_orphans, remove_uploads
from lakehouse.maintenance.retention import apply_retention, forget_answers
from lakehouse.pipeline.lake import Lake
from lakehouse.pipeline.writing import expire_old


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a task did to a table or layer, in words and figures; or the problem that it met there."""

    task: str
    what: str
    done: str = ""
    files: int = 0
    bytes: int = 0
    problem: str = ""


@dataclass(frozen=True, slots=True)
class Run:
    """One run of maintenance: the lake, how much may be done, and whether to say it only."""

    lake: Lake
    budget: Budget
    dry_run: bool = False


Work = Callable[[Run, str], Iterator[Outcome]]


def run_task(lake: Lake, task: str, *, dry_run: bool = False, budget: Budget | None = None) -> Iterator[Outcome]:
    """Run a task of TASKS; what it did, as it is done. Raises StorageUnavailableError."""
    names, work = TASKS[task]
    run = Run(lake, budget or Budget(), dry_run)
    for name in names(lake):
        try:
            yield from work(run, name)
        except StorageUnavailableError:
            raise
        except LakehouseError as problem:
            yield Outcome(task, name, problem=str(problem))
        except Exception as problem:  # of the catalog, the engine, a file: the other tables have their turn
            yield Outcome(task, name, problem=f"{type(problem).__name__}: {problem}")


def _tables(lake: Lake) -> list[str]:
    return lake.tables.names()


def _with_leftovers(names: Callable[[Lake], list[str]]) -> Callable[[Lake], list[str]]:
    return lambda lake: [*names(lake), REST]


REST = ""
"""What belongs to no table and no stream."""


def _retention(run: Run, name: str) -> Iterator[Outcome]:
    if name == REST:
        answers = forget_answers(run.lake, dry_run=run.dry_run)
        if answers.files:
            yield Outcome("retention", answers.what, "forgotten", answers.files)
        return
    for one in apply_retention(run.lake, run.lake.streams[name], dry_run=run.dry_run):
        yield Outcome("retention", one.what, f"{one.partitions:,} partitions", one.files, one.bytes)


def _compact(run: Run, name: str) -> Iterator[Outcome]:
    one = compact(run.lake, name, run.budget, dry_run=run.dry_run)
    if one.files_before or one.skipped:
        left = f", {one.skipped:,} left to their writers" if one.skipped else ""
        done = f"{one.files_before:,} files became {one.files_after:,}{left}"
        yield Outcome("compact", name, done, one.files_before - one.files_after, one.bytes)


def _expire(run: Run, name: str) -> Iterator[Outcome]:
    gone = 0
    while some := expire_old(run.lake, run.lake.tables.load(name), at_least=1, dry_run=run.dry_run):
        gone += some
        if run.dry_run:
            break
    if gone:
        yield Outcome("expire", name, f"{gone:,} snapshots")


def _manifests(run: Run, name: str) -> Iterator[Outcome]:
    one = tidy(run.lake, name, dry_run=run.dry_run)
    if one.after < one.before:
        yield Outcome("manifests", name, f"{one.before:,} became {one.after:,}", one.before - one.after)


def _orphans(run: Run, name: str) -> Iterator[Outcome]:
    dry = run.dry_run
    one = remove_uploads(run.lake, dry_run=dry) if name == REST else remove_orphans(run.lake, name, dry_run=dry)
    if one.files:
        yield Outcome("orphans", one.what, "that nothing refers to", one.files, one.bytes)


TASKS: dict[str, tuple[Callable[[Lake], list[str]], Work]] = {
    "retention": (_with_leftovers(lambda lake: list(lake.streams)), _retention),
    "compact": (_tables, _compact),
    "expire": (_tables, _expire),
    "manifests": (_tables, _manifests),
    "orphans": (_with_leftovers(_tables), _orphans),
}
"""In the order in which each leaves least to those after it: what is dropped or replaced, then what refers to it, then it."""
