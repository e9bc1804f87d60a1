"""Start processes that write to an event history: `python event_writer.py FOLDER 'RUN SIZE BATCHES'…`."""

import multiprocessing
import subprocess
import sys
import time
from pathlib import Path

from dagster import (
    AssetMaterialization,
    DagsterEvent,
    DagsterEventType,
    EventLogEntry,
)
from dagster._core.events import StepMaterializationData

from lakehouse.runtime.event_log import PooledSqliteEventLogStorage


def materialization(run_id: str, number: int) -> EventLogEntry:
    data = StepMaterializationData(AssetMaterialization(["silver", run_id], partition=str(number)))
    event = DagsterEvent(DagsterEventType.ASSET_MATERIALIZATION.value, "job", event_specific_data=data)
    return EventLogEntry(None, "debug", "", run_id, time.time(), dagster_event=event)  # type: ignore[no-untyped-call]


def partition(event: EventLogEntry) -> str | None:
    return event.get_dagster_event().partition


def writer(base_dir: Path, *works: tuple[str, int, int]) -> "subprocess.Popen[str]":
    """Start a process that stores batches of events for each work (run, size, batches).

    It prints how many events it has stored after each batch. Several works run at once, each in a child.
    """
    words = [f"{run_id} {size} {batches}" for run_id, size, batches in works]
    return subprocess.Popen([sys.executable, __file__, str(base_dir), *words], stdout=subprocess.PIPE, text=True)


def write(base_dir: str, run_id: str, size: int, batches: int) -> None:
    history = PooledSqliteEventLogStorage(base_dir)
    for start in range(0, batches * size, size):
        history.store_event_batch([materialization(run_id, n) for n in range(start, start + size)])
        sys.stdout.write(f"{start + size}\n")
        sys.stdout.flush()
    history.dispose()


def main(base_dir: str, *works: str) -> None:
    """Write as `writer` asks. Fork children before opening anything, because importing it all four times takes long."""
    parsed = [(run_id, int(size), int(batches)) for run_id, size, batches in map(str.split, works)]
    if len(parsed) == 1:
        write(base_dir, *parsed[0])
        return
    forked = multiprocessing.get_context("fork")
    children = [forked.Process(target=write, args=(base_dir, *work)) for work in parsed]
    for child in children:
        child.start()
    for child in children:
        child.join()
    sys.exit(sum(child.exitcode != 0 for child in children))


if __name__ == "__main__":
    main(*sys.argv[1:])
