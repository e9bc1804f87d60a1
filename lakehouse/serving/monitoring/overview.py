"""What flows now, and how far each stream's partitions are: put together once a second, from counters and metadata alone.

Nothing here is asked of the tables' rows; a stream's metadata is read again only when one of its tables has changed.
"""

import asyncio
import json
import logging
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta

import msgspec
from pyiceberg.table import Table

from lakehouse.contracts.streams import Stream
from lakehouse.errors import LakehouseError
from lakehouse.http.metrics import EventCounts
from lakehouse.serving.monitoring.freshness import newest
from lakehouse.serving.monitoring.ingest_rate import Flow
from lakehouse.serving.monitoring.partition_state import Day, Partition, Partitions, partitions_of, tables_of
from lakehouse.serving.query.lake_snapshot import LakeSnapshot, SnapshotTracker
from lakehouse.settings import Settings

log = logging.getLogger(__name__)

EVERY = 1.0
AGAIN = 5.0
"""Seconds until metadata is asked for again that could not be read."""

SHARE = 10
"""A stream's metadata is read again after so many times as long as it took."""


class Behind(msgspec.Struct, frozen=True):
    """Partitions of a stream, over all layers, that are not as they should be."""

    stale: int
    waiting: int
    held_back: int


class StreamNow(msgspec.Struct, frozen=True):
    """What is known of one stream now."""

    stream: str
    description: str
    events_per_second: float
    """Over the last five seconds, as the HTTP server counts them."""
    recent: list[float]
    """The same in steps of five seconds, the last five minutes, the oldest first."""
    broken_share: float | None
    """The share of the events of these minutes that break their contract; null when there were none."""
    newest_at: datetime | None
    """When the newest event happened or, where that lies in the future, arrived."""
    age_seconds: float | None
    allowed_age_seconds: float | None
    """How old the newest event may be, by contract."""
    late: bool
    quality: float | None
    """The share of valid rows of the newest day that was computed."""
    quality_threshold: float
    last_day: Day | None
    """That day's ledger."""
    partitions: Behind
    newest_partition: date | None
    """The newest day with events."""


class Versions(msgspec.Struct, frozen=True):
    """Texts that change when what they are named for does."""

    metrics: str
    quarantine: str
    partitions: str


class OverviewNow(msgspec.Struct, frozen=True):
    """What flows now."""

    at: datetime
    dagster: str | None
    """Where the Dagster page is; null when it does not run."""
    versions: Versions
    streams: list[StreamNow]

    def only(self, names: Collection[str]) -> "OverviewNow":
        """Of these streams alone."""
        return msgspec.structs.replace(self, streams=[one for one in self.streams if one.stream in names])


class StreamGrid(msgspec.Struct, frozen=True):
    """The partitions of a stream: for each layer one a day, null where there are no events."""

    stream: str
    layers: Mapping[str, list[Partition | None]]
    ledgers: list[Day | None]


class Grid(msgspec.Struct, frozen=True):
    """The partitions of some days."""

    days: list[date]
    streams: list[StreamGrid]


@dataclass(slots=True)
class _Known:
    """What the metadata of one stream's tables said last."""

    versions: tuple[int | None, ...] = ()
    partitions: Partitions = field(default_factory=lambda: Partitions({}, {}))
    newest_at: datetime | None = None
    due: float = 0.0


