"""`bench long-run`: the memory of every process of `lakehouse up` over time, while events arrive and clients read."""

import itertools
import statistics
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import psutil

from lakehouse.bench.figures import Figure, figure
from lakehouse.bench.programs import running
from lakehouse.contracts.streams import discover
from lakehouse.errors import LakehouseError
from lakehouse.http.metrics import read_event_counts
from lakehouse.processes.child import find_running, process_tree, python_command
from lakehouse.runtime import supervisor
from lakehouse.runtime.supervisor import Program
from lakehouse.serving.api import gateway_server as http_server
from lakehouse.serving.query.named_queries import read_queries
from lakehouse.settings import Settings
from lakehouse.storage.embedded import lifecycle as storage

MAX_GROWTH_MIB = 64.0
"""How much a process may grow in an hour after it has warmed up."""

WARM_UP_MINUTES = 15.0
"""Time in which caches fill. A shorter run takes a third of its time for it."""

SAMPLES = 60
READ_PAUSE_SECONDS = 1.0
REQUEST_SECONDS = 60.0
STOP_SECONDS = 10.0

FORKER = "warm-runs"
"""The process whose children are Dagster's runs. They are left out, because each ends after some seconds."""

NO_ANSWER = 0
FAILURES = (NO_ANSWER, httpx.codes.INTERNAL_SERVER_ERROR, httpx.codes.BAD_GATEWAY, httpx.codes.SERVICE_UNAVAILABLE)
"""Statuses that no reader should see. A busy server may ask for patience with others."""

FAULTS = ("--late", "0.01", "--repeated", "0.01", "--invalid", "0.01")

FEEDS = ("/v1/overview/live", "/v1/alerts/live")

SELECTS = (
    "select count(*) from serving.unified_{stream}",
    "select * from serving.unified_{stream} order by _arrived_at desc limit 100",
    "select * from silver.{stream} limit 1000",
)


@dataclass(frozen=True, slots=True)
class Memory:
    """The resident memory of the largest process of each name, in MiB, at one moment."""

    hours: float
    """Since the start of the run."""
    mib: Mapping[str, float]


def measure(minutes: float = 60.0, rate: float = 300.0) -> Iterator[Figure]:
    """Yield the memory of each process as it is sampled, then its growth per hour.

    Raises LakehouseError after the last figure if a process grew too much or an answer failed.
    """
    samples: list[Memory] = []
    with _lakehouse(rate) as settings, _readers(settings) as statuses:
        started = time.monotonic()
        for _ in range(SAMPLES):
            time.sleep(minutes * 60 / SAMPLES)
            hours, mib = (time.monotonic() - started) / 3600, _memory(settings)
            samples.append(Memory(hours, mib))
            rounded = {name: round(size) for name, size in sorted(mib.items())}
            yield figure("long-run", f"memory after {hours * 60:.1f} min", sum(mib.values()), "MiB", **rounded)
        events = sum(count.events for count in read_event_counts(settings.root / "http" / "metrics").values())
    yield figure("long-run", "events stored", events, "events")
    failed = sum(statuses[status] for status in FAILURES)
    yield figure("long-run", "answers that failed", failed, "answers", 0, all=statuses.total())
    warm = min(WARM_UP_MINUTES, minutes / 3) / 60
    growths = growth_per_hour([sample for sample in samples if sample.hours >= warm])
    for name, growth in growths.items():
        peak = max(sample.mib.get(name, 0.0) for sample in samples)
        yield figure("long-run", f"growth of {name}", growth, "MiB an hour", MAX_GROWTH_MIB, peak_mib=round(peak))
    if growing := [name for name, growth in growths.items() if growth > MAX_GROWTH_MIB]:
        raise LakehouseError(f"These grew by more than {MAX_GROWTH_MIB:g} MiB an hour: {', '.join(growing)}.")
    if failed or not events:
        raise LakehouseError(f"{failed} of {statuses.total()} answers failed, and {events} events were stored.")


def growth_per_hour(samples: Sequence[Memory]) -> dict[str, float]:
    """Return the slope of each process that is in all samples, largest first, in MiB an hour."""
    names = set.intersection(*(set(sample.mib) for sample in samples)) if len(samples) > 1 else set()
    hours = [sample.hours for sample in samples]
    slopes = {name: statistics.linear_regression(hours, [s.mib[name] for s in samples]).slope for name in names}
    return dict(sorted(slopes.items(), key=lambda item: -item[1]))


