"""Metrics that other processes publish are shown beside the server's own, as long as they are renewed."""

import os
import time
from pathlib import Path

from prometheus_client.core import GaugeMetricFamily

from lakehouse.http.metrics import Metrics, route_of
from lakehouse.http.published_metrics import MAX_AGE_SECONDS, publish, published
from lakehouse.settings import Settings


def _rows() -> GaugeMetricFamily:
    rows = GaugeMetricFamily("rows", "Rows of a table.", labels=["table", "stream"])
    rows.add_metric(["silver.iot", "iot"], 1)
    rows.add_metric(["silver.logs", "logs"], 2)
    rows.add_metric(["gold.daily_metrics", ""], 3)
    return rows


def test_metrics_are_shown_until_their_process_hangs(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path)
    publish(settings, "serving", [_rows()])
    assert b'rows{stream="iot",table="silver.iot"} 1.0\n' in published(settings)
    old = time.time() - MAX_AGE_SECONDS - 1
    os.utime(tmp_path / "metrics" / "serving.prom", (old, old))
    shown = published(settings)
    assert b"rows{" not in shown
    assert b'lakehouse_metrics_age_seconds{process="serving"} 31.' in shown


def test_key_for_some_streams_sees_the_metrics_of_these_alone(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path)
    publish(settings, "serving", [_rows()])
    metrics = Metrics(lambda: published(settings))
    metrics.count_request("GET", "/v1/tables", 200, 0.01)
    lines = metrics.text(["iot"]).decode().splitlines()
    assert [line for line in lines if line.startswith("rows{")] == ['rows{stream="iot",table="silver.iot"} 1.0']
    assert 'lakehouse_requests_total{method="GET",status="200"} 1.0' in lines


def test_any_path_is_timed_under_one_of_a_few_routes() -> None:
    paths = ("/v1/streams/iot/events", "/v1/alerts/live", "/v1/../etc", "/", "/v1/", "/x/v1/query")
    assert [route_of(path) for path in paths] == ["streams", None, "other", "other", "other", "other"]
