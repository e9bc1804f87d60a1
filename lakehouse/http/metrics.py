"""What the server counts, as Prometheus reads it; of several processes, the sum."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import psutil
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest, multiprocess

FOLDER = "PROMETHEUS_MULTIPROC_DIR"
"""The variable that names the folder the processes share; it is read when prometheus_client is first imported."""

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class Metrics:
    """The counters of one process."""

    def __init__(self, beside: Callable[[], bytes] = bytes) -> None:
        """`beside` gives what other programs of this lakehouse have counted, in Prometheus' format."""
        self._beside = beside
        if FOLDER in os.environ:
            forget_dead(Path(os.environ[FOLDER]))
        registry = CollectorRegistry()
        self._registry = registry
        self._events = Counter("lakehouse_events", "Events stored.", ["stream"], registry=registry)
        self._broken = Counter(
            "lakehouse_quarantined", "Stored events that break their contract.", ["stream"], registry=registry
        )
        self._bytes = Counter("lakehouse_bytes", "Bytes stored.", ["stream"], registry=registry)
        self._flush = Histogram(
            "lakehouse_flush_seconds", "Seconds to store an object.", ["stream"], registry=registry, buckets=SECONDS
        )
        self._errors = Counter(
            "lakehouse_storage_errors", "Objects that could not be stored.", ["stream"], registry=registry
        )
        self._requests = Counter("lakehouse_requests", "Requests answered.", ["method", "status"], registry=registry)
        self._buffer = Gauge(
            "lakehouse_buffer_bytes", "Bytes held in memory.", registry=registry, multiprocess_mode="livesum"
        )

    def events(self, stream: str, count: int, broken: int) -> None:
        """Events of a stream were stored, some of which break their contract."""
        self._events.labels(stream).inc(count)
        if broken:
            self._broken.labels(stream).inc(broken)

    def stored(self, stream: str, size: int, seconds: float) -> None:
        """An object of so many bytes was stored."""
        self._bytes.labels(stream).inc(size)
        self._flush.labels(stream).observe(seconds)

    def failed(self, stream: str) -> None:
        """An object could not be stored."""
        self._errors.labels(stream).inc()

    def answered(self, method: str, status: int) -> None:
        """A request was answered."""
        self._requests.labels(method, str(status)).inc()

    def held(self, size: int) -> None:
        """So many bytes are held in memory now."""
        self._buffer.set(size)

    def text(self) -> bytes:
        """All processes' counters in Prometheus' text format, https://prometheus.io/docs/instrumenting/exposition_formats/."""
        if FOLDER not in os.environ:
            return generate_latest(self._registry) + self._beside()
        registry = CollectorRegistry()
        multiprocess.MultiProcessCollector(registry, os.environ[FOLDER])  # type: ignore[no-untyped-call]
        return generate_latest(registry) + self._beside()


@dataclass(frozen=True, slots=True)
class EventCounts:
    """Events of a stream that were stored, and those of them that break their contract."""

    events: int = 0
    broken: int = 0

    def __add__(self, other: "EventCounts") -> "EventCounts":
        return EventCounts(self.events + other.events, self.broken + other.broken)

    def __sub__(self, other: "EventCounts") -> "EventCounts":
        return EventCounts(self.events - other.events, self.broken - other.broken)


def read_event_counts(folder: Path) -> dict[str, EventCounts]:
    """What the processes that share this folder have stored, by stream; for other processes to look at."""
    if not folder.is_dir():
        return {}
    registry = CollectorRegistry()
    multiprocess.MultiProcessCollector(registry, str(folder))  # type: ignore[no-untyped-call]
    found: dict[str, EventCounts] = {}
    for metric in registry.collect():
        for sample in metric.samples:
            stream = sample.labels.get("stream", "")
            if sample.name == "lakehouse_events_total":
                found[stream] = found.get(stream, EventCounts()) + EventCounts(events=int(sample.value))
            elif sample.name == "lakehouse_quarantined_total":
                found[stream] = found.get(stream, EventCounts()) + EventCounts(broken=int(sample.value))
    return found


def forget_dead(folder: Path) -> None:
    """Let what processes held that were killed no longer count; what they have done still does."""
    for path in folder.glob("gauge_live*_*.db"):
        pid = path.stem.rpartition("_")[2]
        if pid.isdigit() and not psutil.pid_exists(int(pid)):
            path.unlink(missing_ok=True)


def clear(folder: Path) -> None:
    """Forget what earlier processes counted: Prometheus takes it as a restart."""
    folder.mkdir(parents=True, exist_ok=True)
    for path in folder.glob("*.db"):
        path.unlink(missing_ok=True)