@contextmanager
def _lakehouse(rate: float) -> Iterator[Settings]:
    """Run `lakehouse up` in a temporary folder, and send it events of all streams."""
    events = ("--rate", str(rate), "--duration", "infinite", *FAULTS)
    up, generate = python_command("lakehouse", "up"), python_command("lakehouse", "generate", *events)
    with tempfile.TemporaryDirectory(prefix="lakehouse-bench-", ignore_cleanup_errors=True) as folder:
        settings = Settings(home=Path(folder), storage="embedded")
        with (
            running(settings, Program("up", up), is_ready=lambda: supervisor.is_up(settings)),
            running(settings, Program("generate", generate)),
        ):
            yield settings


@contextmanager
def _readers(settings: Settings) -> Iterator["Counter[int]"]:
    """Read as the page and its users do during the block. Yields how often each status was answered."""
    service = http_server.running(settings)
    assert service is not None, "`lakehouse up` has started it"
    reader = _Reader(service.url)
    targets = [reader.ask_in_turn, *(lambda feed=feed: reader.follow(feed) for feed in FEEDS)]
    threads = [threading.Thread(target=target, daemon=True) for target in targets]
    for thread in threads:
        thread.start()
    try:
        yield reader.statuses
    finally:
        reader.ended.set()
        for thread in threads:
            thread.join(STOP_SECONDS)


@dataclass
class _Reader:
    url: str
    statuses: "Counter[int]" = field(default_factory=Counter)
    ended: threading.Event = field(default_factory=threading.Event)

    def ask_in_turn(self) -> None:
        """Ask for everything that can be read, one request a second."""
        with httpx.Client(base_url=self.url, timeout=REQUEST_SECONDS) as client:
            for method, path, sql in itertools.cycle(_requests()):
                if self.ended.wait(READ_PAUSE_SECONDS):
                    return
                try:
                    status = client.request(method, path, json={"sql": sql} if sql else None).status_code
                except httpx.TransportError:
                    status = NO_ANSWER
                if not self.ended.is_set():  # while everything stops, answers fail
                    self.statuses[status] += 1

    def follow(self, path: str) -> None:
        """Follow a feed, and connect again where it breaks off."""
        while not self.ended.is_set():
            with suppress(httpx.TransportError), httpx.stream("GET", self.url + path, timeout=REQUEST_SECONDS) as feed:
                for _ in feed.iter_raw():
                    if self.ended.is_set():
                        return
            self.ended.wait(READ_PAUSE_SECONDS)


def _requests() -> list[tuple[str, str, str | None]]:
    """List the requests of one turn: method, path and SQL."""
    streams = discover()
    paths = ["/v1/overview", "/v1/overview/partitions", "/v1/tables", "/v1/tail", "/v1/alerts", "/metrics"]
    paths += [
        f"/v1/queries/{query.name}"
        for query in read_queries().values()
        if not any(parameter.required for parameter in query.parameters.values())
    ]
    paths += [f"{folder}/{stream}" for folder in ("/v1/quarantine", "/v1/overview/metrics") for stream in streams]
    selects = [select.format(stream=stream) for stream in streams for select in SELECTS]
    return [("GET", path, None) for path in paths] + [("POST", "/v1/query", select) for select in selects]


def _memory(settings: Settings) -> dict[str, float]:
    """Return the resident memory of the largest process of each name, in MiB."""
    mib: dict[str, float] = {}
    for name, process in _processes(settings):
        with suppress(psutil.NoSuchProcess):
            mib[name] = max(mib.get(name, 0.0), process.memory_info().rss / 2**20)
    return mib


def _processes(settings: Settings) -> Iterator[tuple[str, psutil.Process]]:
    """Yield storage, and every program of `lakehouse up` with its descendants, each with its name."""
    if (pid := storage.status(settings).pid) and (server := find_running(pid)):
        yield "storage", server
    state = supervisor.read_state(settings)
    for child in [state.supervisor, *state.children] if state else []:
        if (process := child.process) is None:
            continue
        yield child.name, process
        if child.name in ("supervisor", FORKER):
            continue
        for descendant in process_tree(process)[1:]:
            with suppress(psutil.NoSuchProcess):
                yield f"{child.name}: {_module(descendant)}", descendant


def _module(process: psutil.Process) -> str:
    """Return the module that a Python process runs."""
    words = process.cmdline()
    module = next((word for option, word in itertools.pairwise(words) if option == "-m"), process.name())
    return module.rpartition(".")[2]
