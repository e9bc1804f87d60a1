"""Count the events that each key has sent to each stream, for the audit log."""

from collections import Counter

from lakehouse.audit_log.entries import Event
from lakehouse.audit_log.log import AuditLog
from lakehouse.http.api_keys import ApiKey, actor_of
from lakehouse.settings import Settings

SUM_SECONDS = 10.0
"""Time over which events are summed to one entry, because a request each would cost ingest too much."""


class Sends:
    """The events and requests since the last entries, and the log that receives those."""

    def __init__(self, settings: Settings) -> None:
        self._log = AuditLog(settings)
        self._requests: Counter[tuple[str, str]] = Counter()
        self._events: Counter[tuple[str, str]] = Counter()

    def count(self, key: ApiKey | None, stream: str, events: int) -> None:
        """Count a request that was answered."""
        place = actor_of(key), stream
        self._requests[place] += 1
        self._events[place] += events

    def write(self) -> None:
        """Write an entry for each key and stream. Blocks until they are on disk."""
        requests, self._requests = self._requests, Counter()
        events, self._events = self._events, Counter()
        entries = [
            Event(actor, "send", stream, {"requests": count, "events": events[actor, stream]})
            for (actor, stream), count in sorted(requests.items())
        ]
        self._log.write(*entries)
