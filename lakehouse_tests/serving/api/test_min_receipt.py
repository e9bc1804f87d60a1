"""A query that names a receipt holds its event, however soon it is sent, or says why it does not."""

import json
import time
from datetime import UTC, datetime

import httpx
import pytest

import lakehouse
from lakehouse.http import api_keys as keys
from lakehouse.processes.service import RunningService
from lakehouse.settings import Settings

COUNT = "select count(*) as rows from serving.unified_iot where device_id = $device"


def _events(device: str, count: int = 1, **fields: object) -> list[dict[str, object]]:
    now = datetime.now(UTC).isoformat()
    event = {"event_time": now, "device_id": device, "metric": "humidity", "value": 1.5, "unit": "percent"}
    return [{"event_id": f"{device}-{number}", **event, **fields} for number in range(count)]


def test_each_query_holds_what_was_sent_just_before(serving: RunningService, running: RunningService) -> None:
    with lakehouse.Client(running.url) as client:
        for number in range(1, 6):
            device = f"mine-{number}"
            sent = client.send("iot", _events(device, number))
            rows = client.query(COUNT, {"device": device}, min_receipt=sent.receipts)
            assert [row["rows"] for row in rows] == [number]
            live = "select sum(readings)::bigint as rows from serving.live_iot_daily where device_id = $device"
            assert [row["rows"] for row in client.query(live, {"device": device}, min_receipt=sent.receipts[0])] == [
                number
            ]


def test_named_query_computes_what_its_cache_lacks(serving: RunningService, running: RunningService) -> None:
    with lakehouse.Client(running.url) as client:
        counts = []
        for number in range(3):
            sent = client.send("iot", _events(f"named-{number}"))
            health = {row["stream"]: row for row in client.named("stream_health", min_receipt=sent.receipts)}
            counts.append(health["iot"]["events"])
        assert counts == [counts[0], counts[0] + 1, counts[0] + 2]


def test_rejected_event_is_waited_for_too(api: httpx.Client) -> None:
    body = json.dumps(_events("wrong", value="hot")[0])
    receipt = api.post("/v1/streams/iot/events", content=body).json()["receipt"]
    started = time.monotonic()
    answer = _ask(api, f"{receipt['object']}/{receipt['first_row']}")
    assert (answer.status_code, time.monotonic() - started < 8) == (200, True)


def _ask(api: httpx.Client, receipts: str, key: str = "") -> httpx.Response:
    headers = {"lakehouse-min-receipt": receipts} | ({"authorization": f"Bearer {key}"} if key else {})
    return api.post("/v1/query", json={"sql": "select 1 as one"}, headers=headers)


@pytest.mark.parametrize(
    ("receipt", "status"),
    [
        ("realtime/iot/year=2021/month=01/day=01/hour=01/data_010101000000_a-1.json/1", 404),
        ("realtime/nothing/x.json/1", 404),
        ("realtime/iot/x.json", 400),
        ("somewhere/1", 400),
        (", ".join(["realtime/iot/x.json/1"] * 101), 400),
    ],
)
def test_receipt_of_no_event_gets_an_error_that_says_so(api: httpx.Client, receipt: str, status: int) -> None:
    answer = _ask(api, receipt)
    assert (answer.status_code, bool(answer.json()["detail"])) == (status, True)


def test_receipt_of_another_stream_needs_a_key_for_it(api: httpx.Client, settings: Settings) -> None:
    _, key = keys.create(settings, "retail alone", ("query",), ("retail",))
    assert _ask(api, "realtime/iot/x.json/1", key).status_code == 403
