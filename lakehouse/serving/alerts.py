"""Alerts as people and programs read them: those of the tables, in order of their event time, a page at a time.

The newest ones, which no table holds yet, are the affair of `alert_feed`.
"""

import base64
import binascii
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, date, datetime
from typing import Any, Self

import msgspec

from lakehouse.contracts.sql import literal
from lakehouse.errors import QueryError

ORDER = ("event_time", "stream", "alert", "dt", "entity", "event_key")
"""What tells one alert from another, in the order in which they are listed."""


class Alert(msgspec.Struct, frozen=True, kw_only=True):
    """Something in the data that somebody should look at."""

    stream: str
    alert: str
    """Its kind."""
    severity: str
    """info, warning or critical."""
    entity: str | None
    """What it is about: a device, an account, a service."""
    event_time: datetime
    value: float | None
    threshold: float | None
    message: str | None
    dt: date
    event_key: str | None
    """The event it came from, or the window."""

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> Self:
        """An alert from a row of an alert table with its stream."""
        moment: datetime = row["event_time"]
        return cls(**{**row, "event_time": moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment})

    @property
    def identity(self) -> tuple[str, str, date, str | None, str | None]:
        """What stays when it is computed again with more events."""
        return self.stream, self.alert, self.dt, self.entity, self.event_key

    @property
    def place(self) -> tuple[str, ...]:
        """Where it stands in the order of all alerts."""
        moment = self.event_time.astimezone(UTC).replace(tzinfo=None)
        return (
            moment.isoformat(" ", "microseconds"),
            self.stream,
            self.alert,
            self.dt.isoformat(),
            self.entity or "",
            self.event_key or "",
        )


class Since(msgspec.Struct, frozen=True):
    """From where on alerts are asked for: a moment, or the place of the last one seen."""

    place: tuple[str, ...]

    @property
    def day(self) -> date:
        """No earlier day is looked at: an event's `dt` is its date."""
        return date.fromisoformat(self.place[0][:10])


def cursor_of(alert: Alert) -> str:
    """A text that stands for this alert's place; `parse_since` reads it."""
    return base64.urlsafe_b64encode(msgspec.json.encode(alert.place)).decode().rstrip("=")


def parse_since(text: str) -> Since:
    """A time such as 2025-11-20T14:00:00Z, a day, or a cursor. Raises QueryError for anything else."""
    try:
        moment = datetime.fromisoformat(text)
        moment = moment.astimezone(UTC).replace(tzinfo=None) if moment.tzinfo else moment
        return Since((moment.isoformat(" ", "microseconds"),))
    except (ValueError, OverflowError):
        pass
    try:
        padded = text + "=" * (-len(text) % 4)
        place = msgspec.json.decode(base64.b64decode(padded, altchars=b"-_", validate=True), type=tuple[str, ...])
        since = Since(place)
        if len(place) == len(ORDER) and datetime.fromisoformat(place[0]) and date.fromisoformat(place[3]):
            return since
    except (binascii.Error, ValueError, msgspec.DecodeError):
        pass
    raise QueryError(
        f"since={text[:80]!r} is neither a time, such as 2025-11-20T14:00:00Z (UTC), nor the `next` of an earlier answer."
    )


def alerts_sql(streams: Iterable[str], since: Since | None, limit: int) -> tuple[str, list[str | int]]:
    """The query over the alert tables and its parameters: the newest first, or with `since` the oldest from there on."""
    tables = "\nunion all by name\n".join(
        f"select {literal(name)} as stream, * from serving.{name}_alerts" for name in streams
    )
    if since is None:
        return f"select * from (\n{tables}\n)\norder by {', '.join(f'{column} desc' for column in KEYS)}\nlimit ?", [
            limit
        ]
    compared = "event_time >= ?::timestamp" if len(since.place) == 1 else f"({', '.join(KEYS)}) > ({', '.join(PLACE)})"
    sql = f"select * from (\n{tables}\n)\nwhere dt >= ?::date and {compared}\norder by {', '.join(KEYS)}\nlimit ?"
    return sql, [since.day.isoformat(), *since.place, limit]


KEYS = ("event_time", "stream", "alert", "dt", "coalesce(entity, '')", "coalesce(event_key, '')")
PLACE = ("?::timestamp", "?", "?", "?::date", "?", "?")


def merged(stored: Sequence[Alert], fresh: Iterable[Alert], since: Since | None, limit: int) -> list[Alert]:
    """Alerts of the tables and those that no table holds yet, each once, in the order that `alerts_sql` gives."""
    held = {alert.identity for alert in stored}
    found = [alert for alert in fresh if alert.identity not in held and (since is None or _after(alert, since))]
    return sorted([*stored, *found], key=lambda alert: alert.place, reverse=since is None)[:limit]


def _after(alert: Alert, since: Since) -> bool:
    return alert.place >= since.place if len(since.place) == 1 else alert.place > since.place
