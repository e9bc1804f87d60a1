"""`bench ingest --kill`: processes killed again and again under load, and then every event that was sent is looked for."""

import json
import os
import random
import signal
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from datetime import UTC, datetime, timedelta
from threading import Event, Thread

import psutil

from lakehouse.bench import clients
from lakehouse.bench.ingest import PATH, STREAM, bodies, family, serving
from lakehouse.bench.measuring import Figure, figure, own_lake
from lakehouse.engine.connection import scan_sql
from lakehouse.pipeline.bronze import ingest_days
from lakehouse.pipeline.lake import Lake
from lakehouse.pipeline.silver import clean_days
from lakehouse.settings import Settings
from lakehouse.sources.http import server
from lakehouse.storage.embedded import lifecycle as storage

EVENTS = 100
"""Of a request."""
RATE = 40
"""Requests a second."""


def measure(seconds: float = 30.0, seed: int = 1) -> Iterator[Figure]:
    """Kill -9 a worker, the server with or without its workers, or the storage every second or so, under load.

    Clients send again what is not acknowledged. At the end every acknowledged event is in silver, and none is there
    twice, however often it has landed.
    """
    with own_lake() as lake, ExitStack() as end:
        settings = lake.settings
        end.callback(storage.stop, settings)  # it stays where it was started again
        url = end.enter_context(serving(settings)).url + PATH
        sent = bodies(int(seconds * RATE), EVENTS)
        killer = _Killer(settings, seed)
        killer.start()
        try:
            requests = [clients.request(url, body) for body in sent]
            answers = clients.run(url, requests, connections=16, seconds=seconds, rate=RATE, until_taken=True)
        finally:
            killer.end()
        connection = storage.start(settings)
        server.stop(settings)  # what it holds is stored, or was never acknowledged
        taken = {
            json.loads(line)["event_id"] for number in answers.sent for line in sent[number % len(sent)].splitlines()
        }
        found, rows, landed = _found(Lake(settings, connection))
    yield figure("ingest", "kills", killer.kills, "kills", by_kind=killer.by_kind)
    yield figure("ingest", "acknowledged between kills", len(taken), "events", p99_ms=_ms(answers))
    yield figure("ingest", "acknowledged and lost", len(taken - found), "events", 0)
    yield figure("ingest", "twice in silver", rows - len(found), "events", 0, landed_again=landed - len(found))


def _ms(answers: clients.Answers) -> float:
    return round(answers.percentile(0.99) * 1e3, 1)


def _found(lake: Lake) -> tuple[set[str], int, int]:
    """The events of silver, how many rows it has, and how many bronze has."""
    stream, today = lake.stream(STREAM), datetime.now(UTC).date()
    landed = ingest_days(lake, stream, [today - timedelta(days=1), today])
    clean_days(lake, stream, landed.event_dates)
    with lake.engine.cursor() as cursor:
        silver = cursor.execute(f"select event_id from {scan_sql(lake.tables.load(f'silver.{STREAM}'))}").fetchall()
        bronze = cursor.execute(f"select count(*) from {scan_sql(lake.tables.load(f'bronze.{STREAM}'))}").fetchall()
    lake.engine.close()
    return {event_id for (event_id,) in silver}, len(silver), bronze[0][0]


class _Killer(Thread):
    """Kills, and starts again what does not come back by itself."""

    def __init__(self, settings: Settings, seed: int) -> None:
        super().__init__(name="killer", daemon=True)
        self.by_kind = {"worker": 0, "server": 0, "parent": 0, "storage": 0}
        self._settings = settings
        self._chance = random.Random(seed)  # noqa: S311
        self._ended = Event()

    @property
    def kills(self) -> int:
        """Of all kinds."""
        return sum(self.by_kind.values())

    def run(self) -> None:
        """Until it is ended."""
        while not self._ended.wait(self._chance.uniform(0.5, 2.0)):
            which = self._chance.choice(["worker", "worker", "server", "parent", "storage"])
            with suppress(psutil.NoSuchProcess, ProcessLookupError):
                self.by_kind[which] += self._kill(which)
            storage.start(self._settings)
            if server.running(self._settings) is None:
                server.start(self._settings)

    def end(self) -> None:
        """Kill no more."""
        self._ended.set()
        self.join()

    def _kill(self, which: str) -> bool:
        running = server.running(self._settings)
        processes = family(running.pid if running else None)
        if which == "storage":
            processes = family(storage.status(self._settings).pid)
        elif which == "worker":
            processes = [self._chance.choice(processes[1:])] if processes[1:] else []
        elif which == "parent":
            processes = processes[:1]  # its workers end by themselves, when what they hold is stored
        for process in reversed(processes):
            os.kill(process.pid, signal.SIGKILL)
        return bool(processes)
