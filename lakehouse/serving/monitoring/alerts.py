"""Alerts as clients read them, and the queries and cursors for reading them a page at a time.

A page starts at a time, or holds the alerts raised since an earlier response. Those are the alerts that the tables hold now
and did not hold at an earlier commit, so the time of their event does not matter. See `alert_feed` for the newest alerts,
which no table holds yet.
"""

import base64
import binascii
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import UTC, date, datetime
from typing import Any, Self

import msgspec
from pyiceberg.table import Table

from lakehouse.contracts.sql import literal
from lakehouse.contracts.times import naive_utc
from lakehouse.engine.connection import scan_sql
from lakehouse.engine.filters import days_filter
from lakehouse.errors import QueryError
from lakehouse.pipeline.lineage.staleness import last_changes

IDENTITY_COLUMNS = ("event_time", "stream", "alert", "dt", "entity", "event_key")
"""The columns that identify an alert, in the order in which alerts are listed."""

SORT_EXPRESSIONS = ("event_time", "stream", "alert", "dt", "coalesce(entity, '')", "coalesce(event_key, '')")
SORT_PARAMETERS = ("?::timestamp", "?", "?", "?::date", "?", "?")


class Alert(msgspec.Struct, frozen=True, kw_only=True):
    """Something in the data that needs attention."""

    stream: str
    alert: str
    """Kind of alert."""
    severity: str
    """info, warning or critical."""
    entity: str | None
    """The thing it is about, such as a device, an account or a service."""
    event_time: datetime
    value: float | None
    threshold: float | None
    message: str | None
    dt: date
    event_key: str | None
    """Key of the event, or of the window, that raised it."""

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> Self:
        """Build an alert from a row of an alert table, with its stream."""
        event_time: datetime = row["event_time"]
        return cls(**{**row, "event_time": event_time if event_time.tzinfo else event_time.replace(tzinfo=UTC)})

    @property
    def identity(self) -> tuple[str, str, date, str | None, str | None]:
        """The values that stay the same when the alert is recomputed from more events."""
        return self.stream, self.alert, self.dt, self.entity, self.event_key

    @property
    def sort_key(self) -> tuple[str, ...]:
        """Position in the order of all alerts, as text."""
        event_time = naive_utc(self.event_time)
        return (
            event_time.isoformat(" ", "microseconds"),
            self.stream,
            self.alert,
            self.dt.isoformat(),
            self.entity or "",
            self.event_key or "",
        )


class AlertsVersion(msgspec.Struct, frozen=True):
    """A version of all alerts: the commits of the tables, and a position in the feed."""

    commits: dict[str, int]
    """Sequence number of each stream's alert table."""
    feed: str
    """An id of `AlertFeed`."""


class AlertCursor(msgspec.Struct, frozen=True, omit_defaults=True):
    """Where to continue: after a position in the order of alerts, or after an earlier version of them.

    Clients hold encoded cursors, so the field names must not change.
    """

    place: tuple[str, ...] = ()
    """A time alone, or the sort key of the previous page's last alert; empty on the first page after a version."""
    seen: AlertsVersion | None = None
    """The version that the client has already read; None when it reads from a time on."""
    until: AlertsVersion | None = None
    """The version that all pages of one result are read from; None on the first page, which reads the current one."""


def encode_cursor(cursor: AlertCursor) -> str:
    """Encode a cursor as text that `parse_since` reads."""
    return base64.urlsafe_b64encode(msgspec.json.encode(cursor)).decode().rstrip("=")


def parse_since(text: str) -> AlertCursor:
    """Parse a time such as 2025-11-20T14:00:00Z, a day, or an encoded cursor. Raises QueryError for anything else."""
    try:
        return AlertCursor((naive_utc(datetime.fromisoformat(text)).isoformat(" ", "microseconds"),))
    except (ValueError, OverflowError):
        pass
    try:
        padded = text + "=" * (-len(text) % 4)
        cursor = msgspec.json.decode(base64.b64decode(padded, altchars=b"-_", validate=True), type=AlertCursor)
        if _is_valid(cursor):
            return cursor
    except (binascii.Error, ValueError, msgspec.DecodeError):
        pass
    raise QueryError(
        f"since={text[:80]!r} is neither a time, such as 2025-11-20T14:00:00Z (UTC), nor the `next` of an earlier response."
    )


