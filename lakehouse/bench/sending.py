"""A client that posts events and notes which were acknowledged, whatever becomes of the server meanwhile."""

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
"""Of one request."""

BATCHES = 4
"""Requests of one client."""

VALID_FOR_EACH_INVALID = 40
"""At least, of each day, so that the quality gate is far away whatever part of them lands."""

REPEATED = 0.1
SENT_AGAIN = 0.2
"""Requests that are sent again although they were acknowledged, as by a client that never saw it."""

TRIES = 8
PAUSE = 0.25
ANSWER_SECONDS = 20.0


@dataclass(slots=True)
class Events:
    """What was sent: all of it by key, whether it is valid; and the keys that their sender knows to be stored."""

    sent: dict[str, bool] = field(default_factory=dict)
    acknowledged: set[str] = field(default_factory=set)
    requests: int = 0
    again: int = 0
    """Requests that were sent again."""

    def draw(self, chance: random.Random) -> list[str]:
        """The keys of one more request, some of them those of earlier ones."""
        known = list(self.sent)
        keys = {
            chance.choice(known) if known and chance.random() < REPEATED else f"{chance.getrandbits(64):016x}"
            for _ in range(EVENTS)
        }
        for key in sorted(keys - self.sent.keys()):
            valid, invalid = self._of_day(_days_ago(key))
            self.sent[key] = valid < VALID_FOR_EACH_INVALID * (invalid + 1)
        return sorted(keys)

    def _of_day(self, day: int) -> tuple[int, int]:
        found = [good for key, good in self.sent.items() if _days_ago(key) == day]
        return sum(found), len(found) - sum(found)


class Sender(Thread):
    """Posts some requests one after another, each until it is acknowledged or given up."""

    def __init__(self, events: Events, chance: random.Random, url: Callable[[], str | None], batches: int = BATCHES):
        """`url` says where the server is just now; None while it is nowhere."""
        super().__init__(name="sender", daemon=True)
        self._events, self._url = events, url
        self._batches = [(events.draw(chance), chance.random() < SENT_AGAIN) for _ in range(batches)]
        self.problem: str | None = None

    def run(self) -> None:
        """Post them all."""
        with httpx.Client(timeout=ANSWER_SECONDS) as client:
            for keys, again in self._batches:
                if self._post(client, keys) and again:
                    self._events.again += 1
                    self._post(client, keys)

    def _post(self, client: httpx.Client, keys: Sequence[str]) -> bool:
        """Whether the server said that these are stored. Where it did not they may be, or not."""
        body = b"".join(json.dumps(event(key, self._events.sent[key])).encode() + b"\n" for key in keys)
        for number in range(TRIES):
            if number:
                time.sleep(PAUSE)
            self._events.again += bool(number)
            try:
                answer = client.post(f"{self._url()}{PATH}", content=body, headers=HEADERS)
            except (httpx.TransportError, httpx.UnsupportedProtocol):  # the latter while there is no URL
                continue
            if answer.status_code == httpx.codes.ACCEPTED:
                self._events.requests += 1
                self._events.acknowledged.update(keys)
                return True
            if answer.status_code not in (429, 500, 502, 503):
                self.problem = f"events were answered {answer.status_code}: {answer.text[:200]}"
        return False


HEADERS = {"content-type": "application/x-ndjson"}


def event(key: str, valid: bool) -> dict[str, Any]:
    """An event whose fields follow from its key, so that it is the same whenever it is sent."""
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
