"""Compute live gold's open days once for each version of what they are made of, however many queries ask for them.

A query over live gold reads the snapshot that it is given back, in which these rows are a small file. That is the latest
snapshot, or under load one that was the latest a moment ago. Live gold and the unified views agree in it.
See `pipeline.live_gold` for the SQL.
"""

import asyncio
import logging
import time
from collections.abc import Collection
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from uuid import uuid4

import pyarrow.parquet as pq

from lakehouse.contracts.streams import Stream
from lakehouse.errors import LakehouseError
from lakehouse.pipeline.live_gold import LiveRows
from lakehouse.pipeline.unified_view import live_days, live_rows_sql
from lakehouse.pipeline.view_names import LIVE_METRICS, live_daily
from lakehouse.serving.query.lake_snapshot import LakeSnapshot
from lakehouse.serving.query.reader_pool import ReaderPool
from lakehouse.serving.query.snapshot_tracker import SnapshotTracker
from lakehouse.serving.query.sql import names_mentioned

log = logging.getLogger(__name__)

PATIENCE_SECONDS = 0.04
"""How long a query waits for the rows of the latest snapshot while those of a recent one are there."""

SLOW_SECONDS = 0.1
"""Rows that take longer than that are not waited for while those of a recent snapshot are there."""

REFRESH_AGE_RATIO = 2
"""Rows that take longer than that are computed again once they are older than their computing time multiplied by this."""

MAX_LAG_RATIO = 8
"""A snapshot is recent up to its rows' computing time multiplied by this, within MAX_LAG_SECONDS."""

MAX_LAG_SECONDS = (1.0, 15.0)
"""Lower and upper bound of the age of a recent snapshot."""

MAX_COMPUTE_SECONDS = 60.0

RETIRED_SECONDS = 120.0
"""How long a replaced file stays for queries over an older snapshot."""

Streams = frozenset[str]


@dataclass(frozen=True, slots=True)
class _Computed:
    """The rows of a stream, and the definition and version of its tables and hot tail that they were computed from."""

    stream: Stream
    version: str
    rows: LiveRows

    def holds_for(self, snapshot: LakeSnapshot) -> bool:
        """Return whether the rows are those of this snapshot too."""
        name = self.stream.name
        return snapshot.streams.get(name) is self.stream and self.version == version_of(snapshot, name)


@dataclass(frozen=True, slots=True)
class _Pinned:
    """A snapshot with the rows of some streams."""

    snapshot: LakeSnapshot
    at: float
    """When it was the latest, on the monotonic clock."""
    seconds: float
    """Time that computing the rows took."""

    @property
    def age(self) -> float:
        return time.monotonic() - self.at

    @property
    def is_recent(self) -> bool:
        """Return whether a query may read it although there is a newer snapshot."""
        shortest, longest = MAX_LAG_SECONDS
        return self.age < max(shortest, min(longest, self.seconds * MAX_LAG_RATIO))

    @property
    def is_slow(self) -> bool:
        """Return whether computing newer rows will take far longer than a query waits."""
        return self.seconds > SLOW_SECONDS

    @property
    def is_resting(self) -> bool:
        """Return whether it is too early to compute newer rows, so that ingest and other queries keep most of the processor."""
        return self.seconds > PATIENCE_SECONDS and self.age < self.seconds * REFRESH_AGE_RATIO


