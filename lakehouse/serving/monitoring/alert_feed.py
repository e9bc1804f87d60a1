"""The feed of new alerts: those of the newest events first, before any table holds them, then those of the tables.

An alert is fed once, and again if it is recomputed with another result. The feed is in memory and bounded. A client that
was away too long, or that followed a process which is gone, receives all alerts the feed still holds.
"""

import asyncio
import logging
import secrets
import time
from collections import deque
from collections.abc import AsyncIterator, Collection, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta

import msgspec

from lakehouse.contracts.streams import Stream
from lakehouse.errors import LakehouseError
from lakehouse.pipeline.alerts import alerts_of_sql
from lakehouse.pipeline.table_specs import anomaly_tables
from lakehouse.serving.monitoring.alerts import Alert, stored_alerts
from lakehouse.serving.monitoring.anomalies import AnomalyTails, anomalies_table
from lakehouse.serving.monitoring.newest_rows import newest_rows_sql
from lakehouse.serving.query.lake_snapshot import LakeSnapshot
from lakehouse.serving.query.reader_pool import ReaderPool
from lakehouse.serving.query.snapshot_tracker import SnapshotTracker

log = logging.getLogger(__name__)

MAX_KEPT_ALERTS = 5_000
"""Alerts kept for clients that reconnect."""

MAX_NEW_ALERTS = 2_000
"""Alerts of one stream that one check finds at most, newest first."""

MIN_CHECK_SECONDS = 1.0
MAX_CHECK_SECONDS = 20.0
MIN_IDLE_RATIO = 10
"""The pause between two checks, in multiples of the time a check takes, within the bounds above."""

FRESH_WINDOW = timedelta(minutes=20)
"""Only rows that arrived within it are searched for fresh alerts. The tables hold the alerts of older rows."""

AlertsByIdentity = dict[tuple[object, ...], Alert]


class FeedEntry(msgspec.Struct, frozen=True):
    """An alert with its position in the feed."""

    number: int
    alert: Alert
    stored: bool
    """Whether a table already held it when it was fed."""


@dataclass(slots=True)
class _StreamAlerts:
    """The alerts of one stream at its last check."""

    stored: AlertsByIdentity = field(default_factory=dict)
    fresh: AlertsByIdentity = field(default_factory=dict)
    versions: tuple[object, ...] = ()


