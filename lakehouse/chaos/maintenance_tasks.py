"""Maintenance of a small lakehouse that spares nothing for its age, so that there is work to interrupt."""

from collections.abc import Callable, Mapping
from datetime import timedelta

from lakehouse.contracts.streams import Stream
from lakehouse.maintenance.compaction import Budget, compact
from lakehouse.maintenance.erase import erase_rows, expire_history, rewrite_exports
from lakehouse.maintenance.orphans import remove_orphans
from lakehouse.maintenance.retention import apply_retention
from lakehouse.maintenance.subject import Subject
from lakehouse.pipeline.commits import expire_snapshots
from lakehouse.pipeline.lake import Lake

ANY_AGE = timedelta(seconds=-5)
"""Younger than any file, because storage's clock has whole seconds."""

TASKS = ("retention", "compact", "expire", "orphans", "erase")


def maintain(
    lake: Lake, stream: Stream, task: str, refresh: Callable[[], None], subject_key: Mapping[str, str]
) -> None:
    """Run a task on every table of the stream. `erase` removes the rows of `subject_key` (column → value)."""
    tables = [name for name in lake.tables.names() if stream.name in name]
    match task:
        case "retention":
            list(apply_retention(lake, stream))
        case "compact":
            for name in tables:
                compact(lake, name, Budget(), quiet=timedelta(0))
        case "expire":
            for name in tables:
                while expire_snapshots(lake, lake.tables.load(name), at_least=1):
                    pass
        case "orphans":
            for name in tables:
                remove_orphans(lake, name, age=ANY_AGE)
        case "erase":
            subject = Subject.parse(stream, [f"{column}={value}" for column, value in subject_key.items()])
            erase_rows(lake, subject)
            refresh()
            rewrite_exports(lake, stream)
            expire_history(lake, subject)
        case _:
            raise ValueError(task)
