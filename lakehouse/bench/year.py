"""`bench year`: Dagster's history after a year of 5- and 10-minute runs, as it would be unpruned, and pruned."""

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psutil

from lakehouse.assets.partitions import exact_tags
from lakehouse.automation.instance import dagster_home, environment, instance
from lakehouse.automation.jobs import REALTIME, SERVING
from lakehouse.automation.pruning import prune
from lakehouse.automation.runs import Runner, raise_for
from lakehouse.bench.measuring import Figure, figure, own_lake
from lakehouse.bench.pages import ask, page, queries, running
from lakehouse.bench.runs import Template, write_history
from lakehouse.ingest.landing import land
from lakehouse.ingest.simulation import Simulator
from lakehouse.layers.lake import Lake

EVENTS = 200
PAGE_SECONDS = 2.0
TICKS = 3
DAEMON_SECONDS = 45.0
PRUNED_DAYS = 30
"""Days of runs that are pruned at most: the nightly task has one day's to prune."""


def measure(days: int, daemon_seconds: float = DAEMON_SECONDS) -> Iterator[Figure]:
    """The figures: each is taken on an empty history, on one of so many days, and on that pruned."""
    with own_lake(realtime_start=(datetime.now(UTC) - timedelta(days=days + 1)).date()) as lake:
        settings = lake.settings
        own = {**os.environ, **environment(settings), "LAKEHOUSE_REALTIME_START": str(settings.realtime_start)}
        runner = Runner(lake)
        templates = _execute(lake, runner)
        yield from _states(lake, runner, own, "new history", daemon_seconds)

        started = time.monotonic()
        copies = write_history(settings, templates, days, settings.history_days)
        written = time.monotonic() - started
        yield figure("year", "written in", written, "s", days=days, runs=copies.runs, events=copies.events)
        yield from _states(lake, runner, own, f"{days} days", daemon_seconds)

        started = time.monotonic()
        # As many as there are at most, from the oldest on, would take long: the nightly task has a day's.
        with instance(settings) as history:
            nightly = settings.model_copy(update={"history_days": max(settings.history_days, days - PRUNED_DAYS)})
            done = prune(history, nightly)
        taken = time.monotonic() - started
        if done.runs:
            a_day = 24 * 18 * taken / done.runs
            yield figure("year", "pruned in", taken, "s", runs=done.runs, events=done.events, a_day=round(a_day, 2))
            yield from _states(lake, runner, own, "pruned", daemon_seconds)


def _states(lake: Lake, runner: Runner, own: dict[str, str], state: str, daemon_seconds: float) -> Iterator[Figure]:
    size = sum(file.stat().st_size for file in _databases(lake))
    yield figure("year", f"{state}: storage", size / 1e6, "MB")
    ticks = [_tick(lake, runner)[0] for _ in range(TICKS)]
    yield figure("year", f"{state}: realtime tick", statistics.median(ticks), "s")
    looked = json.loads(subprocess.run([sys.executable, "-c", _LOOK], env=own, check=True, capture_output=True).stdout)
    for sensor, seconds in looked.items():
        yield figure("year", f"{state}: sensor {sensor}", seconds, "s")
    with page(own) as url:
        for name, query in queries().items():
            ask(url, query)  # the first also loads what the page keeps in memory
            taken = [ask(url, query)[0] for _ in range(3)]
            yield figure("year", f"{state}: {name}", statistics.median(taken), "s", PAGE_SECONDS)
    if daemon_seconds:
        yield figure("year", f"{state}: daemon memory", _daemon(own, daemon_seconds), "MiB")


def _execute(lake: Lake, runner: Runner) -> list[Template]:
    """One real run of each of the two jobs."""
    _, realtime, hour = _tick(lake, runner)
    today = datetime.now(UTC).date()
    done = runner.run(SERVING, exact_tags([today]))
    raise_for(done)
    return [Template(REALTIME, realtime, hour), Template(SERVING, done.run_id, str(today))]


def _tick(lake: Lake, runner: Runner) -> tuple[float, str, str]:
    """New events of every stream into realtime by the job: seconds, the run's id and the hour."""
    now = datetime.now(UTC)
    for name, stream in lake.streams.items():
        batch = Simulator(stream.contract, stream.simulate, 1).batch(EVENTS, now - timedelta(minutes=5), now)
        land(lake.objects, name, batch.lines, now=now)
    hour = f"{now:%Y-%m-%d-%H}:00"
    started = time.perf_counter()
    done = runner.run(REALTIME, {"dagster/partition": hour})
    raise_for(done)
    return time.perf_counter() - started, done.run_id, hour


_LOOK = """
import json, time
import dagster as dg
from lakehouse.assets.resources import LakeResource
from lakehouse.automation.instance import instance
from lakehouse.automation.sensors import incoming_files, late_data
from lakehouse.settings import get_settings
found = {}
with instance(get_settings()) as history:
    for sensor in (incoming_files, late_data):
        for _ in range(2):
            started = time.perf_counter()
            with dg.build_sensor_context(instance=history, resources={"lake": LakeResource()}) as context:
                sensor.evaluate_tick(context)
            found[sensor.name] = time.perf_counter() - started
print(json.dumps(found))
"""


def _daemon(own: dict[str, str], seconds: float) -> float:
    """The most memory that the daemon and what it starts have had after so long, in MiB."""
    words = [sys.executable, "-m", "dagster._daemon", "run", "-m", "lakehouse.definitions"]
    most = 0.0
    with running(words, own) as process:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            most = max(most, _memory(process))
            time.sleep(0.5)
    return most


def _memory(process: psutil.Process) -> float:
    total = 0
    for one in [process, *process.children(recursive=True)]:
        try:
            total += one.memory_info().rss
        except psutil.NoSuchProcess:
            continue
    return total / (1 << 20)


def _databases(lake: Lake) -> list[Path]:
    return [file for file in (dagster_home(lake.settings)).rglob("*") if file.is_file() and ".db" in file.name]
