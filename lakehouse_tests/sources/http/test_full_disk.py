"""A full disk: events are rejected, no acknowledged event is lost, and ingest resumes when there is space."""

import base64
import json
import random
from datetime import UTC, datetime
from pathlib import Path

import httpx

from lakehouse.serving.api import gateway_server as http_server
from lakehouse.settings import Settings
from lakehouse.storage.embedded import lifecycle as storage
from lakehouse.storage.objects.store import Objects
from lakehouse_tests.landing.landed import landed
from lakehouse_tests.waiting import until

MIB = 1 << 20
NDJSON = {"content-type": "application/x-ndjson"}
EVENTS = 200
"""Events in a request, each of 10 kB that do not compress."""


def test_full_disk_rejects_events_and_keeps_acknowledged_ones(small_disk: Path) -> None:
    settings = Settings(home=small_disk / "home", http_port=18320)
    ballast = small_disk / "ballast"
    with storage.running(settings) as connection:
        ballast.write_bytes(bytes(150 * MIB))
        running = http_server.start(settings)
        acknowledged: set[str] = set()
        try:
            with httpx.Client(base_url=running.url, timeout=60) as client:
                for number in range(60):
                    rejected = _post(client, number, acknowledged)
                    if rejected is not None:
                        break
                assert rejected is not None
                assert rejected.status_code == 503
                assert "space" in rejected.json()["detail"]
                assert http_server.stop(settings)
                assert http_server.start(settings).url == running.url, "it starts, because it answers reads"
                ready = client.get("/health/ready")
                assert (ready.status_code, "space" in ready.json()["detail"]) == (503, True)
                ballast.unlink()
                until(lambda: _post(client, 100, acknowledged) is None, pause=1)
        finally:
            http_server.stop(settings)
        stored = {json.loads(line)["event_id"] for line in landed(Objects.from_connection(connection), "logs")}
        assert acknowledged <= stored


def _post(client: httpx.Client, number: int, acknowledged: set[str]) -> httpx.Response | None:
    """Post events. Returns the response if they are rejected, else None."""
    rng, now = random.Random(number), datetime.now(UTC)
    ids = [f"{number}-{n}" for n in range(EVENTS)]
    event = {"event_time": f"{now:%Y-%m-%dT%H:%M:%SZ}", "service": "s", "level": "INFO"}
    lines = [
        json.dumps(event | {"event_id": event_id, "message": base64.b64encode(rng.randbytes(7500)).decode()})
        for event_id in ids
    ]
    response = client.post("/v1/streams/logs/events", content="\n".join(lines), headers=NDJSON)
    if response.status_code != httpx.codes.ACCEPTED:
        return response
    acknowledged.update(ids)
    return None
