"""`GET /v1/receipts/{object}/{row}` answers for each event that a POST has acknowledged."""

import json
from datetime import UTC, datetime

import httpx
import pytest

from lakehouse_tests.waiting import until


def _receipt(api: httpx.Client, key: str, row: int) -> dict[str, object]:
    answer = api.get(f"/v1/receipts/{key}/{row}")
    assert answer.status_code == 200, answer.text
    body: dict[str, object] = answer.json()
    return body


def test_acknowledged_events_are_found_at_once(api: httpx.Client) -> None:
    now = datetime.now(UTC).isoformat()
    events = [
        {"event_id": "receipt-1", "event_time": now, "device_id": "d", "metric": "humidity", "value": 1.5},
        {"event_id": "receipt-2", "event_time": now, "device_id": "d", "metric": "humidity", "value": "hot"},
    ]
    body = "".join(json.dumps(event) + "\n" for event in events)
    headers = {"content-type": "application/x-ndjson"}
    receipt = api.post("/v1/streams/iot/events", content=body, headers=headers).json()["receipt"]
    key, row = receipt["object"], receipt["first_row"]
    assert _receipt(api, key, row)["outcome"] in ("landed", "realtime")
    until(lambda: _receipt(api, key, row)["outcome"] == "realtime", seconds=20)
    rejected = _receipt(api, key, row + 1)
    assert (rejected["stream"], rejected["outcome"], rejected["duplicate_of"]) == ("iot", "rejected", None)
    assert rejected["reasons"] == ["value is not a finite number"]


@pytest.mark.parametrize(
    ("place", "status"),
    [
        ("realtime/iot/year=2021/month=01/day=01/hour=01/data_010101000000_a-1.json/1", 404),
        ("realtime/nothing/x.json/1", 404),
        ("realtime/iot/x.json/one", 400),
        ("realtime/iot/x.json/-1", 400),
        ("silver/iot/x.json/1", 400),
        ("realtime/1", 400),
    ],
)
def test_place_where_no_event_is_gets_an_error_that_says_so(api: httpx.Client, place: str, status: int) -> None:
    answer = api.get(f"/v1/receipts/{place}")
    assert (answer.status_code, bool(answer.json()["detail"])) == (status, True)
