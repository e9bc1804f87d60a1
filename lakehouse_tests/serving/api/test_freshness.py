"""Events acknowledged over HTTP are soon visible in SQL over HTTP, each once."""

import json
import time
from datetime import UTC, datetime

import httpx


def test_acknowledged_events_appear_in_the_unified_view(api: httpx.Client) -> None:
    now = datetime.now(UTC)
    for number in range(5):
        event = {"event_time": f"{now:%Y-%m-%dT%H:%M:%SZ}", "service": "freshness", "level": "INFO", "message": "m"}
        lines = [json.dumps(event | {"event_id": f"{now.timestamp()}-{number}-{n}"}) for n in range(100)]
        sent = api.post(
            "/v1/streams/logs/events",
            content="\n".join([*lines, *lines[:10]]),
            headers={"content-type": "application/x-ndjson"},
        )
        assert sent.json()["accepted"] == 110
        counts = [0]
        deadline = time.monotonic() + 20
        while counts[-1] < 100 * (number + 1):
            assert time.monotonic() < deadline, counts
            sql = "select count(*) as n from serving.unified_logs where service = 'freshness'"
            response = api.post("/v1/query", json={"sql": sql}, timeout=60)
            counts.append(response.json()["rows"][0]["n"])
        assert counts[-1] == 100 * (number + 1)
    assert api.get("/v1/tail").json()["logs"]["rows"] >= 500
