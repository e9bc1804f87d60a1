"""`bench year`: Dagster's history after a year of 5- and 10-minute runs without pruning.

Old runs have only the events that Dagster reads later, because a year of all events is ten million.
"""

import json
import os
import sqlite3
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psutil

from lakehouse.assets.partitions import exact_tags
from lakehouse.automation.jobs import REALTIME, SERVING
from lakehouse.automation.runs import Runner, raise_on_failure
from lakehouse.bench.dagster_pages import ask, queries
from lakehouse.bench.figures import Figure, figure, own_lake
from lakehouse.bench.programs import DEFINITIONS, running
from lakehouse.bench.run_history import Template, write_history
from lakehouse.landing.keys import hour_partition
from lakehouse.landing.writer import land
from lakehouse.pipeline.lake import Lake
from lakehouse.runtime.instance import dagster_home, environment, open_instance
from lakehouse.runtime.pruning import prune
from lakehouse.runtime.supervisor import dagster_programs
from lakehouse.settings import Settings
from lakehouse.sources.simulation import Simulator

EVENTS = 200
PAGE_SECONDS = 2.0
TICKS = 3
WATCHED_SECONDS = 10.0
PRUNED_DAYS = 5
"""Days of runs to prune; the nightly task prunes one day."""


def measure(days: int, watched_seconds: float = WATCHED_SECONDS) -> Iterator[Figure]:
    """Yield the figures, each on a new history and on one of `days` days."""
    with own_lake(realtime_start=(datetime.now(UTC) - timedelta(days=days + 1)).date()) as lake:
        settings = lake.settings
        # This process loads the definitions as well.
        os.environ.update(environment(settings) | {"LAKEHOUSE_REALTIME_START": str(settings.realtime_start)})
        runner = Runner(lake)
        templates = _execute(lake, runner)
        yield from _state(lake, runner, "new history", watched_seconds)

        started = time.monotonic()
        copies = write_history(settings, templates, days, settings.history_days)
        written = time.monotonic() - started
        yield figure("year", "written in", written, "s", days=days, runs=copies.runs, events=copies.events)
        yield from _state(lake, runner, f"{days} days", watched_seconds)
        yield from _prune(settings, days)


def _state(lake: Lake, runner: Runner, state: str, watched_seconds: float) -> Iterator[Figure]:
    yield figure("year", f"{state}: storage", sum(file.stat().st_size for file in _databases(lake)) / 1e6, "MB")
    ticks = [_tick(lake, runner)[0] for _ in range(TICKS)]
    yield figure("year", f"{state}: realtime tick", statistics.median(ticks), "s")
    sensor_seconds = json.loads(
        subprocess.run([sys.executable, "-P", "-c", _EVALUATE_SENSORS], check=True, capture_output=True).stdout
    )
    for sensor, seconds in sensor_seconds.items():
        yield figure("year", f"{state}: sensor {sensor}", seconds, "s")
    programs = dagster_programs(lake.settings, DEFINITIONS, page=True)
    with ExitStack() as stack:
        processes = {program.name: stack.enter_context(running(lake.settings, program)) for program in programs}
        url = programs[-1].url()
        assert url is not None
        for name, query in queries().items():
            ask(url, query)  # the first request also fills the page's caches
            waits = [ask(url, query)[0] for _ in range(3)]
            yield figure("year", f"{state}: {name}", statistics.median(waits), "s", PAGE_SECONDS)
        for name, peak in _memory(processes, watched_seconds).items():
            yield figure("year", f"{state}: memory of {name}", peak, "MiB")


def _prune(settings: Settings, days: int) -> Iterator[Figure]:
    """Prune the oldest days of runs as the nightly task does; SQLite uses their space again."""
    started = time.monotonic()
    with open_instance(settings) as history:
        oldest = settings.model_copy(update={"history_days": max(settings.history_days, days - PRUNED_DAYS)})
        done = prune(history, oldest)
    seconds = time.monotonic() - started
    if done.runs:
        a_day = 24 * 18 * seconds / done.runs
        yield figure("year", "pruned in", seconds, "s", runs=done.runs, events=done.events, a_day=round(a_day, 2))
        yield figure("year", "free after pruning", _free(settings) / 1e6, "MB")


def _free(settings: Settings) -> int:
    """Return the free bytes inside the databases, which are used again before they grow."""
    free = 0
    for name in ("runs.db", "event_log.db"):
        with closing(sqlite3.connect(dagster_home(settings) / "history" / name)) as database:
            (pages,), (size,) = (
                database.execute(f"pragma {pragma}").fetchone() for pragma in ("freelist_count", "page_size")
            )
            free += pages * size
    return free


def _execute(lake: Lake, runner: Runner) -> list[Template]:
    """Run each of the two jobs once; return the runs as templates."""
    _, realtime, hour = _tick(lake, runner)
    today = datetime.now(UTC).date()
    done = runner.run(SERVING, exact_tags([today]))
    raise_on_failure(done)
    return [Template(REALTIME, realtime, hour), Template(SERVING, done.run_id, str(today))]


def _tick(lake: Lake, runner: Runner) -> tuple[float, str, str]:
    """Land new events of every stream and run the job `realtime`; return seconds, run id and hour."""
    now = datetime.now(UTC)
    for name, stream in lake.streams.items():
        batch = Simulator(stream.contract, stream.simulate, 1).batch(EVENTS, now - timedelta(minutes=5), now)
        land(lake.objects, name, batch.lines, now=now)
    hour = hour_partition(now)
    started = time.perf_counter()
    done = runner.run(REALTIME, {"dagster/partition": hour})
    raise_on_failure(done)
    return time.perf_counter() - started, done.run_id, hour


_EVALUATE_SENSORS = """
import json, time
import dagster as dg
from lakehouse.assets.resources import LakeResource
from lakehouse.runtime.instance import open_instance
from lakehouse.automation.sensors import incoming_files, late_data
from lakehouse.settings import get_settings
found = {}
with open_instance(get_settings()) as history:
    for sensor in (incoming_files, late_data):
        for _ in range(2):
            started = time.perf_counter()
            with dg.build_sensor_context(instance=history, resources={"lake": LakeResource()}) as context:
                sensor.evaluate_tick(context)
            found[sensor.name] = time.perf_counter() - started
print(json.dumps(found))
"""


def _memory(processes: dict[str, psutil.Process], seconds: float) -> dict[str, float]:
    """Return the peak memory of each process with its children, in MiB. A page shared by several counts for each."""
    peak = dict.fromkeys(processes, 0.0)
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        for name, process in processes.items():
            peak[name] = max(peak[name], _resident(process))
        time.sleep(0.5)
    return peak


def _resident(process: psutil.Process) -> float:
    total = 0
    for member in [process, *process.children(recursive=True)]:
        try:
            total += member.memory_info().rss
        except psutil.NoSuchProcess:
            continue
    return total / (1 << 20)


def _databases(lake: Lake) -> list[Path]:
    return [file for file in (dagster_home(lake.settings)).rglob("*") if file.is_file() and ".db" in file.name]
