"""`bench ingest`: durable HTTP ingest beside the usual way, its price, and its memory over time. See `chaos.kill_ingest` for kills.

The counterpart is FastAPI on uvicorn in one process. It parses the lines and appends them to a local file, without
validation and without fsync.
"""

import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psutil

from lakehouse.bench import load_generator
from lakehouse.bench.figures import Figure, figure, own_lake
from lakehouse.bench.load_generator import LoadResult
from lakehouse.contracts.streams import discover
from lakehouse.engine.connection import scan_sql
from lakehouse.pipeline.bronze import ingest_days
from lakehouse.pipeline.lake import Lake
from lakehouse.processes.child import find_running, process_tree
from lakehouse.processes.service import RunningService
from lakehouse.serving.api import gateway_server as http_server
from lakehouse.settings import Settings
from lakehouse.sources.simulation import Simulator
from lakehouse.storage.embedded import lifecycle as storage

STREAM = "financial"
PATH = f"/v1/streams/{STREAM}/events"
BODIES = 64
"""Different bodies of 1,000 events, sent in turn."""

CONNECTIONS = 128
MEMORY_RATE = 50
"""Requests of 1,000 events per second while memory is measured."""


def measure(seconds: float = 10.0) -> Iterator[Figure]:
    """Yield the figures, each of about `seconds`; then how many events bronze holds, and the counterpart."""
    with own_lake() as lake, serving(lake.settings) as running:
        url = running.url + PATH
        thousand = [load_generator.request(url, body) for body in bodies(BODIES, 1000)]
        single = [load_generator.request(url, body) for body in bodies(1000, 1)]
        acknowledged = load_generator.run(url, thousand, connections=CONNECTIONS, seconds=2.0).acknowledged * 1000

        full, cost = _costed(lake.settings, running, thousand, 1000, seconds)
        yield _rate("1,000 events a request", full, 1000, 600_000, core_microseconds_an_event=cost)
        yield _p99("p99 of that", full, 500)
        steady, cost = _costed(lake.settings, running, thousand, 1000, seconds, rate=100)
        yield _p99("p99 at 100,000 events/s", steady, 250, events=steady.acknowledged * 1000)
        each, cost = _costed(lake.settings, running, single, 1, seconds, connections=1000)
        yield _rate("one event a request", each, 1, core_microseconds_an_event=cost)

        acknowledged += (full.acknowledged + steady.acknowledged) * 1000 + each.acknowledged
        yield figure("ingest", "acknowledged", acknowledged, "events")
        kept = _rows_of_bronze(lake)
        yield figure("ingest", "of these not in bronze", max(acknowledged - kept, 0), "events", 0, in_bronze=kept)
    yield from _without_sync(seconds)
    yield from _counterpart(seconds)


def _without_sync(seconds: float) -> Iterator[Figure]:
    """Yield the first figures again with LAKEHOUSE_SYNC=false: the difference is the price of surviving a power cut."""
    with own_lake(sync=False) as lake, serving(lake.settings) as running:
        thousand = [load_generator.request(running.url + PATH, body) for body in bodies(BODIES, 1000)]
        load_generator.run(running.url + PATH, thousand, connections=CONNECTIONS, seconds=2.0)
        full, cost = _costed(lake.settings, running, thousand, 1000, seconds)
        yield _rate("1,000 events a request, not synced", full, 1000, core_microseconds_an_event=cost)
        steady, cost = _costed(lake.settings, running, thousand, 1000, seconds, rate=100)
        yield _p99("p99 at 100,000 events/s, not synced", steady, None, events=steady.acknowledged * 1000)


def memory(seconds: float = 600.0) -> Iterator[Figure]:
    """Yield the server's resident memory after a tenth of the time and at its end, at 50,000 events/s."""
    with own_lake() as lake, serving(lake.settings) as running:
        url = running.url + PATH
        thousand = [load_generator.request(url, body) for body in bodies(BODIES, 1000)]
        sizes = []
        for part in (0.1, 0.9):
            load_generator.run(url, thousand, connections=CONNECTIONS, seconds=seconds * part, rate=MEMORY_RATE)
            sizes.append(sum(process.memory_info().rss for process in family(running.pid)) / 2**20)
            yield figure("ingest", f"memory after {part * seconds:.0f} s more", sizes[-1], "MiB")
        yield figure("ingest", "memory ratio", sizes[1] / sizes[0], "times", 1.1)


