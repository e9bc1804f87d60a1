"""Days are exact whatever is killed, and whichever engine computes the same day at the same time."""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, date, datetime, timedelta

import psutil
import pytest

from lakehouse.auditing.audit import audit
from lakehouse.contracts.streams import discover
from lakehouse.maintenance.orphans import remove_orphans
from lakehouse.pipeline.lake import Lake
from lakehouse.sources.simulation import Faults, Simulator
from lakehouse_tests.nightly import NIGHTLY
from lakehouse_tests.pipeline.own import Own

DAY = date(2025, 11, 20)
EVENTS = 400
MAX_KILLED = 2
FAULTS = Faults(late=0.05, repeated=0.2, invalid=0.02, malformed=0.02)

JOB = """
import sys, json
from pathlib import Path
from lakehouse.cli.job import job
from lakehouse.engine.workers import LocalWorkers
from lakehouse.pipeline import cleaning, cut_days
cleaning.MAX_ROWS_IN_MEMORY = 50
cut_days.PIECE_ROWS = 150
LocalWorkers.pieces = lambda self, wanted: wanted
print("ready", flush=True)
job("silver", sys.argv[1], sys.argv[2])
"""
"""Cleans a day in pieces, as Spark's driver does."""


def _land(own: Own) -> None:
    stream = discover()["clickstream"]
    start = datetime(2025, 11, 20, 3, tzinfo=UTC)
    until = start + timedelta(hours=1)
    batch = Simulator(stream.contract, stream.simulate, 1, FAULTS).batch(EVENTS, start, until)
    own.land(batch.lines.splitlines(), until)
    own.bronze()


def _orphans(own: Own) -> int:
    tables = (f"{layer}.{own.name}" for layer in ("bronze", "silver", "quarantine"))
    now = datetime.now(UTC) + timedelta(seconds=1)
    return sum(remove_orphans(own.lake, table, age=timedelta(0), now=now).removed for table in tables)


def _assert_exact(own: Own) -> None:
    assert audit(own.lake, [own.stream], read_landing=False).wrong == []
    assert own.clean(DAY).ledgers[DAY].conserved


def test_both_engines_may_clean_one_day_at_once(make_stream: Callable[..., Own], sail: str) -> None:
    own = make_stream("clickstream")
    _land(own)
    settings = own.lake.settings.model_copy(update={"engine": "spark", "spark": sail, "spark_from_mb": 0})
    other = Lake(settings, own.lake.connection)
    other.streams, other.engine = own.lake.streams, own.lake.engine
    lakes = [own.lake, other, own.lake, other]
    with ThreadPoolExecutor(4) as pool:
        results = [*pool.map(lambda lake: Own(lake, own.stream).clean(DAY).ledgers[DAY], lakes)]
    assert len({(ledger.silver, ledger.quarantined, ledger.duplicates) for ledger in results}) == 1
    _assert_exact(own)


@pytest.mark.skipif(not NIGHTLY, reason="kills eight processes, which takes half a minute; NIGHTLY=1 runs it")
def test_driver_killed_at_any_step_leaves_the_last_good_snapshot(make_stream: Callable[..., Own]) -> None:
    own = make_stream("clickstream")
    _land(own)
    expected = own.clean(DAY).ledgers[DAY]
    seconds = _run_job(own, None)
    for step in range(8):
        before = own.lake.tables.load(f"silver.{own.name}").metadata_location
        _run_job(own, seconds * (step + 0.5) / 8)
        _assert_exact(own)
        assert own.counts("silver")[DAY] == expected.silver, before
    _orphans(own)
    assert _orphans(own) == 0
    assert own.clean(DAY).ledgers[DAY] == expected


def _run_job(own: Own, seconds: float | None) -> float:
    """Clean the day in another process, and kill it after some seconds; returns how long it took."""
    started = time.monotonic()
    job = _start_job(own)
    try:
        _, errors = job.communicate(timeout=seconds or 60)
    except subprocess.TimeoutExpired:
        job.kill()
        job.communicate()
    else:
        assert job.returncode == 0, errors
    return time.monotonic() - started


def _start_job(own: Own, **variables: str) -> "subprocess.Popen[str]":
    """Start cleaning the day in another process; returns when it has imported everything."""
    lake = {"LAKEHOUSE_HOME": str(own.lake.settings.home), "LAKEHOUSE_STREAMS": f'["{own.stream.folder.parent}"]'}
    job = subprocess.Popen(
        [sys.executable, "-P", "-c", JOB, own.name, str(DAY)],
        env={**_environment(), **lake, "PYSPARK_PYTHON": sys.executable, **variables},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert job.stdout is not None
    assert job.stdout.readline() == "ready\n"
    return job


@pytest.mark.skipif(not NIGHTLY or shutil.which("java") is None, reason="starts a JVM; NIGHTLY=1 runs it, with Java")
def test_killed_executors_on_java_are_replaced_and_rows_are_exact(make_stream: Callable[..., Own]) -> None:
    own = make_stream("clickstream")
    _land(own)
    expected = own.clean(DAY).ledgers[DAY]
    spark = {"LAKEHOUSE_SPARK": "local-cluster[2,1,1024]", "LAKEHOUSE_SPARK_FROM_MB": "0"}
    job = _start_job(own, LAKEHOUSE_ENGINE="spark", **spark)
    killed = _kill_executors(job)
    _, errors = job.communicate(timeout=200)
    assert job.returncode == 0, errors
    assert killed > 0
    _assert_exact(own)
    assert own.clean(DAY).ledgers[DAY] == expected


def _environment() -> dict[str, str]:
    """Return the variables of this process without those by which pyspark knows a session of Spark Connect."""
    return {name: value for name, value in os.environ.items() if not name.startswith("SPARK_")}


def _kill_executors(job: "subprocess.Popen[str]") -> int:
    """Kill the first two executors of a job as soon as they have started Python; returns how many it killed."""
    killed: set[int] = set()
    while job.poll() is None and len(killed) < MAX_KILLED:
        for process in psutil.Process(job.pid).children(recursive=True):
            with suppress(psutil.Error):
                is_executor = "CoarseGrainedExecutorBackend" in " ".join(process.cmdline())
                if is_executor and process.children() and process.pid not in killed and len(killed) < MAX_KILLED:
                    process.kill()
                    killed.add(process.pid)
        time.sleep(0.05)
    return len(killed)
