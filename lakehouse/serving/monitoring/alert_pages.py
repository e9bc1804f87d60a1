"""Alerts a page at a time, each page with what to ask for to have the next: nothing that comes up meanwhile is passed over.

A reader has seen the tables as of some commits and the feed up to a number. What follows is what the tables hold now and
did not then, whenever it happened, and what has been fed since and no table holds yet; without what had been fed before
the tables had it.
"""

import asyncio
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import msgspec

from lakehouse.pipeline.lineage.staleness import sequence_of
from lakehouse.serving.monitoring.alert_feed import AlertFeed
from lakehouse.serving.monitoring.alerts import (
    Alert,
    Seen,
    Since,
    cursor_of,
    from_sql,
    merged,
    newest_sql,
    page_sql,
    since_sql,
)
from lakehouse.serving.query.lake_snapshot import LakeSnapshot, SnapshotTracker
from lakehouse.serving.query.reader_pool import ReaderPool


@dataclass(frozen=True, slots=True)
class Page:
    """Some alerts, and a cursor for those that follow."""

    alerts: list[Alert]
    next: str


class AlertPages:
    """Reads alerts from tables and feed."""

    def __init__(self, tracker: SnapshotTracker, readers: ReaderPool, feed: AlertFeed) -> None:
        self._tracker = tracker
        self._readers = readers
        self._feed = feed

    async def newest(self, streams: Collection[str], limit: int) -> Page:
        """The newest by the time of their event, the newest first; what comes up from now on follows."""
        fed, snapshot = self._feed.position, self._tracker.latest
        sql, parameters = newest_sql(streams, limit)
        stored = await self._read(snapshot, sql, parameters)
        found = merged(stored, self._feed.unstored(streams, None, fed), ())[::-1][:limit]
        return Page(found, cursor_of(Since(seen=_seen(snapshot, streams, fed))))

    async def since(self, streams: Collection[str], since: Since, limit: int) -> Page:
        """The oldest of those that are asked for; of one answer every page is made of the same."""
        # The feed is behind the tables: what it knows up to here they hold, or it is among what no table holds.
        fed, snapshot = self._feed.position, self._tracker.latest
        until = since.until or _seen(snapshot, streams, fed)
        sources = await asyncio.to_thread(_sources, snapshot, streams, since, until)
        before = since.seen.feed if since.seen else None
        known = self._feed.known(before)
        fresh = self._feed.unstored(streams, before, until.feed)
        place = since.place
        while True:
            sql, parameters = page_sql(sources, place, limit)
            stored = await self._read(snapshot, sql, parameters) if sources else []
            last = stored[-1].place if len(stored) == limit else None
            found = merged(
                [alert for alert in stored if alert not in known],
                [alert for alert in fresh if last is None or alert.place <= last],
                place,
            )
            if last is None and len(found) <= limit:
                return Page(found, cursor_of(Since(seen=until)))
            place = found[limit - 1].place if len(found) > limit or last is None else last
            if found:
                return Page(found[:limit], cursor_of(msgspec.structs.replace(since, place=place, until=until)))

    async def _read(self, snapshot: LakeSnapshot, sql: str, parameters: Sequence[str | int]) -> list[Alert]:
        answer = await self._readers.run(sql, parameters, snapshot=snapshot)
        return [Alert.of(row) for row in answer.table.to_pylist()]


def _seen(snapshot: LakeSnapshot, streams: Collection[str], fed: str) -> Seen:
    return Seen({name: sequence_of(snapshot.tables.load(f"serving.{name}_alerts")) for name in streams}, fed)


def _sources(snapshot: LakeSnapshot, streams: Collection[str], since: Since, until: Seen) -> dict[str, str]:
    """By stream, the SELECT of what an answer is made of; none where that is nothing. Reads metadata."""
    found = {}
    for name in streams:
        table, commit = snapshot.tables.load(f"serving.{name}_alerts"), until.commits.get(name, 0)
        if since.seen is not None:
            select = since_sql(table, since.seen.commits.get(name, 0), commit)
        else:
            select = from_sql(table, since.place[0][:10], commit)
        if select is not None:
            found[name] = select
    return found