@contextmanager
def serving(settings: Settings) -> Iterator[RunningService]:
    """Run an HTTP server on a free port during the block."""
    try:
        yield http_server.start(settings)
    finally:
        http_server.stop(settings)


def bodies(count: int, events: int) -> list[bytes]:
    """Return `count` bodies of `events` simulated events, without repeats."""
    stream, now = discover()[STREAM], datetime.now(UTC)
    simulator = Simulator(stream.contract, stream.simulate, 1)
    return [simulator.batch(events, now - timedelta(hours=1), now).lines for _ in range(count)]


def family(pid: int | None) -> list[psutil.Process]:
    """Return a process and its children; an empty list if it is gone."""
    process = find_running(pid) if pid else None
    return process_tree(process) if process else []


def _costed(
    settings: Settings,
    running: RunningService,
    requests: list[bytes],
    events: int,
    seconds: float,
    *,
    rate: float | None = None,
    connections: int = CONNECTIONS,
) -> tuple[LoadResult, float]:
    """Run a load; return its result and the core-microseconds per event of server, storage and load generator together.

    Other processes of the machine do not count.
    """
    processes = family(running.pid) + family(storage.status(settings).pid) + [psutil.Process()]
    before = sum(map(_cpu, processes))
    result = load_generator.run(running.url + PATH, requests, connections=connections, seconds=seconds, rate=rate)
    spent = sum(map(_cpu, processes)) - before
    return result, round(spent / max(result.acknowledged * events, 1) * 1e6, 3)


def _cpu(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


def _rate(name: str, result: LoadResult, events: int, reach: float | None = None, **more: float) -> Figure:
    value = result.acknowledged * events / result.seconds
    return figure("ingest", name, value, "events/s", reach, p50_ms=_ms(result, 0.5), p99_ms=_ms(result, 0.99), **more)


def _p99(name: str, result: LoadResult, reach: float | None, **more: float) -> Figure:
    return figure("ingest", name, _ms(result, 0.99), "ms", reach, p50_ms=_ms(result, 0.5), **more)


def _ms(result: LoadResult, share: float) -> float:
    return round(result.percentile(share) * 1e3, 1)


def _rows_of_bronze(lake: Lake) -> int:
    today = datetime.now(UTC).date()
    ingest_days(lake, lake.stream(STREAM), [today - timedelta(days=1), today])
    with lake.engine.cursor() as cursor:
        row = cursor.execute(f"select count(*) from {scan_sql(lake.tables.load(f'bronze.{STREAM}'))}").fetchone()
    return int(row[0]) if row else 0


_USUAL = """
import json
from fastapi import FastAPI, Request
app, file = FastAPI(), open({path!r}, "ab")
@app.post("/events", status_code=202)
async def events(request: Request):
    body = await request.body()
    found = [json.loads(line) for line in body.splitlines()]
    file.write(body)
    file.flush()
    return {{"accepted": len(found)}}
"""

READY = "Uvicorn running on "


def _counterpart(seconds: float) -> Iterator[Figure]:
    """Yield the counterpart's figure; nothing if FastAPI or uvicorn is not installed."""
    with tempfile.TemporaryDirectory(prefix="lakehouse-bench-") as folder:
        Path(folder, "usual.py").write_text(_USUAL.format(path=str(Path(folder, "events.ndjson"))))
        command = [
            sys.executable,
            "-P",
            "-m",
            "uvicorn",
            "usual:app",
            "--port",
            "0",
            "--no-access-log",
            "--no-use-colors",
        ]
        process = subprocess.Popen(command, cwd=folder, stderr=subprocess.PIPE, text=True)
        try:
            ready_line = next((line for line in process.stderr or [] if READY in line), None)
            if ready_line is None:
                return
            url = ready_line.partition(READY)[2].split()[0] + "/events"
            requests = [load_generator.request(url, body) for body in bodies(BODIES, 1000)]
            result = load_generator.run(url, requests, connections=32, seconds=seconds)
            yield _rate("counterpart: FastAPI, local file, not durable", result, 1000)
        finally:
            process.kill()
            process.communicate()
