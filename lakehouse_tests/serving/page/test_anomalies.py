"""A spike that has just been sent is an anomaly and an alert in seconds, the same one that a run over silver writes."""

import math
import random
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
from axe_playwright_python.sync_playwright import Axe  # type: ignore[import-untyped]
from playwright.sync_api import expect

from lakehouse.pipeline.anomalies import write_anomalies
from lakehouse.pipeline.bronze import ingest_days
from lakehouse.pipeline.silver import clean_days
from lakehouse_tests.serving.page.conftest import Home, Open
from lakehouse_tests.waiting import until

ROWS = 600
DEVICE = "spiky"
MAX_SECONDS = 30.0
"""Far more than the second or two that it takes, because other tests run at the same time."""


def _readings(first: int, last: int, start: datetime, **values: float) -> list[dict[str, Any]]:
    made = random.Random(5)
    noise = [made.gauss(0, 1) for _ in range(ROWS + 1)]
    return [
        {
            "event_id": f"{DEVICE}-{row}",
            "event_time": f"{start + timedelta(seconds=row):%Y-%m-%dT%H:%M:%SZ}",
            "device_id": DEVICE,
            "metric": "temperature",
            "value": values.get("value", 20 + math.sin(row / 50) + noise[row]),
            "unit": "C",
        }
        for row in range(first, last)
    ]


def _anomalies(api: httpx.Client) -> list[dict[str, Any]]:
    found = api.get("/v1/anomalies", params={"stream": "iot", "entity": f"{DEVICE}, temperature"}).json()["anomalies"]
    return [one for one in found if one["kind"] == "spike" and one["value"] == 80.0]


def test_spike_is_an_alert_in_seconds_and_the_same_in_the_table(
    filled: Home, api: httpx.Client, open_page: Open
) -> None:
    now = datetime.now(UTC)
    day = now.date()
    start = now - timedelta(seconds=ROWS + 1)
    start = max(start, datetime(day.year, day.month, day.day, tzinfo=UTC))
    filled.post("iot", *_readings(0, ROWS, start))
    time.sleep(2)
    assert _anomalies(api) == []
    filled.post("iot", *_readings(ROWS, ROWS + 1, start, value=80.0))
    until(lambda: _anomalies(api), seconds=MAX_SECONDS)
    (fresh,) = _anomalies(api)
    assert fresh["low"] < fresh["expected"] < fresh["high"] < 80
    assert fresh["contribution"]["spike"] > 0
    assert fresh["event_key"] == f"{DEVICE}-{ROWS}"
    (alert,) = _alerts(api)
    assert (alert["severity"], alert["threshold"], alert["message"]) == (
        fresh["severity"], fresh["high"], fresh["message"],
    )  # fmt: skip
    stream = filled.lake.stream("iot")
    ingest_days(filled.lake, stream, [day], run_id="test")
    clean_days(filled.lake, stream, [day], run_id="test")
    write_anomalies(filled.lake, stream, [day], run_id="test")
    filled.wait_for("serving.iot_anomalies")
    assert _anomalies(api) == [fresh]
    assert _alerts(api) == [alert]
    _assert_is_in_band(api, fresh)
    page = open_page("/anomalies", bypass_csp=True)  # axe is injected into the page
    page.get_by_role("link", name=f"{DEVICE}, temperature").first.click()
    expect(page.locator("#series-figure canvas")).to_be_visible()
    expect(page.locator("#series-rows")).to_have_text(f"{ROWS + 1} rows of iot")
    assert Axe().run(page, options={"resultTypes": ["violations"]}).violations_count == 0


def _assert_is_in_band(api: httpx.Client, anomaly: dict[str, Any]) -> None:
    given = {"stream": "iot", "entity": anomaly["entity"], "day": anomaly["dt"]}
    band = api.get("/v1/anomalies/series", params=given).json()
    assert (band["rows"], len(band["low"]), band["low"][0], any(band["is_anomaly"][:-1])) == (ROWS + 1,) * 2 + (
        None,
        False,
    )
    last = {name: band[name][-1] for name in ("value", "expected", "low", "high", "is_anomaly")}
    assert last == {**{name: anomaly[name] for name in ("value", "expected", "low", "high")}, "is_anomaly": True}
    assert len(api.get("/v1/anomalies/series", params={**given, "rows": 7}).json()["value"]) == 7
    for wrong in ({"stream": "financial"}, {"stream": "nothing"}, {"entity": "nobody"}, {"day": "2001-01-01"}):
        assert api.get("/v1/anomalies/series", params={**given, **wrong}).status_code == 404


def _alerts(api: httpx.Client) -> list[dict[str, Any]]:
    alerts = api.get("/v1/alerts", params={"stream": "iot", "limit": 1000}).json()["alerts"]
    return [one for one in alerts if one["alert"] == "anomaly" and one["event_key"] == f"{DEVICE}-{ROWS}"]