class AlertFeed:
    """Feeds the alerts of all streams. One task checks for new alerts, any number of clients follow."""

    def __init__(self, tracker: SnapshotTracker, readers: ReaderPool, anomalies: AnomalyTails) -> None:
        self._tracker = tracker
        self._readers = readers
        self._anomalies = anomalies
        self._id = secrets.token_hex(4)
        self._entries: deque[FeedEntry] = deque(maxlen=MAX_KEPT_ALERTS)
        self._number = 0
        self._streams: dict[str, _StreamAlerts] = {}
        self._added = asyncio.Event()

    async def run(self) -> None:
        """Check for new alerts until cancelled."""
        while True:
            started = time.monotonic()
            for stream in self._tracker.latest.streams.values():
                try:
                    await self._check(stream)
                except LakehouseError as error:
                    log.warning("could not check %s for alerts: %s", stream.name, error)
                except Exception:  # an exception would end the task, and with it the feed
                    log.exception("could not check %s for alerts", stream.name)
            idle = min((time.monotonic() - started) * MIN_IDLE_RATIO, MAX_CHECK_SECONDS)
            await asyncio.sleep(max(MIN_CHECK_SECONDS, idle))

    @property
    def position(self) -> str:
        """The id of the newest entry."""
        return f"{self._id}-{self._number}"

    def event_id(self, entry: FeedEntry) -> str:
        """Return the id by which a client reports that it has received an entry."""
        return f"{self._id}-{entry.number}"

    def unstored(self, streams: Collection[str], after: str | None, until: str) -> list[Alert]:
        """Return the alerts of these streams that were fed after one id and up to another, before a table held them.

        An id of another process counts as the feed's start.
        """
        first, last = self._number_of(after or ""), self._number_of(until)
        newest = {entry.alert.identity: entry for entry in self._entries if first < entry.number <= last}
        return [entry.alert for entry in newest.values() if not entry.stored and entry.alert.stream in streams]

    def fed_before_stored(self, until: str | None) -> set[Alert]:
        """Return the alerts that were fed up to an id, before a table held them."""
        last = self._number_of(until or "")
        return {entry.alert for entry in self._entries if entry.number <= last and not entry.stored}

    async def follow(self, last_id: str | None) -> AsyncIterator[FeedEntry]:
        """Yield new entries as they are added: those after `last_id`, or from now on."""
        number = self._number if last_id is None else self._number_of(last_id)
        while True:
            added = self._added
            for entry in [entry for entry in self._entries if entry.number > number]:
                number = entry.number
                yield entry
            await added.wait()

    def _number_of(self, event_id: str) -> int:
        feed_id, _, number = event_id.partition("-")
        return int(number) if feed_id == self._id and number.isdecimal() else 0

    async def _check(self, stream: Stream) -> None:
        snapshot = self._tracker.latest
        state = self._streams.setdefault(stream.name, _StreamAlerts())
        versions = _source_versions(snapshot, stream)
        if versions == state.versions:
            return
        first_day = datetime.now(UTC).date() - timedelta(days=1)
        stored = await self._stored_alerts(snapshot, stream, first_day)
        fresh = await self._fresh_alerts(snapshot, stream, first_day)
        fresh |= await self._anomalies.fresh(snapshot, stream, first_day)
        kept = {key: alert for key, alert in state.fresh.items() if alert.dt >= first_day}
        self._add(state, stored, kept | fresh)
        state.versions = versions

    def _add(self, state: _StreamAlerts, stored: AlertsByIdentity, fresh: AlertsByIdentity) -> None:
        fresh = {key: alert for key, alert in fresh.items() if key not in stored}
        before = state.fresh | state.stored
        new = [alert for key, alert in (fresh | stored).items() if before.get(key) != alert]
        state.stored, state.fresh = stored, fresh
        for alert in sorted(new, key=lambda alert: alert.sort_key):
            self._number += 1
            self._entries.append(FeedEntry(self._number, alert, alert.identity in stored))
        if new:
            self._added.set()
            self._added = asyncio.Event()

    async def _stored_alerts(self, snapshot: LakeSnapshot, stream: Stream, first_day: date) -> AlertsByIdentity:
        has_anomalies = anomalies_table(snapshot, stream.name) is not None
        sql = (
            f"select * from ({stored_alerts(stream.name, has_anomalies=has_anomalies)}) where dt >= ?::date"
            f" order by event_time desc limit {MAX_NEW_ALERTS}"
        )
        return await self._read(snapshot, stream, sql, [first_day.isoformat()])

    async def _fresh_alerts(self, snapshot: LakeSnapshot, stream: Stream, first_day: date) -> AlertsByIdentity:
        """Compute the alerts of the newest rows: a subset of what the whole day yields, minutes earlier."""
        events = await asyncio.to_thread(newest_rows_sql, snapshot, stream, datetime.now(UTC) - FRESH_WINDOW)
        sql = alerts_of_sql(stream, f"select * from ({events}) where dt >= date '{first_day}'")
        return await self._read(snapshot, stream, f"{sql}\norder by event_time desc\nlimit {MAX_NEW_ALERTS}", [])

    async def _read(
        self, snapshot: LakeSnapshot, stream: Stream, sql: str, parameters: Sequence[str]
    ) -> AlertsByIdentity:
        result = await self._readers.run(sql, parameters, snapshot=snapshot)
        alerts = (Alert.of({**row, "stream": stream.name}) for row in result.table.to_pylist())
        return {alert.identity: alert for alert in alerts}


def _source_versions(snapshot: LakeSnapshot, stream: Stream) -> tuple[object, ...]:
    """Return the versions of everything that alerts are computed from or stored in."""
    names = (
        f"realtime.{stream.name}", f"silver.{stream.name}", f"serving.{stream.name}_alerts", *anomaly_tables(stream)
    )  # fmt: skip
    return *(snapshot.snapshot_ids.get(name) for name in names), snapshot.tail.get(stream.name)
