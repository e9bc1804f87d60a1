"""Alerts as they come up: those of the newest events first, before any table holds them, and then the tables' own.

An alert is fed once, and again when it is computed anew with another outcome. The feed is in memory and bounded; who was
away too long, or was fed by a process that is gone, gets again all that is kept.
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

from lakehouse.contracts.sql import latest_sql, literal, quote
from lakehouse.contracts.streams import Stream
from lakehouse.engine.connection import bind, columns_of, scan_sql
from lakehouse.errors import LakehouseError
from lakehouse.landing.keys import arrival_hour
from lakehouse.serving.monitoring.alerts import Alert
from lakehouse.serving.query.lake_snapshot import LakeSnapshot, SnapshotTracker
from lakehouse.serving.query.reader_pool import ReaderPool

log = logging.getLogger(__name__)

KEPT = 5_000
"""Alerts that are kept for those who come back."""

AT_ONCE = 2_000
"""Alerts of one stream that one look finds at most, the newest."""

EVERY = 1.0
SHARE = 10
"""All streams are looked at again after so many times as long as it took."""

LONGEST_SECONDS = 20.0

BACK = timedelta(minutes=20)
"""How long ago a row arrived at most that alerts are looked for in; the tables have those of older ones."""


class Fed(msgspec.Struct, frozen=True):
    """An alert with its place in the feed."""

    number: int
    alert: Alert
    stored: bool
    """Whether a table held it then."""


@dataclass(slots=True)
class _Seen:
    """What is known of one stream's alerts of these days."""

    stored: dict[tuple[object, ...], Alert] = field(default_factory=dict)
    fresh: dict[tuple[object, ...], Alert] = field(default_factory=dict)
    versions: tuple[object, ...] = ()


