"""Pages of alerts, each with a cursor for the next one, so that a client that follows the cursor misses none.

A cursor says which table commits and which feed position the client has read. The next pages hold the alerts that the
tables hold now and did not hold then, whenever their event happened, and those fed since that no table holds yet. Alerts
that the client received from the feed before a table held them are left out.
"""

import asyncio
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import msgspec
from pyiceberg.table import Table

from lakehouse.serving.monitoring.alert_feed import AlertFeed
from lakehouse.serving.monitoring.alerts import (
    Alert,
    AlertCursor,
    AlertsVersion,
    added_sql,
    anomalies_as_alerts,
    encode_cursor,
    from_day_sql,
    merge_alerts,
    newest_sql,
    page_sql,
)
from lakehouse.serving.monitoring.anomalies import anomalies_table
from lakehouse.serving.query.lake_snapshot import LakeSnapshot
from lakehouse.serving.query.reader_pool import ReaderPool
from lakehouse.serving.query.snapshot_tracker import SnapshotTracker
from lakehouse.storage.iceberg.snapshots import sequence_of


@dataclass(frozen=True, slots=True)
class AlertPage:
    """A page of alerts, and the encoded cursor for the next page."""

    alerts: list[Alert]
    next: str


class AlertPages:
    """Reads alerts from the tables and the feed."""

    def __init__(self, tracker: SnapshotTracker, readers: ReaderPool, feed: AlertFeed) -> None:
        self._tracker = tracker
        self._readers = readers
        self._feed = feed

    async def newest(self, streams: Collection[str], limit: int) -> AlertPage:
        """Return the newest alerts by event time, newest first. The next page holds alerts raised from now on."""
        feed_position, snapshot = self._feed.position, self._tracker.latest
        sql, parameters = newest_sql(streams, limit, _with_anomalies(snapshot, streams))
        stored = await self._read(snapshot, sql, parameters)
        fresh = self._feed.unstored(streams, None, feed_position)
        alerts = merge_alerts(stored, fresh, ())[::-1][:limit]
        return AlertPage(alerts, encode_cursor(AlertCursor(seen=_version(snapshot, streams, feed_position))))

    async def since(self, streams: Collection[str], cursor: AlertCursor, limit: int) -> AlertPage:
        """Return the oldest alerts after a cursor. All pages of one result are read from the same version."""
        # The feed lags behind the tables: its alerts up to this position are in the tables, or are not stored anywhere.
        feed_position, snapshot = self._feed.position, self._tracker.latest
        until = cursor.until or _version(snapshot, streams, feed_position)
        sources = await asyncio.to_thread(_sources, snapshot, streams, cursor, until)
        before = cursor.seen.feed if cursor.seen else None
        already_fed = self._feed.fed_before_stored(before)
        fresh = self._feed.unstored(streams, before, until.feed)
        place = cursor.place
        while True:
            sql, parameters = page_sql(sources, place, limit)
            stored = await self._read(snapshot, sql, parameters) if sources else []
            last = stored[-1].sort_key if len(stored) == limit else None
            alerts = merge_alerts(
                [alert for alert in stored if alert not in already_fed],
                [alert for alert in fresh if last is None or alert.sort_key <= last],
                place,
            )
            if last is None and len(alerts) <= limit:
                return AlertPage(alerts, encode_cursor(AlertCursor(seen=until)))
            place = alerts[limit - 1].sort_key if len(alerts) > limit or last is None else last
            if alerts:
                next_cursor = msgspec.structs.replace(cursor, place=place, until=until)
                return AlertPage(alerts[:limit], encode_cursor(next_cursor))

    async def _read(self, snapshot: LakeSnapshot, sql: str, parameters: Sequence[str | int]) -> list[Alert]:
        result = await self._readers.run(sql, parameters, snapshot=snapshot)
        return [Alert.of(row) for row in result.table.to_pylist()]


def _version(snapshot: LakeSnapshot, streams: Collection[str], feed_position: str) -> AlertsVersion:
    tables = [f"{name}_alerts" for name in streams]
    tables += [f"{name}_anomalies" for name in _with_anomalies(snapshot, streams)]
    commits = {table.removesuffix("_alerts"): sequence_of(snapshot.tables.load(f"serving.{table}")) for table in tables}
    return AlertsVersion(commits, feed_position)


def _with_anomalies(snapshot: LakeSnapshot, streams: Collection[str]) -> list[str]:
    """Select the streams that have a table of anomalies."""
    return [name for name in streams if anomalies_table(snapshot, name) is not None]


def _sources(
    snapshot: LakeSnapshot, streams: Collection[str], cursor: AlertCursor, until: AlertsVersion
) -> dict[str, str]:
    """Return, by stream, the SELECT of the alerts to read; streams without any are left out. Reads metadata."""
    selects: dict[str, str] = {}
    for name in streams:
        parts = [_source(snapshot.tables.load(f"serving.{name}_alerts"), name, cursor, until)]
        if (table := anomalies_table(snapshot, name)) is not None:
            anomalies = _source(table, f"{name}_anomalies", cursor, until)
            parts.append(anomalies and anomalies_as_alerts(anomalies))
        if select := " union all by name ".join(f"({part})" for part in parts if part):
            selects[name] = select
    return selects


def _source(table: Table, name: str, cursor: AlertCursor, until: AlertsVersion) -> str | None:
    commit = until.commits.get(name, 0)
    if cursor.seen is None:
        return from_day_sql(table, cursor.place[0][:10], commit)
    return added_sql(table, cursor.seen.commits.get(name, 0), commit)
