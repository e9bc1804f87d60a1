"""`bench ingest`: durable HTTP ingest beside the usual way, and what is left of it when processes are killed.

The counterpart is what many begin with: FastAPI on uvicorn that parses the lines and appends them to a local file,
without validation, without a fsync, on one process.
"""

import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Event, Thread

import psutil
import pyarrow.compute as pc
import uvloop

from lakehouse.bench import load
from lakehouse.contracts.streams import discover
from lakehouse.ingest.http import server
from lakehouse.ingest.landing import list_days
from lakehouse.ingest.readers import Source, bronze_batches
from lakehouse.ingest.simulation import Simulator
from lakehouse.settings import Settings
from lakehouse.storage import server as storage
from lakehouse.storage.objects import Objects

STREAM = "financial"
BODIES = 64
CONNECTIONS = 128


@dataclass(frozen=True, slots=True)
class Figure:
    """One line of the benchmark's output."""

    bench: str
    events_per_second: float
    p50_ms: float
    p99_ms: float
    acknowledged: int
    """Events answered 202."""
    core_microseconds_per_event: float | None = None
    """Of server, storage and load generator together: the machine's other users do not count in it."""
    memory_mb: float | None = None
    """Resident memory of the server's processes at the end."""
    found: int | None = None
    """Distinct events found in landing afterwards, by bronze's readers."""
    lost: int | None = None
    """Acknowledged events that were not found."""

    def json(self) -> str:
        """As a line."""
        values = {name: getattr(self, name) for name in self.__slots__}
        rounded = {name: round(v, 2) if isinstance(v, float) else v for name, v in values.items()}
        return json.dumps({name: value for name, value in rounded.items() if value is not None})


def measure(seconds: float = 10.0, port: int = 18400) -> Iterator[Figure]:
    """The figures, one after another, each of about so many seconds; all on a lakehouse of its own that is deleted."""
    with _lakehouse(port) as (settings, running):
        url = f"{running.url}/v1/streams/{STREAM}/events"
        thousand = [load.request(url, body) for body in _bodies(BODIES, 1000)]
        single = [load.request(url, body) for body in _bodies(1000, 1)]
        _run(url, thousand, 2.0, CONNECTIONS)
        yield _measured("ingest, 1,000 events a request", settings, running, url, thousand, 1000, seconds)
        yield _measured("ingest, steady 100,000 events/s", settings, running, url, thousand, 1000, seconds, rate=100)
        yield _measured("ingest, one event a request", settings, running, url, single, 1, seconds, connections=1000)
    yield from _counterpart(seconds, port)


def kill(seconds: float = 30.0, port: int = 18400, seed: int = 1) -> Figure:
    """Kill -9 a worker, the server or the storage every second or so under load; then count what was acknowledged."""
    with _lakehouse(port) as (settings, running):
        url = f"{running.url}/v1/streams/{STREAM}/events"
        bodies = _bodies(int(seconds * 40), 100)  # each sent once, so that each event that is found is known
        ended = Event()
        killer = Thread(target=_kill_again_and_again, args=(settings, ended, random.Random(seed)))  # noqa: S311
        killer.start()
        try:
            answers = _run(url, [load.request(url, body) for body in bodies], seconds, 16, rate=40)
        finally:
            ended.set()
            killer.join()
        storage.start(settings)
        server.stop(settings)  # what it holds is stored, or was never acknowledged
        acknowledged = {number for number in answers.sent if number < len(bodies)}
        ids = {json.loads(line)["event_id"] for number in acknowledged for line in bodies[number].splitlines()}
        found = _found(settings)
        return Figure(
            "ingest, killed again and again",
            len(ids) / answers.seconds,
            answers.percentile(0.5) * 1e3,
            answers.percentile(0.99) * 1e3,
            len(ids),
            found=len(found),
            lost=len(ids - found),
        )


@contextmanager
def _lakehouse(port: int) -> Iterator[tuple[Settings, server.Running]]:
    with tempfile.TemporaryDirectory(prefix="bench-", ignore_cleanup_errors=True) as folder:
        settings = Settings(home=Path(folder), http_port=port)
        storage.start(settings)
        try:
            yield settings, server.start(settings)
        finally:
            server.stop(settings)
            storage.stop(settings)


