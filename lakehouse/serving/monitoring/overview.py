"""The live overview: rate, freshness, quality and partition counts of each stream, updated once a second.

It reads counters and table metadata, and the rows of quarantine only to count those that corrected rows replace. A stream
is read again only if one of its tables has changed.
"""

import asyncio
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
from lakehouse.landing.left_out import LeftOut, read_report
from lakehouse.pipeline.open_rows import replaced_counts_sql
from lakehouse.pipeline.view_names import LIVE_METRICS
from lakehouse.processes.home import read_state
from lakehouse.serving.monitoring.ingest_rate import IngestRate
from lakehouse.serving.monitoring.partition_state import (
    BlockedObject,
    DayLedger,
    Partition,
    StreamPartitions,
    source_tables,
    stream_partitions,
)
from lakehouse.serving.query.lake_snapshot import LakeSnapshot
from lakehouse.serving.query.reader_pool import ReaderPool
from lakehouse.serving.query.snapshot_tracker import SnapshotTracker
from lakehouse.settings import Settings
from lakehouse.storage.iceberg.manifests import newest_time
from lakehouse.storage.objects.store import Objects

log = logging.getLogger(__name__)

UPDATE_SECONDS = 1.0
RETRY_SECONDS = 5.0
"""Delay before metadata that could not be read is read again."""

REPORT_SECONDS = 10.0
"""Interval at which the report of what is left out of landing is read."""

MAX_BLOCKED_OBJECTS = 20
"""Blocked objects that the overview names of a stream."""

MIN_IDLE_RATIO = 10
"""A stream's metadata is not read again before this multiple of the time it took has passed."""


class PartitionCounts(msgspec.Struct, frozen=True):
    """Partitions of a stream that are not up to date, over all layers."""

    stale: int
    waiting: int
    held_back: int
    """Blocked by the quality gate."""
    blocked_objects: int = 0
    """Landing objects that the quality gate blocks."""


class StreamOverview(msgspec.Struct, frozen=True):
    """The current state of one stream."""

    stream: str
    description: str
    events_per_second: float
    """Average over the last five seconds, counted by the gateway."""
    recent: list[float]
    """Events per second in steps of five seconds over the last five minutes, oldest first."""
    broken_share: float | None
    """Share of the last five minutes' events that break their contract; null if there were none."""
    newest_at: datetime | None
    """Time of the newest event, or its arrival time if that is earlier."""
    age_seconds: float | None
    allowed_age_seconds: float | None
    """Age of the newest event that the contract allows."""
    late: bool
    quality: float | None
    """Share of valid rows on `last_day`, without those that corrected rows replace."""
    quality_threshold: float
    last_day: DayLedger | None
    """Conservation ledger of the newest computed day whose rows are not all replaced."""
    partitions: PartitionCounts
    newest_partition: date | None
    """The newest day with events."""
    blocked_objects: list[BlockedObject] = []
    """Landing objects that the quality gate blocks, at most twenty, newest days first."""


class Versions(msgspec.Struct, frozen=True):
    """Opaque versions of other resources. Each changes whenever its resource changes."""

    metrics: str
    quarantine: str
    partitions: str


class Overview(msgspec.Struct, frozen=True):
    """The current state of all streams."""

    at: datetime
    dagster: str | None
    """URL of the Dagster page; null if it does not run."""
    versions: Versions
    streams: list[StreamOverview]
    left_out: list[LeftOut] = []
    """Objects under `incoming/` that are not read, from the report of the sensor `incoming_files`."""

    def only(self, names: Collection[str]) -> "Overview":
        """Return the overview of these streams alone."""
        return msgspec.structs.replace(
            self,
            streams=[stream for stream in self.streams if stream.stream in names],
            left_out=[entry for entry in self.left_out if entry.stream is None or entry.stream in names],
        )


class StreamGrid(msgspec.Struct, frozen=True):
    """Partitions of a stream by layer: one for each day of the grid, null where there are no events."""

    stream: str
    layers: Mapping[str, list[Partition | None]]
    ledgers: list[DayLedger | None]


class PartitionGrid(msgspec.Struct, frozen=True):
    """Partitions of consecutive days."""

    days: list[date]
    streams: list[StreamGrid]


@dataclass(slots=True)
class _StreamState:
    """The state of one stream, from the metadata of its tables when it was last read."""

    snapshot_ids: tuple[int | None, ...] = ()
    partitions: StreamPartitions = field(default_factory=lambda: StreamPartitions({}, {}))
    newest_at: datetime | None = None
    due: float = 0.0
    """Earliest time to read it again, on the monotonic clock."""
    replaced: Mapping[date, int] = field(default_factory=dict)
    """Rows in quarantine that corrected rows replace, by day."""
    counted_ids: tuple[int | None, ...] = ()
    """The snapshots of bronze and quarantine in which they were counted."""
    count_due: float = 0.0
    """Earliest time to count them again."""


