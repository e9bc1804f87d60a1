"""A client that posts events and records which were acknowledged, while the server is killed and restarted."""

import json
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from threading import Thread
from typing import Any

import httpx

STREAM = "financial"
PATH = f"/v1/streams/{STREAM}/events"
EVENTS = 25
"""Events per request."""

BATCHES = 4
"""Requests per client."""

VALID_FOR_EACH_INVALID = 40
"""Per day at least, so that the quality gate passes whatever part of them lands."""

REPEATED_RATIO = 0.1
"""Share of events that repeat an earlier key."""

RESENT_RATIO = 0.2
"""Share of acknowledged requests that are sent again, as by a client that never saw the answer."""

MAX_ATTEMPTS = 8
RETRY_SECONDS = 0.25
ANSWER_SECONDS = 20.0


@dataclass(slots=True)
class Events:
    """All events that were sent: key → whether it is valid; and the keys that were acknowledged."""

    sent: dict[str, bool] = field(default_factory=dict)
    acknowledged: set[str] = field(default_factory=set)
    requests: int = 0
    again: int = 0
    """Requests that were sent more than once."""

    def draw(self, rng: random.Random) -> list[str]:
        """Draw the keys of one more request; some repeat earlier ones."""
        known = list(self.sent)
        keys = {
            rng.choice(known) if known and rng.random() < REPEATED_RATIO else f"{rng.getrandbits(64):016x}"
            for _ in range(EVENTS)
        }
        for key in sorted(keys - self.sent.keys()):
            valid, invalid = self._of_day(_days_ago(key))
            self.sent[key] = valid < VALID_FOR_EACH_INVALID * (invalid + 1)
        return sorted(keys)

    def _of_day(self, day: int) -> tuple[int, int]:
        valid = [is_valid for key, is_valid in self.sent.items() if _days_ago(key) == day]
        return sum(valid), len(valid) - sum(valid)


class Sender(Thread):
    """Posts requests one after another, each until it is acknowledged or out of attempts."""

    def __init__(self, events: Events, rng: random.Random, url: Callable[[], str | None], batches: int = BATCHES):
        """Create a sender. `url` returns the server's current address, or None while it is down."""
        super().__init__(name="sender", daemon=True)
        self._events, self._url = events, url
        self._batches = [(events.draw(rng), rng.random() < RESENT_RATIO) for _ in range(batches)]
        self.error: str | None = None

    def run(self) -> None:
        """Post all requests."""
        with httpx.Client(timeout=ANSWER_SECONDS) as client:
            for keys, again in self._batches:
                if self._post(client, keys) and again:
                    self._events.again += 1
                    self._post(client, keys)

    def _post(self, client: httpx.Client, keys: Sequence[str]) -> bool:
        """Post the events of these keys; return True if the server acknowledged them. Otherwise they may or may not be stored."""
        body = b"".join(json.dumps(event(key, self._events.sent[key])).encode() + b"\n" for key in keys)
        for number in range(MAX_ATTEMPTS):
            if number:
                time.sleep(RETRY_SECONDS)
            self._events.again += bool(number)
            try:
                answer = client.post(f"{self._url()}{PATH}", content=body, headers=HEADERS)
            except (httpx.TransportError, httpx.UnsupportedProtocol):  # the latter while the server is down
                continue
            if answer.status_code == httpx.codes.ACCEPTED:
                self._events.requests += 1
                self._events.acknowledged.update(keys)
                return True
            if answer.status_code not in (429, 500, 502, 503):
                self.error = f"POST was answered {answer.status_code}: {answer.text[:200]}"
        return False


HEADERS = {"content-type": "application/x-ndjson"}


def event(key: str, valid: bool) -> dict[str, Any]:
    """Return an event whose fields follow from its key, so that it is the same whenever it is sent."""
    ago = timedelta(days=_days_ago(key), seconds=int(key[1:4], 16))
    at = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0) - ago
    return {
        "event_id": key,
        "event_time": at.isoformat(),
        "account_id": f"a{int(key[4:6], 16)}",
        "amount": f"{int(key[6:10], 16) + 1}.25" if valid else "-1",
        "currency": "EUR",
        "type": "payment",
        "status": "settled",
    }


def _days_ago(key: str) -> int:
    return int(key[0], 16) % 2
