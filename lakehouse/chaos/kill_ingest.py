"""`bench ingest --kill`: kill processes under load, then search for every event that was sent."""

import json
import os
import random
import signal
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from datetime import UTC, datetime, timedelta
from threading import Event, Thread

import psutil

from lakehouse.bench import load_generator
from lakehouse.bench.figures import Figure, figure, own_lake
from lakehouse.bench.ingest import PATH, STREAM, bodies, family, serving
from lakehouse.engine.connection import scan_sql
from lakehouse.pipeline.bronze import ingest_days
from lakehouse.pipeline.lake import Lake
from lakehouse.pipeline.silver import clean_days
from lakehouse.serving.api import gateway_server as http_server
from lakehouse.settings import Settings
from lakehouse.storage.embedded import lifecycle as storage

EVENTS = 100
"""Events per request."""

RATE = 40
"""Requests per second."""


def measure(seconds: float = 30.0, seed: int = 1) -> Iterator[Figure]:
    """Kill -9 a worker, the server with or without its workers, or storage, every second or so under load.

    Clients retry until they get an acknowledgement. In the end, every acknowledged event must be in silver once, however
    often it has landed.
    """
    with own_lake(streams=[STREAM]) as lake, ExitStack() as end:
        settings = lake.settings
        end.callback(storage.stop, settings)  # because the killer restarts it
        url = end.enter_context(serving(settings)).url + PATH
        sent = bodies(int(seconds * RATE), EVENTS)
        killer = _Killer(settings, seed)
        killer.start()
        try:
            requests = [load_generator.request(url, body) for body in sent]
            result = load_generator.run(
                url, requests, connections=16, seconds=seconds, rate=RATE, until_acknowledged=True
            )
        finally:
            killer.end()
        connection = storage.start(settings)
        http_server.stop(settings)  # stores its buffer; the rest was never acknowledged
        acknowledged = {
            json.loads(line)["event_id"] for number in result.sent for line in sent[number % len(sent)].splitlines()
        }
        kept, rows, landed = _count_events(Lake(settings, connection))
    yield figure("ingest", "kills", killer.kills, "kills", by_kind=killer.by_kind)
    yield figure("ingest", "acknowledged between kills", len(acknowledged), "events", p99_ms=_ms(result))
    yield figure("ingest", "acknowledged and lost", len(acknowledged - kept), "events", 0)
    yield figure("ingest", "twice in silver", rows - len(kept), "events", 0, landed_again=landed - len(kept))


def _ms(result: load_generator.LoadResult) -> float:
    return round(result.percentile(0.99) * 1e3, 1)


def _count_events(lake: Lake) -> tuple[set[str], int, int]:
    """Return silver's event ids, its number of rows, and bronze's."""
    stream, today = lake.stream(STREAM), datetime.now(UTC).date()
    landed = ingest_days(lake, stream, [today - timedelta(days=1), today])
    clean_days(lake, stream, landed.event_dates)
    with lake.engine.cursor() as cursor:
        silver = cursor.execute(f"select event_id from {scan_sql(lake.tables.load(f'silver.{STREAM}'))}").fetchall()
        bronze = cursor.execute(f"select count(*) from {scan_sql(lake.tables.load(f'bronze.{STREAM}'))}").fetchall()
    lake.engine.close()
    return {event_id for (event_id,) in silver}, len(silver), bronze[0][0]


class _Killer(Thread):
    """Kills processes, and restarts those that have no supervisor."""

    def __init__(self, settings: Settings, seed: int) -> None:
        super().__init__(name="killer", daemon=True)
        self.by_kind = {"worker": 0, "server": 0, "parent": 0, "storage": 0}
        self._settings = settings
        self._rng = random.Random(seed)  # noqa: S311
        self._ended = Event()

    @property
    def kills(self) -> int:
        """Return the number of kills of all kinds."""
        return sum(self.by_kind.values())

    def run(self) -> None:
        """Kill until `end` is called."""
        while not self._ended.wait(self._rng.uniform(0.5, 2.0)):
            kind = self._rng.choice(["worker", "worker", "server", "parent", "storage"])
            with suppress(psutil.NoSuchProcess, ProcessLookupError):
                self.by_kind[kind] += self._kill(kind)
            storage.start(self._settings)
            if http_server.running(self._settings) is None:
                http_server.start(self._settings)

    def end(self) -> None:
        """Stop killing."""
        self._ended.set()
        self.join()

    def _kill(self, kind: str) -> bool:
        running = http_server.running(self._settings)
        processes = family(running.pid if running else None)
        if kind == "storage":
            processes = family(storage.status(self._settings).pid)
        elif kind == "worker":
            processes = [self._rng.choice(processes[1:])] if processes[1:] else []
        elif kind == "parent":
            processes = processes[:1]  # its workers store their buffers and end by themselves
        for process in reversed(processes):
            os.kill(process.pid, signal.SIGKILL)
        return bool(processes)