def _bodies(count: int, events: int) -> list[bytes]:
    stream, now = discover()[STREAM], datetime.now(UTC)
    simulator = Simulator(stream.contract, stream.simulate, 1)
    return [simulator.batch(events, now - timedelta(hours=1), now).lines for _ in range(count)]


def _run(
    url: str, requests: list[bytes], seconds: float, connections: int, *, rate: float | None = None
) -> load.Answers:
    return uvloop.run(load.send(url, requests, connections=connections, seconds=seconds, rate=rate))


def _measured(
    bench: str,
    settings: Settings,
    running: server.Running,
    url: str,
    requests: list[bytes],
    events: int,
    seconds: float,
    *,
    rate: float | None = None,
    connections: int = CONNECTIONS,
) -> Figure:
    processes = _family(running.pid) + _family(storage.status(settings).pid) + [psutil.Process()]
    before = sum(map(_cpu, processes))
    answers = _run(url, requests, seconds, connections, rate=rate)
    spent = sum(map(_cpu, processes)) - before
    acknowledged = answers.acknowledged * events
    return Figure(
        bench,
        acknowledged / answers.seconds,
        answers.percentile(0.5) * 1e3,
        answers.percentile(0.99) * 1e3,
        acknowledged,
        core_microseconds_per_event=spent / max(acknowledged, 1) * 1e6,
        memory_mb=sum(process.memory_info().rss for process in _family(running.pid)) / 2**20,
    )


def _family(pid: int | None) -> list[psutil.Process]:
    if pid is None:
        return []
    process = psutil.Process(pid)
    return [process, *process.children(recursive=True)]


def _cpu(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


def _found(settings: Settings) -> set[str]:
    """The ids of all events in landing, as bronze reads them."""
    objects = Objects.from_connection(storage.connection(settings))
    contract, today = discover()[STREAM].contract, datetime.now(UTC).date()
    days = list_days(objects, STREAM, today - timedelta(days=1), today)
    landings = [landing for found in days.values() for landing in found]
    sources = [Source(x.key, x.arrived_at, x.size, lambda key=x.key: objects.open(key)) for x in landings]  # type: ignore[misc]
    found: set[str] = set()
    for batch in bronze_batches(contract, sources):
        found.update(str(event_id) for event_id in pc.drop_null(batch.column("event_id")).to_pylist())
    return found


def _kill_again_and_again(settings: Settings, ended: Event, chance: random.Random) -> None:
    while not ended.wait(chance.uniform(0.5, 2.0)):
        running = server.running(settings)
        workers = _family(running.pid)[1:] if running else []
        which = chance.choice(["worker", "worker", "server", "storage"])
        with suppress(psutil.NoSuchProcess, ProcessLookupError):
            if which == "storage":
                if pid := storage.status(settings).pid:
                    os.kill(pid, signal.SIGKILL)
                storage.start(settings)
            elif which == "worker" and workers:
                os.kill(chance.choice(workers).pid, signal.SIGKILL)
            elif running:
                for process in reversed(_family(running.pid)):
                    process.kill()
        if server.running(settings) is None:
            server.start(settings)


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


def _counterpart(seconds: float, port: int) -> Iterator[Figure]:
    """The usual way; none where FastAPI and uvicorn are not installed."""
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        Path(folder, "usual.py").write_text(_USUAL.format(path=str(Path(folder, "events.ndjson"))))
        command = [sys.executable, "-m", "uvicorn", "usual:app", "--port", str(port), "--log-level", "error"]
        process = subprocess.Popen(command, cwd=folder, stderr=subprocess.DEVNULL)
        try:
            url = f"http://127.0.0.1:{port}/events"
            requests = [load.request(url, body) for body in _bodies(BODIES, 1000)]
            deadline = time.monotonic() + 20
            while process.poll() is None and time.monotonic() < deadline:
                if _run(url, requests, 0.2, 1).acknowledged:
                    answers = _run(url, requests, seconds, 32)
                    yield Figure(
                        "counterpart: FastAPI, local file, not durable",
                        answers.acknowledged * 1000 / answers.seconds,
                        answers.percentile(0.5) * 1e3,
                        answers.percentile(0.99) * 1e3,
                        answers.acknowledged * 1000,
                    )
                    return
        finally:
            process.kill()
            process.wait()
