"""Publish the metrics of a process in a file. The HTTP server adds the files of its home to its own metrics.

The server answers at once, and needs to know neither Dagster nor tables. A file that is not renewed is left out, because
the last numbers of a process that hangs would look well.
"""

import logging
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from lakehouse.processes.atomic_file import write_private
from lakehouse.settings import Settings

log = logging.getLogger(__name__)

PUBLISH_SECONDS = 5.0
MAX_AGE_SECONDS = 30.0

Source = Callable[[], Iterable[Metric]]


class _Collected(Collector):
    def __init__(self, metrics: Iterable[Metric]) -> None:
        self._metrics = list(metrics)

    def collect(self) -> Iterator[Metric]:
        yield from self._metrics


def render(metrics: Iterable[Metric]) -> bytes:
    """Render metrics in Prometheus' text format."""
    registry = CollectorRegistry()
    registry.register(_Collected(metrics))
    return generate_latest(registry)


def publish(settings: Settings, process: str, metrics: Iterable[Metric]) -> None:
    """Replace what a process has published. Raises OSError."""
    folder = _folder(settings)
    folder.mkdir(parents=True, exist_ok=True)
    write_private(folder / f"{process}.prom", render(metrics).decode())


def keep_publishing(settings: Settings, process: str, source: Source, stop: threading.Event) -> None:
    """Publish what the source gives every few seconds, until `stop` is set. An error is logged and ends nothing."""
    while not stop.wait(PUBLISH_SECONDS):
        try:
            publish(settings, process, source())
        except Exception:  # one failed read must not end the metrics for good
            log.exception("could not publish the metrics of %s", process)


def published(settings: Settings) -> bytes:
    """Return what the processes of this home have published, with the age of each file."""
    ages = GaugeMetricFamily(
        "lakehouse_metrics_age_seconds",
        f"Since a process has published its metrics. They are left out above {MAX_AGE_SECONDS:.0f}.",
        labels=["process"],
    )
    texts = []
    for path in sorted(_folder(settings).glob("*.prom")):
        try:
            age, text = time.time() - path.stat().st_mtime, path.read_bytes()
        except OSError:  # it was removed since
            continue
        ages.add_metric([path.stem], age)
        if age <= MAX_AGE_SECONDS:
            texts.append(text)
    return b"".join([*texts, render([ages])])


def _folder(settings: Settings) -> Path:
    return settings.root / "metrics"
