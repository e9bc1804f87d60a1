"""Prometheus metrics of a server, summed over its processes. See `metrics_files` for how they share them."""

import os
import re
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest, multiprocess

from lakehouse.http.metrics_files import FOLDER_VARIABLE, remove_gauges_of_dead_processes

_STREAM_LABEL = re.compile(rb'[{,]stream="([^"]*)"')

SECONDS_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)

ROUTES = frozenset(
    {
        "streams",
        "query",
        "queries",
        "lookups",
        "entities",
        "customers",
        "tables",
        "tail",
        "overview",
        "catalog",
        "dashboards",
        "quarantine",
        "alerts",
        "anomalies",
        "receipts",
    }
)
"""The segments after `/v1/` whose requests are timed apart."""


def route_of(path: str) -> str | None:
    """Return the route under which a request is timed; None for a stream of events, which lasts as long as its client."""
    segment, _, below = path.removeprefix("/v1/").partition("/")
    if below == "live":
        return None
    return segment if segment in ROUTES else "other"


class Metrics:
    """The metrics of one process."""

    def __init__(self, extra: Callable[[], bytes] = bytes) -> None:
        """Register the metrics. `extra` returns those of other programs of this home, in Prometheus' text format."""
        self._extra = extra
        if FOLDER_VARIABLE in os.environ:
            remove_gauges_of_dead_processes(Path(os.environ[FOLDER_VARIABLE]))
        registry = CollectorRegistry()
        self._registry = registry
        self._events = Counter("lakehouse_events", "Events stored.", ["stream"], registry=registry)
        self._rejected = Counter(
            "lakehouse_quarantined", "Stored events that break their contract.", ["stream"], registry=registry
        )
        self._bytes = Counter("lakehouse_bytes", "Bytes stored.", ["stream"], registry=registry)
        self._store_seconds = Histogram(
            "lakehouse_flush_seconds",
            "Seconds to store an object.",
            ["stream"],
            registry=registry,
            buckets=SECONDS_BUCKETS,
        )
        self._storage_errors = Counter(
            "lakehouse_storage_errors", "Objects that could not be stored.", ["stream"], registry=registry
        )
        self._requests = Counter("lakehouse_requests", "Requests answered.", ["method", "status"], registry=registry)
        self._request_seconds = Histogram(
            "lakehouse_request_seconds",
            "Seconds to answer a request.",
            ["route"],
            registry=registry,
            buckets=SECONDS_BUCKETS,
        )
        self._buffer_bytes = Gauge(
            "lakehouse_buffer_bytes", "Bytes held in memory.", registry=registry, multiprocess_mode="livesum"
        )

    def count_events(self, stream: str, count: int, rejected: int) -> None:
        """Count stored events of a stream, and how many of them break their contract."""
        self._events.labels(stream).inc(count)
        if rejected:
            self._rejected.labels(stream).inc(rejected)

    def count_object(self, stream: str, size: int, seconds: float) -> None:
        """Count a stored object of `size` bytes and the seconds that storing it took."""
        self._bytes.labels(stream).inc(size)
        self._store_seconds.labels(stream).observe(seconds)

    def count_storage_error(self, stream: str) -> None:
        """Count an object that could not be stored."""
        self._storage_errors.labels(stream).inc()

    def count_request(self, method: str, path: str, status: int, seconds: float) -> None:
        """Count a request that was answered, and the seconds that it took."""
        self._requests.labels(method, str(status)).inc()
        if route := route_of(path):
            self._request_seconds.labels(route).observe(seconds)

    def set_buffer_bytes(self, size: int) -> None:
        """Set the bytes that this process holds in memory."""
        self._buffer_bytes.set(size)

    def text(self, streams: Collection[str] = ()) -> bytes:
        """Render the metrics of all processes in Prometheus' text format; with `streams`, what concerns these alone.

        See https://prometheus.io/docs/instrumenting/exposition_formats/.
        """
        own = self._registry
        if FOLDER_VARIABLE in os.environ:
            own = CollectorRegistry()
            multiprocess.MultiProcessCollector(own, os.environ[FOLDER_VARIABLE])  # type: ignore[no-untyped-call]
        text, extra = generate_latest(own), self._extra()
        return only_streams(text, streams, shared=True) + only_streams(extra, streams) if streams else text + extra


def only_streams(text: bytes, streams: Collection[str], *, shared: bool = False) -> bytes:
    """Leave out the samples of other streams from metrics in Prometheus' text format, and those of none unless `shared`."""
    lines = text.splitlines(keepends=True)
    labels = [_STREAM_LABEL.search(line) for line in lines]
    return b"".join(
        line
        for line, label in zip(lines, labels, strict=True)
        if (label[1].decode() in streams if label else shared or line.startswith(b"#"))
    )


@dataclass(frozen=True, slots=True)
class EventCounts:
    """How many events of a stream were stored, and how many of them break their contract."""

    events: int = 0
    broken: int = 0

    def __add__(self, other: "EventCounts") -> "EventCounts":
        return EventCounts(self.events + other.events, self.broken + other.broken)

    def __sub__(self, other: "EventCounts") -> "EventCounts":
        return EventCounts(self.events - other.events, self.broken - other.broken)


def read_event_counts(folder: Path) -> dict[str, EventCounts]:
    """Read, from another process, what the processes that share this folder have stored, by stream."""
    if not folder.is_dir():
        return {}
    registry = CollectorRegistry()
    multiprocess.MultiProcessCollector(registry, str(folder))  # type: ignore[no-untyped-call]
    counts: dict[str, EventCounts] = {}
    for metric in registry.collect():
        for sample in metric.samples:
            stream = sample.labels.get("stream", "")
            if sample.name == "lakehouse_events_total":
                counts[stream] = counts.get(stream, EventCounts()) + EventCounts(events=int(sample.value))
            elif sample.name == "lakehouse_quarantined_total":
                counts[stream] = counts.get(stream, EventCounts()) + EventCounts(broken=int(sample.value))
    return counts