class AlertFeed:
    """Follows the alerts of all streams; one task looks, any number of readers follow."""

    def __init__(self, tracker: SnapshotTracker, readers: ReaderPool) -> None:
        self._tracker = tracker
        self._readers = readers
        self._id = secrets.token_hex(4)
        self._kept: deque[Fed] = deque(maxlen=KEPT)
        self._number = 0
        self._seen: dict[str, _Seen] = {}
        self._more = asyncio.Event()

    async def run(self) -> None:
        """Look for alerts until cancelled."""
        while True:
            begun = time.monotonic()
            for stream in self._tracker.latest.streams.values():
                try:
                    await self._look(stream)
                except LakehouseError as problem:
                    log.warning("alerts of %s can't be looked for: %s", stream.name, problem)
                except Exception:  # a task that ends would feed nobody any longer
                    log.exception("alerts of %s can't be looked for", stream.name)
            took = time.monotonic() - begun
            await asyncio.sleep(max(EVERY, min(took * SHARE, LONGEST_SECONDS)))

    @property
    def position(self) -> str:
        """The id of the newest one that was fed."""
        return f"{self._id}-{self._number}"

    def event_id(self, fed: Fed) -> str:
        """How a reader says that it has seen this one."""
        return f"{self._id}-{fed.number}"

    def unstored(self, streams: Collection[str], after: str | None, until: str) -> list[Alert]:
        """Alerts of these streams that were fed after one id and until another, and that no table held then.

        Ids of another process are none of its own: after such a one is from the first, and until it is nothing.
        """
        first, last = self._after(after or ""), self._after(until)
        newest = {fed.alert.identity: fed for fed in self._kept if first < fed.number <= last}
        return [fed.alert for fed in newest.values() if not fed.stored and fed.alert.stream in streams]

    def known(self, until: str | None) -> set[Alert]:
        """Alerts that were fed until that id, before a table held them."""
        last = self._after(until or "")
        return {fed.alert for fed in self._kept if fed.number <= last and not fed.stored}

    async def follow(self, last_id: str | None) -> AsyncIterator[Fed]:
        """What comes up from now on; after `last_id` when that is given."""
        number = self._number if last_id is None else self._after(last_id)
        while True:
            more = self._more
            for fed in [fed for fed in self._kept if fed.number > number]:
                number = fed.number
                yield fed
            await more.wait()

    def _after(self, last_id: str) -> int:
        mine, _, number = last_id.partition("-")
        return int(number) if mine == self._id and number.isdecimal() else 0

    async def _look(self, stream: Stream) -> None:
        snapshot = self._tracker.latest
        seen = self._seen.setdefault(stream.name, _Seen())
        versions = _versions(snapshot, stream)
        if versions == seen.versions:
            return
        first_day = datetime.now(UTC).date() - timedelta(days=1)
        stored = await self._stored(snapshot, stream, first_day)
        fresh = await self._fresh(snapshot, stream, first_day)
        kept = {key: alert for key, alert in seen.fresh.items() if alert.dt >= first_day}
        self._feed(seen, stored, kept | fresh)
        seen.versions = versions

    def _feed(
        self, seen: _Seen, stored: dict[tuple[object, ...], Alert], fresh: dict[tuple[object, ...], Alert]
    ) -> None:
        fresh = {key: alert for key, alert in fresh.items() if key not in stored}
        before = seen.fresh | seen.stored
        now = fresh | stored
        new = [alert for key, alert in now.items() if before.get(key) != alert]
        seen.stored, seen.fresh = stored, fresh
        for alert in sorted(new, key=lambda alert: alert.place):
            self._number += 1
            self._kept.append(Fed(self._number, alert, alert.identity in stored))
        if new:
            self._more.set()
            self._more = asyncio.Event()

    async def _stored(self, snapshot: LakeSnapshot, stream: Stream, first_day: date) -> dict[tuple[object, ...], Alert]:
        sql = f"select * from serving.{stream.name}_alerts where dt >= ?::date order by event_time desc limit {AT_ONCE}"
        return await self._ask(snapshot, stream, sql, [first_day.isoformat()])

    async def _fresh(self, snapshot: LakeSnapshot, stream: Stream, first_day: date) -> dict[tuple[object, ...], Alert]:
        """Alerts in the rows that arrived last: a lower bound of what the whole day gives, minutes earlier."""
        since = datetime.now(UTC) - BACK
        events = newest_sql(snapshot, stream, since)
        sql = bind(stream.sql("alerts"), {"events": f"select * from ({events}) where dt >= date '{first_day}'"})
        return await self._ask(snapshot, stream, f"{sql}\norder by event_time desc\nlimit {AT_ONCE}", [])

    async def _ask(
        self, snapshot: LakeSnapshot, stream: Stream, sql: str, parameters: Sequence[str]
    ) -> dict[tuple[object, ...], Alert]:
        answer = await self._readers.run(sql, parameters, snapshot=snapshot)
        alerts = (Alert.of({**row, "stream": stream.name}) for row in answer.table.to_pylist())
        return {alert.identity: alert for alert in alerts}


def newest_sql(snapshot: LakeSnapshot, stream: Stream, since: datetime) -> str:
    """A SELECT of the rows that have arrived since then, each key once, as the unified view has them.

    Silver is not asked: it would be read whole for the few events that were sent before and are sent again.
    """
    realtime, silver = (snapshot.tables.load(f"{layer}.{stream.name}") for layer in ("realtime", "silver"))
    columns = ", ".join(quote(name) for name, _ in columns_of(silver))
    kept = ", ".join(quote(name) for name, _ in columns_of(realtime))
    sources = [f"select {kept} from {scan_sql(realtime)} where arrival_hour >= '{arrival_hour(since)}'"]
    if tail := snapshot.tail.get(stream.name):
        sources.append(f"select {kept} from read_parquet([{', '.join(map(literal, tail))}])")
    arrived = f"_arrived_at >= timestamp '{since:%Y-%m-%d %H:%M:%S}'"
    newest = latest_sql(stream.contract.key, f"({' union all '.join(sources)})", arrived)
    return f"select {columns} from ({newest})"


def _versions(snapshot: LakeSnapshot, stream: Stream) -> tuple[object, ...]:
    """What alerts are made of, and where they are: they are looked for when any of it changes."""
    names = (f"realtime.{stream.name}", f"silver.{stream.name}", f"serving.{stream.name}_alerts")
    return *(snapshot.snapshot_ids.get(name) for name in names), snapshot.tail.get(stream.name)