class Overview:
    """Keeps the overview; one task looks."""

    def __init__(self, settings: Settings, tracker: SnapshotTracker) -> None:
        self._settings = settings
        self._tracker = tracker
        self._flow = Flow(settings.root / "http" / "metrics")
        self._known: dict[str, _Known] = {}
        self._changes = 0
        self._latest: OverviewNow | None = None
        self._more = asyncio.Event()

    async def run(self) -> None:
        """Look every second until cancelled."""
        while True:
            try:
                await asyncio.to_thread(self.look)
            except Exception:
                log.exception("the overview can't be made")
            self._more.set()
            self._more = asyncio.Event()
            await asyncio.sleep(EVERY)

    def look(self) -> OverviewNow:
        """Make the overview of now. Blocks as long as metadata has to be read."""
        snapshot = self._tracker.latest
        try:
            self._flow.look()
        except (OSError, ValueError) as problem:  # the HTTP server is just starting
            log.info("its counters can't be read: %s", problem)
        for stream in snapshot.streams.values():
            try:
                self._read(snapshot, stream)
            except (LakehouseError, OSError) as problem:
                log.warning("the metadata of %s can't be read: %s", stream.name, problem)
                self._known[stream.name].due = time.monotonic() + AGAIN
        self._latest = OverviewNow(
            at=datetime.now(UTC).replace(microsecond=0),
            dagster=_dagster(self._settings),
            versions=self._versions(snapshot),
            streams=[self._now(stream) for stream in snapshot.streams.values()],
        )
        return self._latest

    async def latest(self) -> OverviewNow:
        """The newest overview; waits for the first."""
        while self._latest is None:
            await self._more.wait()
        return self._latest

    async def next(self) -> OverviewNow:
        """The next overview."""
        await self._more.wait()
        return await self.latest()

    def counted(self, stream: str) -> EventCounts:
        """What the HTTP server has stored of a stream in the last five minutes."""
        return self._flow.counted(stream)

    def grid(self, names: Collection[str], last: date, days: int) -> Grid:
        """The partitions of these streams and of so many days up to `last`."""
        wanted = [last - timedelta(days=back) for back in range(days - 1, -1, -1)]
        return Grid(
            wanted,
            [_grid(name, known.partitions, wanted) for name, known in sorted(self._known.items()) if name in names],
        )

    def _read(self, snapshot: LakeSnapshot, stream: Stream) -> None:
        known = self._known.setdefault(stream.name, _Known())
        names = [*tables_of(stream.name), f"realtime.{stream.name}"]
        versions = tuple(snapshot.snapshot_ids.get(name) for name in names)
        if versions == known.versions or time.monotonic() < known.due:
            return
        begun = time.monotonic()
        tables = {name: snapshot.tables.load(name) for name in names}
        known.partitions = partitions_of(stream, tables.__getitem__)
        fresh = [tables[f"realtime.{stream.name}"], snapshot.tables.load(f"silver.{stream.name}")]
        known.newest_at = _newest(fresh, stream.contract.event_time)
        known.versions = versions
        known.due = time.monotonic() + (time.monotonic() - begun) * SHARE
        self._changes += 1

    def _now(self, stream: Stream) -> StreamNow:
        known, contract, now = self._known[stream.name], stream.contract, datetime.now(UTC)
        arrived = self._flow.last_arrival(stream.name)
        times = [known.newest_at, None if arrived is None else datetime.fromtimestamp(arrived, UTC)]
        newest_at = max((min(at, now) for at in times if at is not None), default=None)
        age = None if newest_at is None else (now - newest_at).total_seconds()
        allowed = None if contract.freshness is None else contract.freshness.total_seconds()
        rate = self._flow.rate(stream.name)
        states = [part.state for layer in known.partitions.layers.values() for part in layer.values()]
        last = known.partitions.last
        return StreamNow(
            stream=stream.name,
            description=contract.description,
            events_per_second=round(rate.now, 3),
            recent=[round(value, 3) for value in rate.recent],
            broken_share=self._flow.broken_share(stream.name),
            newest_at=newest_at,
            age_seconds=None if age is None else round(age, 1),
            allowed_age_seconds=allowed,
            late=age is not None and allowed is not None and age > allowed,
            quality=last.quality if last else None,
            quality_threshold=contract.quality_threshold,
            last_day=last,
            partitions=Behind(states.count("stale"), states.count("waiting"), states.count("held_back")),
            newest_partition=max(known.partitions.layers.get("bronze", {}), default=None),
        )

    def _versions(self, snapshot: LakeSnapshot) -> Versions:
        held = [snapshot.snapshot_ids.get(f"quarantine.{name}") for name in snapshot.streams]
        held.append(self._tracker.tail.recent_rejects.changes)
        return Versions(
            metrics=str(snapshot.snapshot_ids.get("gold.daily_metrics")),
            quarantine=format(hash(tuple(held)) & 0xFFFFFFFF, "x"),
            partitions=str(self._changes),
        )


def _grid(name: str, partitions: Partitions, days: Sequence[date]) -> StreamGrid:
    layers = {layer: [found.get(day) for day in days] for layer, found in partitions.layers.items()}
    return StreamGrid(name, layers, [partitions.days.get(day) for day in days])


def _newest(tables: Sequence[Table], column: str) -> datetime | None:
    """The newest event, as old as its arrival where its own time lies in the future."""
    found = [
        min(happened, arrived)
        for table in tables
        if (happened := newest(table, column)) is not None and (arrived := newest(table, "_arrived_at")) is not None
    ]
    return max(found, default=None)


def _dagster(settings: Settings) -> str | None:
    """Where `lakehouse up` says that the Dagster page is."""
    try:
        children = json.loads((settings.root / "processes.json").read_text())["children"]
        return next((child["url"] for child in children if child["name"] == "page"), None)
    except (OSError, ValueError, KeyError, TypeError):
        return None
