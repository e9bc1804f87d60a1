"""Publish the metrics of Dagster and of the processes of `lakehouse up`, as long as it runs."""

import threading
from collections.abc import Iterator

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric

from lakehouse.auditing.latest import wrong_partitions
from lakehouse.http.published_metrics import keep_publishing
from lakehouse.runtime.dagster_metrics import DagsterMetrics
from lakehouse.runtime.instance import open_instance
from lakehouse.runtime.process_metrics import process_metrics
from lakehouse.settings import Settings


def publish_metrics(settings: Settings, stop: threading.Event) -> None:
    """Publish until `stop` is set. Dagster's history and the processes are apart, so neither hides the other."""
    watching = threading.Thread(
        target=keep_publishing,
        args=(settings, "processes", lambda: _home_metrics(settings), stop),
        name="process metrics",
        daemon=True,
    )
    watching.start()
    with open_instance(settings) as instance:
        keep_publishing(settings, "dagster", DagsterMetrics(instance).collect, stop)


def _home_metrics(settings: Settings) -> Iterator[Metric]:
    yield from process_metrics(settings)
    wrong = GaugeMetricFamily(
        "lakehouse_audit_wrong_partitions",
        "Partitions that differed from their source when they were audited last.",
        labels=["stream"],
    )
    for name, count in wrong_partitions(settings).items():
        wrong.add_metric([name], count)
    yield wrong
