"""What the page is made of is there for programs too: overview, alerts and quarantine over HTTP."""

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


def test_alerts_are_walked_through_with_the_cursor(filled: Home, api: httpx.Client) -> None:
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


def heard(api: httpx.Client, last: str | None, wanted: str, seconds: float = 60) -> tuple[list[str], str]:
    """The keys of the alerts that come, up to the wanted one, and its id."""
    headers = {} if last is None else {"last-event-id": last}
    deadline = time.monotonic() + seconds
    found: list[str] = []
    event_id = ""
    with api.stream("GET", "/v1/alerts/live", headers=headers, timeout=seconds) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        for line in answer.iter_lines():
            assert time.monotonic() < deadline, found
            if line.startswith("id: "):
                event_id = line.removeprefix("id: ")
            elif line.startswith("data: "):
                found.append(json.loads(line.removeprefix("data: "))["event_key"])
                if found[-1] == wanted:
                    return found, event_id
    raise AssertionError(found)


def test_alerts_come_as_they_come_up_and_a_reader_goes_on_where_it_was(filled: Home, api: httpx.Client) -> None:
    now = datetime.now(UTC)
    filled.post("financial", transaction("one", now))
    filled.refresh_realtime("financial")
    found, last = heard(api, "another-0", "one")
    assert len(found) == len(set(found))
    filled.post("financial", transaction("two", now), transaction("three", now))
    filled.refresh_realtime("financial")
    again, _ = heard(api, last, "two")
    assert "one" not in again
    listed = api.get("/v1/alerts", params={"stream": "financial", "since": f"{now:%Y-%m-%dT%H:%M:%SZ}"}).json()[
        "alerts"
    ]
    assert {alert["event_key"] for alert in listed} >= {"one", "two", "three"}


def test_the_overview_says_what_the_tables_hold(filled: Home, api: httpx.Client) -> None:
    found = {one["stream"]: one for one in api.get("/v1/overview").json()["streams"]}
    assert set(found) == set(filled.lake.streams)
    for name in STREAMS:
        day = found[name]["last_day"]
        assert day["landed"] == day["silver"] + day["quarantined"] + day["duplicates"] > 0
        assert found[name]["quality"] == day["valid"] / day["landed"]
        assert found[name]["newest_at"] is not None
    assert found["retail"]["last_day"] is None
    assert found["retail"]["newest_at"] is None


def test_the_overview_costs_little(api: httpx.Client) -> None:
    api.get("/v1/overview")
    seconds = []
    for _ in range(20):
        begun = time.perf_counter()
        assert api.get("/v1/overview").status_code == 200
        seconds.append(time.perf_counter() - begun)
    assert min(seconds) < 0.05


@pytest.mark.parametrize(
    ("path", "status", "says"),
    [
        ("/v1/alerts?since=yesterday", 400, "since='yesterday' is neither a time"),
        ("/v1/alerts?limit=0", 400, "limit"),
        ("/v1/alerts?stream=nothing", 404, "there are clickstream, financial"),
        ("/v1/alerts/live?stream=nothing", 404, "there are clickstream, financial"),
        ("/v1/quarantine/nothing", 404, "there are clickstream, financial"),
        ("/v1/quarantine/iot?since=x", 400, "since='x' is no time"),
        ("/v1/quarantine/iot;drop", 404, "There is no stream"),
        ("/v1/overview/partitions?to=0001-01-02&days=30", 400, "There are no 30 days up to 0001-01-02"),
        ("/v1/overview/metrics/iot/readings?first=2024-01-02&last=2024-01-01", 400, "Ask for 1 to 5000 days"),
        ("/v1/overview/metrics/iot/readings?first=2024-01-02", 400, "last"),
    ],
)
def test_what_can_not_be_answered_says_why(api: httpx.Client, path: str, status: int, says: str) -> None:
    answer = api.get(path)
    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json")
    assert says in answer.json()["detail"]


def test_a_number_or_dimension_that_is_not_there_has_no_series(api: httpx.Client) -> None:
    span = {"first": "2024-01-01", "last": "2024-01-02"}
    answer = api.get("/v1/overview/metrics/iot/x'); drop", params={**span, "by": "y'"}).json()
    assert (answer["days"], answer["series"]) == (["2024-01-01", "2024-01-02"], [])


def test_a_key_for_some_streams_sees_these_alone(filled: Home, api: httpx.Client) -> None:
    _, text = filled.key("query", streams=("iot",))
    headers = {"authorization": f"Bearer {text}"}
    overview = api.get("/v1/overview", headers=headers).json()
    assert [one["stream"] for one in overview["streams"]] == ["iot"]
    assert [one["stream"] for one in api.get("/v1/overview/partitions", headers=headers).json()["streams"]] == ["iot"]
    assert {one["stream"] for one in api.get("/v1/alerts", headers=headers).json()["alerts"]} == {"iot"}
    for path in ("/v1/alerts?stream=financial", "/v1/quarantine/financial", "/v1/overview/metrics/financial"):
        assert api.get(path, headers=headers).status_code == 403
    _, text = filled.key("ingest")
    for path in ("/v1/alerts", "/v1/alerts/live", "/v1/overview", "/v1/overview/live", "/v1/quarantine/iot"):
        assert api.get(path, headers={"authorization": f"Bearer {text}"}).status_code == 403


def test_a_revoked_key_hears_nothing_more(filled: Home, api: httpx.Client) -> None:
    key_id, text = filled.key("query")
    headers = {"authorization": f"Bearer {text}"}
    deadline = time.monotonic() + 60
    with api.stream("GET", "/v1/overview/live", headers=headers, timeout=60) as answer:
        lines = answer.iter_lines()
        next(lines)
        keys.revoke(filled.settings, key_id)
        for _ in lines:
            assert time.monotonic() < deadline


def test_a_stop_does_not_wait_for_those_who_listen(filled: Home, api: httpx.Client) -> None:
    with (
        api.stream("GET", "/v1/overview/live", timeout=60) as answer,
        api.stream("GET", "/v1/alerts/live", timeout=60) as silent,
    ):
        assert silent.status_code == 200
        next(answer.iter_lines())
        begun = time.monotonic()
        assert serving.stop(filled.settings)
        assert time.monotonic() - begun < 20
    serving.start(filled.settings)
    filled.wait_for("gold.daily_metrics")
