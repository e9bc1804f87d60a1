"""The endpoints behind the page: overview, alerts and quarantine over HTTP."""

import json
import time
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any

import httpx
import pytest

from lakehouse.http import api_keys as keys
from lakehouse.serving.api import server as serving
from lakehouse_tests.serving.page.conftest import STREAMS, Home, transaction


def test_alert_cursor_returns_every_alert_once(filled: Home, api: httpx.Client) -> None:
    everything = api.get("/v1/alerts", params={"limit": 1000}).json()["alerts"]
    assert len(everything) > 2
    assert all(later["event_time"] >= earlier["event_time"] for later, earlier in pairwise(everything))
    seen: list[Any] = []
    since = "2010-01-01"
    while (page := api.get("/v1/alerts", params={"since": since, "limit": 2}).json())["alerts"]:
        seen += page["alerts"]
        since = page["next"]
    assert seen == everything[::-1]
    assert api.get("/v1/alerts", params={"since": page["next"]}).json()["alerts"] == []
    only = api.get("/v1/alerts", params={"stream": "iot", "limit": 1000}).json()["alerts"]
    assert only == [alert for alert in everything if alert["stream"] == "iot"]


def follow_alerts(api: httpx.Client, last_id: str | None, until_key: str, seconds: float = 60) -> tuple[list[str], str]:
    """Follow the live alerts until one has the event key `until_key`. Return all event keys, and that alert's event id."""
    headers = {} if last_id is None else {"last-event-id": last_id}
    deadline = time.monotonic() + seconds
    keys_seen: list[str] = []
    event_id = ""
    with api.stream("GET", "/v1/alerts/live", headers=headers, timeout=seconds) as response:
        assert response.headers["content-type"].startswith("text/event-stream")
        for line in response.iter_lines():
            assert time.monotonic() < deadline, keys_seen
            if line.startswith("id: "):
                event_id = line.removeprefix("id: ")
            elif line.startswith("data: "):
                keys_seen.append(json.loads(line.removeprefix("data: "))["event_key"])
                if keys_seen[-1] == until_key:
                    return keys_seen, event_id
    raise AssertionError(keys_seen)


def test_live_alerts_resume_after_last_event_id(filled: Home, api: httpx.Client) -> None:
    now = datetime.now(UTC)
    filled.post("financial", transaction("one", now))
    filled.refresh_realtime("financial")
    keys_seen, last_id = follow_alerts(api, "another-0", "one")
    assert len(keys_seen) == len(set(keys_seen))
    filled.post("financial", transaction("two", now), transaction("three", now))
    filled.refresh_realtime("financial")
    later_keys, _ = follow_alerts(api, last_id, "two")
    assert "one" not in later_keys
    listed = api.get("/v1/alerts", params={"stream": "financial", "since": f"{now:%Y-%m-%dT%H:%M:%SZ}"}).json()[
        "alerts"
    ]
    assert {alert["event_key"] for alert in listed} >= {"one", "two", "three"}


def test_overview_matches_the_tables(filled: Home, api: httpx.Client) -> None:
    overview = {stream["stream"]: stream for stream in api.get("/v1/overview").json()["streams"]}
    assert set(overview) == set(filled.lake.streams)
    for name in STREAMS:
        day = overview[name]["last_day"]
        assert day["landed"] == day["silver"] + day["quarantined"] + day["duplicates"] > 0
        assert overview[name]["quality"] == day["valid"] / day["landed"]
        assert overview[name]["newest_at"] is not None
    assert overview["retail"]["last_day"] is None
    assert overview["retail"]["newest_at"] is None


def test_overview_responds_quickly(api: httpx.Client) -> None:
    api.get("/v1/overview")
    seconds = []
    for _ in range(20):
        begun = time.perf_counter()
        assert api.get("/v1/overview").status_code == 200
        seconds.append(time.perf_counter() - begun)
    assert min(seconds) < 0.05


@pytest.mark.parametrize(
    ("path", "status", "message"),
    [
        ("/v1/alerts?since=yesterday", 400, "since='yesterday' is neither a time"),
        ("/v1/alerts?limit=0", 400, "limit"),
        ("/v1/alerts?stream=nothing", 404, "there are clickstream, financial"),
        ("/v1/alerts/live?stream=nothing", 404, "there are clickstream, financial"),
        ("/v1/quarantine/nothing", 404, "there are clickstream, financial"),
        ("/v1/quarantine/iot?since=x", 400, "since='x' is not a time"),
        ("/v1/quarantine/iot;drop", 404, "There is no stream"),
        ("/v1/overview/partitions?to=0001-01-02&days=30", 400, "There are no 30 days up to 0001-01-02"),
        ("/v1/overview/metrics/iot/readings?first=2024-01-02&last=2024-01-01", 400, "Request 1 to 5000 days"),
        ("/v1/overview/metrics/iot/readings?first=2024-01-02", 400, "last"),
    ],
)
def test_invalid_request_is_a_problem_with_its_reason(api: httpx.Client, path: str, status: int, message: str) -> None:
    response = api.get(path)
    assert (response.status_code, response.headers["content-type"]) == (status, "application/problem+json")
    assert message in response.json()["detail"]


def test_unknown_metric_or_dimension_has_no_series(api: httpx.Client) -> None:
    span = {"first": "2024-01-01", "last": "2024-01-02"}
    response = api.get("/v1/overview/metrics/iot/x'); drop", params={**span, "by": "y'"}).json()
    assert (response["days"], response["series"]) == (["2024-01-01", "2024-01-02"], [])


def test_key_for_one_stream_sees_only_that_stream(filled: Home, api: httpx.Client) -> None:
    _, text = filled.key("query", streams=("iot",))
    headers = {"authorization": f"Bearer {text}"}
    overview = api.get("/v1/overview", headers=headers).json()
    assert [stream["stream"] for stream in overview["streams"]] == ["iot"]
    partitions = api.get("/v1/overview/partitions", headers=headers).json()
    assert [stream["stream"] for stream in partitions["streams"]] == ["iot"]
    assert {alert["stream"] for alert in api.get("/v1/alerts", headers=headers).json()["alerts"]} == {"iot"}
    for path in ("/v1/alerts?stream=financial", "/v1/quarantine/financial", "/v1/overview/metrics/financial"):
        assert api.get(path, headers=headers).status_code == 403
    _, text = filled.key("ingest")
    for path in ("/v1/alerts", "/v1/alerts/live", "/v1/overview", "/v1/overview/live", "/v1/quarantine/iot"):
        assert api.get(path, headers={"authorization": f"Bearer {text}"}).status_code == 403


def test_revoked_key_ends_its_live_feed(filled: Home, api: httpx.Client) -> None:
    key_id, text = filled.key("query")
    headers = {"authorization": f"Bearer {text}"}
    deadline = time.monotonic() + 60
    with api.stream("GET", "/v1/overview/live", headers=headers, timeout=60) as response:
        lines = response.iter_lines()
        next(lines)
        keys.revoke(filled.settings, key_id)
        for _ in lines:
            assert time.monotonic() < deadline


def test_stop_does_not_wait_for_live_feeds(filled: Home, api: httpx.Client) -> None:
    with (
        api.stream("GET", "/v1/overview/live", timeout=60) as response,
        api.stream("GET", "/v1/alerts/live", timeout=60) as alerts,
    ):
        assert alerts.status_code == 200
        next(response.iter_lines())
        begun = time.monotonic()
        assert serving.stop(filled.settings)
        assert time.monotonic() - begun < 20
    serving.start(filled.settings)
    filled.wait_for("gold.daily_metrics")
