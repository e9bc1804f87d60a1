"""Load for the HTTP server with Locust: `locust -f examples/locustfile.py --host http://127.0.0.1:8000`.

`LAKEHOUSE_STREAM`, `LAKEHOUSE_EVENTS_A_REQUEST` and `LAKEHOUSE_KEY` say what is sent. Locust takes some ten times the
processor time that `lakehouse bench ingest` takes for a request: for figures use that one.
"""

import os
from datetime import UTC, datetime, timedelta

from locust import FastHttpUser, events, task

from lakehouse.contracts.streams import discover
from lakehouse.sources.simulation import Simulator

STREAM = os.environ.get("LAKEHOUSE_STREAM", "financial")
EVENTS = int(os.environ.get("LAKEHOUSE_EVENTS_A_REQUEST", "1000"))
BODIES: list[bytes] = []


@events.test_start.add_listener  # type: ignore[untyped-decorator]
def prepare(**_: object) -> None:
    """Make the bodies beforehand, so that Locust is not what is measured."""
    stream, now = discover()[STREAM], datetime.now(UTC)
    simulator = Simulator(stream.contract, stream.simulate, os.getpid())
    BODIES[:] = [simulator.batch(EVENTS, now - timedelta(hours=1), now).lines for _ in range(50)]


class Sender(FastHttpUser):  # type: ignore[misc]
    """Sends one body after the other, each when the one before is stored."""

    def on_start(self) -> None:
        """Choose a place to start from."""
        self.number = id(self)
        self.headers = {"content-type": "application/x-ndjson"}
        if key := os.environ.get("LAKEHOUSE_KEY"):
            self.headers["authorization"] = f"Bearer {key}"

    @task
    def send(self) -> None:
        """Post a body."""
        self.number += 1
        self.client.post(f"/v1/streams/{STREAM}/events", data=BODIES[self.number % len(BODIES)], headers=self.headers)