class LiveGold:
    """The newest rows of each stream that was asked for. Belongs to one event loop."""

    def __init__(self, tracker: SnapshotTracker, readers: ReaderPool) -> None:
        self._tracker = tracker
        self._readers = readers
        self._computed: dict[str, _Computed] = {}
        self._pinned: dict[Streams, _Pinned] = {}
        self._running: dict[Streams, asyncio.Task[None]] = {}
        self._retired: list[tuple[float, Path]] = []

    async def pin(self, sql: str, least: int = 0) -> LakeSnapshot:
        """Return the snapshot for a statement: the latest one, with rows if it names live gold. See `pin_streams`."""
        latest = self._tracker.latest
        return await self.pin_streams(streams_named(latest, names_mentioned(sql)), least)

    async def pin_streams(self, streams: Streams, least: int = 0) -> LakeSnapshot:
        """Return the latest snapshot with the rows of these streams, or under load a recent one of at least this number.

        A stream whose rows can't be computed has none in it: a query of its live gold then computes them, and fails with the
        reason.
        """
        latest = self._tracker.latest
        impatient_at = time.monotonic() + PATIENCE_SECONDS
        while streams:
            pinned = self._pinned.get(streams)
            if pinned is not None and (
                pinned.snapshot.number >= latest.number or self._is_same(pinned, latest, streams)
            ):
                return self._pinned[streams].snapshot
            if pinned is not None and pinned.snapshot.number < least:
                pinned = None
            patience = impatient_at - time.monotonic()
            if pinned is not None and pinned.is_recent and (patience <= 0 or pinned.is_resting):
                return pinned.snapshot
            computing = self._start(streams)
            if pinned is not None and pinned.is_recent and pinned.is_slow:
                return pinned.snapshot  # waiting would be in vain
            is_recent = pinned is not None and pinned.is_recent
            done, _ = await asyncio.wait({computing}, timeout=patience if is_recent else None)
            if done:
                computing.result()
        return latest

    def _is_same(self, pinned: _Pinned, latest: LakeSnapshot, streams: Streams) -> bool:
        """Return whether the rows hold for the latest snapshot too, which is then pinned in place of the earlier one."""
        rows = pinned.snapshot.live_rows
        if not all(name in rows and self._computed[name].holds_for(latest) for name in streams):
            return False
        self._pinned[streams] = _Pinned(replace(latest, live_rows=rows), time.monotonic(), pinned.seconds)
        return True

    def _start(self, streams: Streams) -> "asyncio.Task[None]":
        if (task := self._running.get(streams)) is None:
            task = self._running[streams] = asyncio.create_task(self._pin_latest(streams))
            task.add_done_callback(lambda _: self._running.pop(streams))
        return task

    async def _pin_latest(self, streams: Streams) -> None:
        started, latest = time.monotonic(), self._tracker.latest
        names = sorted(streams & latest.streams.keys())
        computed = await asyncio.gather(*(self._rows(latest, name) for name in names))
        rows = {name: of_stream for name, of_stream in zip(names, computed, strict=True) if of_stream is not None}
        self._pinned[streams] = _Pinned(replace(latest, live_rows=rows), started, time.monotonic() - started)
        self._delete_retired()

    async def _rows(self, snapshot: LakeSnapshot, name: str) -> LiveRows | None:
        """Return the rows of a stream in this snapshot; None if they can't be computed."""
        known = self._computed.get(name)
        if known is not None and known.holds_for(snapshot):
            return known.rows
        try:
            started = time.monotonic()
            days, sql = await asyncio.to_thread(_open_rows, snapshot, name)
            result = await self._readers.run(sql, seconds=MAX_COMPUTE_SECONDS, snapshot=snapshot)
            path = self._tracker.tail.folder / f"live-{name}-{uuid4().hex}.parquet"
            await asyncio.to_thread(pq.write_table, result.table, path)
        except (LakehouseError, OSError) as error:
            log.warning("live gold of %s can't be computed: %s", name, error)
            return None
        rows = LiveRows(days, str(path), time.monotonic() - started)
        if (replaced := self._computed.get(name)) is not None:
            self._retired.append((time.monotonic(), Path(replaced.rows.path)))
        self._computed[name] = _Computed(snapshot.streams[name], version_of(snapshot, name), rows)
        return rows

    def _delete_retired(self) -> None:
        while self._retired and time.monotonic() - self._retired[0][0] > RETIRED_SECONDS:
            self._retired.pop(0)[1].unlink(missing_ok=True)


def streams_named(snapshot: LakeSnapshot, names: Collection[str]) -> Streams:
    """Return the streams whose live gold a statement reads that mentions these names."""
    if LIVE_METRICS in names:
        return frozenset(snapshot.streams)
    return frozenset(name for name in snapshot.streams if live_daily(name) in names)


def version_of(snapshot: LakeSnapshot, stream: str) -> str:
    """Return a text that changes with what a stream's live gold is computed from."""
    names = [live_daily(stream)]
    return f"{snapshot.table_version(names)} {snapshot.tail_version(names)}"


def _open_rows(snapshot: LakeSnapshot, name: str) -> tuple[tuple[date, ...], str]:
    stream = snapshot.streams[name]
    days = live_days(snapshot, stream)
    return tuple(days), live_rows_sql(snapshot, stream, days)
