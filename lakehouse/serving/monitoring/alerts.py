"""Alerts as people and programs read them, a page at a time: those from a time on, and those that have come up since.

What has come up is what the tables hold now and did not at an earlier commit, so an alert is given whenever its event
happened and arrived. The newest ones, which no table holds yet, are the affair of `alert_feed`.
"""

import base64
import binascii
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, date, datetime
from typing import Any, Self

import msgspec
from pyiceberg.table import Table

from lakehouse.contracts.sql import literal
from lakehouse.engine.connection import scan_sql
from lakehouse.engine.filters import days_filter
from lakehouse.errors import QueryError
from lakehouse.pipeline.lineage.staleness import last_changes

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


class Seen(msgspec.Struct, frozen=True):
    """Up to where alerts are known: the commits of the tables, and a number of the feed's."""

    commits: dict[str, int]
    """The sequence number of each stream's table."""
    feed: str
    """An id of `AlertFeed`'s."""


class Since(msgspec.Struct, frozen=True, omit_defaults=True):
    """What is asked for: alerts from a place on, or those that were not among what has been seen."""

    place: tuple[str, ...] = ()
    """A moment, or the place of the last alert of the page before; empty for the first page of what has come up."""
    seen: Seen | None = None
    """What has been seen before; None where alerts are asked for from a time on."""
    until: Seen | None = None
    """What the pages of one answer are made of; None for the first, which is made of what there is."""


def cursor_of(since: Since) -> str:
    """A text that `parse_since` reads."""
    return base64.urlsafe_b64encode(msgspec.json.encode(since)).decode().rstrip("=")


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
        since = msgspec.json.decode(base64.b64decode(padded, altchars=b"-_", validate=True), type=Since)
        if _is_whole(since):
            return since
    except (binascii.Error, ValueError, msgspec.DecodeError):
        pass
    raise QueryError(
        f"since={text[:80]!r} is neither a time, such as 2025-11-20T14:00:00Z (UTC), nor the `next` of an earlier answer."
    )


def _is_whole(since: Since) -> bool:
    """Whether it may be what an answer gave. Raises ValueError for a place without a time."""
    if not since.place:
        return since.seen is not None and since.until is None
    if len(since.place) != len(ORDER) or since.until is None:
        return False
    moment, day = since.place[0], since.place[3]
    written = datetime.fromisoformat(moment).isoformat(" ", "microseconds"), date.fromisoformat(day).isoformat()
    return written == (moment, day)


def newest_sql(streams: Iterable[str], limit: int) -> tuple[str, list[str | int]]:
    """The query for the newest alerts, the newest first, and its parameters."""
    tables = {name: f"from serving.{name}_alerts" for name in streams}
    return f"{_all(tables)}\norder by {', '.join(f'{column} desc' for column in KEYS)}\nlimit ?", [limit]


def page_sql(sources: Mapping[str, str], place: tuple[str, ...], limit: int) -> tuple[str, list[str | int]]:
    """The query for the oldest alerts that these SELECTs give by stream, from a place on, and its parameters."""
    compared = "true"
    if place:
        compared = "event_time >= ?::timestamp" if len(place) == 1 else f"({', '.join(KEYS)}) > ({', '.join(PLACE)})"
    return f"{_all(sources)}\nwhere {compared}\norder by {', '.join(KEYS)}\nlimit ?", [*place, limit]


KEYS = ("event_time", "stream", "alert", "dt", "coalesce(entity, '')", "coalesce(event_key, '')")
PLACE = ("?::timestamp", "?", "?", "?::date", "?", "?")


def _all(sources: Mapping[str, str]) -> str:
    tables = (f"select {literal(name)} as stream, * from ({select})" for name, select in sources.items())
    return "select * from (\n" + "\nunion all by name\n".join(tables) + "\n)"


def from_sql(table: Table, day: str, commit: int) -> str:
    """A SELECT of what the table held from that day on at a commit, or holds now where that is forgotten.

    No earlier day is looked at: an event's `dt` is its date.
    """
    return f"select * from {scan_sql(table, _snapshot(table, commit))} where dt >= date {literal(day)}"


def since_sql(table: Table, seen: int, commit: int) -> str | None:
    """A SELECT of what the table held at a commit and did not at an earlier one; None when that is nothing.

    Where the earlier one is forgotten, the days that have changed since are given whole. Metadata is read.
    """
    if commit == seen:
        return None
    seen = seen if seen < commit else 0  # another table of that name
    days = sorted(last_changes(table, since=seen))
    if not days:
        return None
    now = f"select * from {scan_sql(table, _snapshot(table, commit))} where {days_filter(days)}"
    before = _snapshot(table, seen)
    return now if before is None else f"{now} except select * from {scan_sql(table, before)} where {days_filter(days)}"


def _snapshot(table: Table, commit: int) -> int | None:
    return next((one.snapshot_id for one in table.metadata.snapshots if one.sequence_number == commit), None)


def merged(stored: Sequence[Alert], fresh: Iterable[Alert], place: tuple[str, ...]) -> list[Alert]:
    """Alerts of the tables and those from a place on that no table holds yet, each once, in order."""
    held = {alert.identity for alert in stored}
    found = [alert for alert in fresh if alert.identity not in held and _is_after(alert, place)]
    return sorted([*stored, *found], key=lambda alert: alert.place)


def _is_after(alert: Alert, place: tuple[str, ...]) -> bool:
    return alert.place >= place if len(place) == 1 else alert.place > place