class OverviewTracker:
    """Keeps the overview current. One task updates it, any number of clients read it."""

    def __init__(self, settings: Settings, objects: Objects, tracker: SnapshotTracker, readers: ReaderPool) -> None:
        self._settings = settings
        self._objects = objects
        self._tracker = tracker
        self._readers = readers
        self._rates = IngestRate(settings.root / "http" / "metrics")
        self._states: dict[str, _StreamState] = {}
        self._partitions_version = 0
        self._left_out: list[LeftOut] = []
        self._report_due = 0.0
        self._latest: Overview | None = None
        self._updated = asyncio.Event()

    async def run(self) -> None:
        """Update the overview every second until cancelled."""
        while True:
            try:
                await asyncio.to_thread(self.update)
                await self._count_replaced()
            except Exception:  # an exception would end the task, and with it all updates
                log.exception("could not update the overview")
            self._updated.set()
            self._updated = asyncio.Event()
            await asyncio.sleep(UPDATE_SECONDS)

    def update(self) -> Overview:
        """Compute the overview of the latest snapshot. Blocks while metadata is read."""
        snapshot = self._tracker.latest
        try:
            self._rates.sample()
        except (OSError, ValueError) as error:  # the gateway is just starting
            log.info("could not read the gateway's counters: %s", error)
        for stream in snapshot.streams.values():
            try:
                self._read_metadata(snapshot, stream)
            except (LakehouseError, OSError) as error:
                log.warning("could not read the metadata of %s: %s", stream.name, error)
                self._states[stream.name].due = time.monotonic() + RETRY_SECONDS
        self._latest = Overview(
            at=datetime.now(UTC).replace(microsecond=0),
            dagster=_dagster_url(self._settings),
            versions=self._versions(snapshot),
            streams=[self._stream_overview(stream) for stream in snapshot.streams.values()],
            left_out=self._left_out_of_landing(),
        )
        return self._latest

    @property
    def newest(self) -> Overview | None:
        """The latest overview, if there is one yet."""
        return self._latest

    @property
    def partitions(self) -> Mapping[str, StreamPartitions]:
        """The partitions of each stream."""
        return {name: state.partitions for name, state in sorted(self._states.items())}

    async def latest(self) -> Overview:
        """Return the latest overview. Waits for the first one."""
        while self._latest is None:
            await self._updated.wait()
        return self._latest

    async def next(self) -> Overview:
        """Wait for the next update and return it."""
        await self._updated.wait()
        return await self.latest()

    def recent_counts(self, stream: str) -> EventCounts:
        """Return how many events of a stream the gateway stored in the last five minutes."""
        return self._rates.recent_counts(stream)

    def grid(self, names: Collection[str], last: date, days: int) -> PartitionGrid:
        """Return the partitions of these streams for `days` days up to `last`."""
        dates = [last - timedelta(days=back) for back in range(days - 1, -1, -1)]
        states = sorted(self._states.items())
        return PartitionGrid(
            dates, [_stream_grid(name, state.partitions, dates) for name, state in states if name in names]
        )

    def _left_out_of_landing(self) -> list[LeftOut]:
        """Return the sensor's report, which is read again every few seconds."""
        if time.monotonic() >= self._report_due:
            self._report_due = time.monotonic() + REPORT_SECONDS
            try:
                self._left_out = read_report(self._objects)
            except LakehouseError as error:
                log.info("could not read what is left out of landing: %s", error)
        return self._left_out

    def _read_metadata(self, snapshot: LakeSnapshot, stream: Stream) -> None:
        state = self._states.setdefault(stream.name, _StreamState())
        realtime, silver = f"realtime.{stream.name}", f"silver.{stream.name}"
        names = [*source_tables(stream), realtime]
        snapshot_ids = tuple(snapshot.snapshot_ids.get(name) for name in names)
        if snapshot_ids == state.snapshot_ids or time.monotonic() < state.due:
            return
        started = time.monotonic()
        tables = {name: snapshot.tables.load(name) for name in names}
        state.partitions = stream_partitions(stream, tables.__getitem__).with_replaced(state.replaced)
        state.newest_at = _newest_event([tables[realtime], tables[silver]], stream.contract.event_time)
        state.snapshot_ids = snapshot_ids
        state.due = time.monotonic() + (time.monotonic() - started) * MIN_IDLE_RATIO
        self._partitions_version += 1

    async def _count_replaced(self) -> None:
        """Count the rows that corrected rows replace, in one stream whose bronze or quarantine has changed."""
        snapshot = self._tracker.latest
        for name, stream in snapshot.streams.items():
            state = self._states.get(name, _StreamState())
            ids = tuple(snapshot.snapshot_ids.get(f"{layer}.{name}") for layer in ("bronze", "quarantine"))
            if ids == state.counted_ids or time.monotonic() < state.count_due or not state.partitions.has_rejects:
                continue
            started = time.monotonic()
            state.count_due = started + RETRY_SECONDS
            sql = await asyncio.to_thread(replaced_counts_sql, snapshot, stream)
            result = await self._readers.run(sql, snapshot=snapshot)
            replaced = {row["day"]: row["rows"] for row in result.table.to_pylist()}
            if replaced != state.replaced:
                state.partitions, state.replaced = state.partitions.with_replaced(replaced), replaced
                self._partitions_version += 1
            state.counted_ids = ids
            state.count_due = time.monotonic() + (time.monotonic() - started) * MIN_IDLE_RATIO
            return

    def _stream_overview(self, stream: Stream) -> StreamOverview:
        state, contract, now = self._states[stream.name], stream.contract, datetime.now(UTC)
        arrival = self._rates.last_arrival(stream.name)
        times = [state.newest_at, None if arrival is None else datetime.fromtimestamp(arrival, UTC)]
        newest_at = max((min(newest, now) for newest in times if newest is not None), default=None)
        age = None if newest_at is None else (now - newest_at).total_seconds()
        allowed = None if contract.freshness is None else contract.freshness.total_seconds()
        rate = self._rates.rate(stream.name)
        layers, counts = state.partitions.layers, state.partitions.counts.values()
        last_day, blocked = state.partitions.last_day, state.partitions.blocked_objects
        return StreamOverview(
            stream=stream.name,
            description=contract.description,
            events_per_second=round(rate.now, 3),
            recent=[round(value, 3) for value in rate.recent],
            broken_share=self._rates.broken_share(stream.name),
            newest_at=newest_at,
            age_seconds=None if age is None else round(age, 1),
            allowed_age_seconds=allowed,
            late=age is not None and allowed is not None and age > allowed,
            quality=last_day.quality if last_day else None,
            quality_threshold=contract.quality_threshold,
            last_day=last_day,
            partitions=PartitionCounts(
                sum(states["stale"] for states in counts),
                sum(states["waiting"] for states in counts),
                sum(states["held_back"] for states in counts),
                sum(len(day.blocked_objects) + day.more_blocked_objects for day in state.partitions.ledgers.values()),
            ),
            newest_partition=max(layers.get("bronze", {}), default=None),
            blocked_objects=blocked[:MAX_BLOCKED_OBJECTS],
        )

    def _versions(self, snapshot: LakeSnapshot) -> Versions:
        quarantine = [snapshot.snapshot_ids.get(f"quarantine.{name}") for name in snapshot.streams]
        quarantine.append(self._tracker.tail.recent_rejects.changes)
        metrics = snapshot.table_version([LIVE_METRICS]), snapshot.tail_version([LIVE_METRICS])
        return Versions(
            metrics=format(hash(metrics) & 0xFFFFFFFF, "x"),
            quarantine=format(hash(tuple(quarantine)) & 0xFFFFFFFF, "x"),
            partitions=str(self._partitions_version),
        )


def _stream_grid(name: str, partitions: StreamPartitions, days: Sequence[date]) -> StreamGrid:
    layers = {layer: [by_day.get(day) for day in days] for layer, by_day in partitions.layers.items()}
    return StreamGrid(name, layers, [partitions.ledgers.get(day) for day in days])


def _newest_event(tables: Sequence[Table], event_time: str) -> datetime | None:
    """Return the time of the newest event in these tables, from the statistics of their files; None if they are empty.

    The arrival time counts instead where it is earlier, because some events claim to be from the future.
    """
    times = [
        min(event, arrival)
        for table in tables
        if (event := newest_time(table, event_time)) is not None
        and (arrival := newest_time(table, "_arrived_at")) is not None
    ]
    return max(times, default=None)


def _dagster_url(settings: Settings) -> str | None:
    """Return the Dagster page's URL as `lakehouse up` recorded it; None if there is none."""
    try:
        children = (read_state(settings.root / "processes.json") or {})["children"]
        return next((child["url"] for child in children if child["name"] == "page"), None)
    except (KeyError, TypeError):
        return None