def _is_valid(cursor: AlertCursor) -> bool:
    """Return whether `encode_cursor` could have been called with it. Raises ValueError if its position has no valid time."""
    if not cursor.place:
        return cursor.seen is not None and cursor.until is None
    if len(cursor.place) != len(IDENTITY_COLUMNS) or cursor.until is None:
        return False
    time, day = cursor.place[0], cursor.place[3]
    canonical = datetime.fromisoformat(time).isoformat(" ", "microseconds"), date.fromisoformat(day).isoformat()
    return canonical == (time, day)


ANOMALY = "anomaly"
"""The kind of alert that an anomaly is."""


def anomalies_as_alerts(anomalies: str) -> str:
    """Return a SELECT of anomalies as alerts, from one of the rows of their table."""
    return (
        f"select dt, {literal(ANOMALY)} as alert, severity, entity, event_time, value, threshold, message, event_key"
        f" from ({anomalies})"
    )


def stored_alerts(stream: str, *, has_anomalies: bool) -> str:
    """Return a SELECT of the alerts of a stream that its tables hold."""
    alerts = f"select * from serving.{stream}_alerts"
    if not has_anomalies:
        return alerts
    return f"{alerts} union all by name {anomalies_as_alerts(f'select * from serving.{stream}_anomalies')}"


def newest_sql(streams: Iterable[str], limit: int, with_anomalies: Collection[str] = ()) -> tuple[str, list[str | int]]:
    """Return the query for the newest alerts, newest first, and its parameters.

    `with_anomalies` are those of the streams that have a table of anomalies.
    """
    tables = {name: stored_alerts(name, has_anomalies=name in with_anomalies) for name in streams}
    order = ", ".join(f"{expression} desc" for expression in SORT_EXPRESSIONS)
    return f"{_union_sql(tables)}\norder by {order}\nlimit ?", [limit]


def page_sql(sources: Mapping[str, str], place: tuple[str, ...], limit: int) -> tuple[str, list[str | int]]:
    """Return the query for the oldest alerts after a position, and its parameters. `sources` has a SELECT by stream."""
    order = ", ".join(SORT_EXPRESSIONS)
    where = "true"
    if place:
        where = "event_time >= ?::timestamp" if len(place) == 1 else f"({order}) > ({', '.join(SORT_PARAMETERS)})"
    return f"{_union_sql(sources)}\nwhere {where}\norder by {order}\nlimit ?", [*place, limit]


def _union_sql(sources: Mapping[str, str]) -> str:
    selects = (f"select {literal(name)} as stream, * from ({select})" for name, select in sources.items())
    return "select * from (\n" + "\nunion all by name\n".join(selects) + "\n)"


def from_day_sql(table: Table, day: str, commit: int) -> str:
    """Return a SELECT of the rows from a day on that the table held at a commit, or holds now if that commit expired.

    Earlier days need no scan, because an event's `dt` is its date.
    """
    return f"select * from {scan_sql(table, _snapshot_id(table, commit))} where dt >= date {literal(day)}"


def added_sql(table: Table, seen: int, commit: int) -> str | None:
    """Return a SELECT of the rows that the table held at a commit but not at an earlier one, `seen`; None if there are none.

    If the earlier commit has expired, all rows of the days that changed since are selected. Reads metadata.
    """
    if commit == seen:
        return None
    seen = seen if seen < commit else 0  # a lower commit means that the table was recreated
    days = sorted(last_changes(table, since=seen))
    if not days:
        return None
    now = f"select * from {scan_sql(table, _snapshot_id(table, commit))} where {days_filter(days)}"
    before = _snapshot_id(table, seen)
    return now if before is None else f"{now} except select * from {scan_sql(table, before)} where {days_filter(days)}"


def _snapshot_id(table: Table, commit: int) -> int | None:
    return next((s.snapshot_id for s in table.metadata.snapshots if s.sequence_number == commit), None)


def merge_alerts(stored: Sequence[Alert], fresh: Iterable[Alert], place: tuple[str, ...]) -> list[Alert]:
    """Merge alerts of the tables with those after a position that no table holds yet: each once, sorted."""
    in_tables = {alert.identity for alert in stored}
    unstored = [alert for alert in fresh if alert.identity not in in_tables and _is_after(alert, place)]
    return sorted([*stored, *unstored], key=lambda alert: alert.sort_key)


def _is_after(alert: Alert, place: tuple[str, ...]) -> bool:
    return alert.sort_key >= place if len(place) == 1 else alert.sort_key > place
