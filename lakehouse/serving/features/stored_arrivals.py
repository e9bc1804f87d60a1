"""Keep the arrivals of the last days in a local file, so that requests for features of now read little.

A file holds what bronze has of a stream. Each request adds realtime and the hot tail as they are, so it sees the newest events
while a file is made. Belongs to one event loop.
"""

import asyncio
import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from uuid import uuid4

from pyiceberg.table import Table

from lakehouse.contracts.sql import literal, quote
from lakehouse.contracts.streams import Stream
from lakehouse.errors import LakehouseError
from lakehouse.pipeline.features import FEATURE_WINDOW_DAYS
from lakehouse.pipeline.point_in_time.arrivals import stored_sql, with_fresh_sql
from lakehouse.pipeline.point_in_time.known_features import Requests
from lakehouse.pipeline.readable_lake import ReadableLake
from lakehouse.serving.query.lake_snapshot import LakeSnapshot
from lakehouse.serving.query.reader_pool import ReaderPool
from lakehouse.serving.query.snapshot_tracker import SnapshotTracker

log = logging.getLogger(__name__)

SPARE_DAYS = 10
"""How many more days a file holds than the features of today read."""

ROW_GROUP_ROWS = 8192
"""Rows are in order of their entity, so a request reads few groups of so many."""

MAX_COMPUTE_SECONDS = 600.0
CHECK_INTERVAL_SECONDS = 5.0

UNUSED_SECONDS = 600.0
"""A file that has not been asked for in this time is deleted once its tables change."""

RETIRED_SECONDS = 120.0
"""How long a replaced file stays for requests that read it."""


@dataclass
class _Stored:
    """A file of arrivals, and what it was made from."""

    stream: Stream
    tables: Mapping[str, Table]
    first: date
    path: Path
    asked: float = field(default_factory=time.monotonic)
    """When it was last asked for, on the monotonic clock."""

    def holds_for(self, snapshot: LakeSnapshot) -> bool:
        """Return whether a file made from this snapshot would have the same rows."""
        return self.is_of(snapshot) and all(
            snapshot.tables.load(name).metadata_location == table.metadata_location
            for name, table in self.tables.items()
        )

    def is_of(self, snapshot: LakeSnapshot) -> bool:
        """Return whether the stream is the same, with its contract and SQL."""
        return snapshot.streams.get(self.stream.name) is self.stream


class StoredArrivals:
    """The newest file of each stream that was asked for."""

    def __init__(self, tracker: SnapshotTracker, readers: ReaderPool) -> None:
        self._tracker, self._readers = tracker, readers
        self._stored: dict[str, _Stored] = {}
        self._running: dict[str, asyncio.Task[None]] = {}
        self._retired: list[tuple[float, Path]] = []

    async def arrivals(self, snapshot: LakeSnapshot, stream: Stream, requests: Requests) -> str | None:
        """Return the SELECT of the arrivals that these requests read; None if they read older days than a file holds.

        The first request for a stream waits until its file is made.
        """
        days = requests.read_days
        if not days or days[0] < _first_day() + timedelta(days=SPARE_DAYS - 1):
            return None
        stored = self._stored.get(stream.name)
        if stored is None or not stored.is_of(snapshot) or stored.first > days[0]:
            await asyncio.wait({self._start(stream.name)})  # a request that is cancelled must not cancel it for others
            stored = self._stored.get(stream.name)
        elif not stored.holds_for(snapshot):
            self._start(stream.name)
        if stored is None or not stored.is_of(snapshot) or stored.first > days[0]:
            return None
        stored.asked = time.monotonic()
        if not stored.holds_for(snapshot):
            # Hours that silver covers by now may not be in the file.
            others = {name: hours for name, hours in snapshot.hours.items() if name != stream.name}
            snapshot = replace(snapshot, tables=snapshot.tables.with_tables(stored.tables), hours=others)
        select = f"from read_parquet({literal(str(stored.path))})"
        return await asyncio.to_thread(with_fresh_sql, snapshot, stream, select, days)

    async def run(self) -> None:
        """Make files again once their tables have changed, and delete those that nothing asks for, until cancelled."""
        while True:
            await asyncio.sleep(CHECK_INTERVAL_SECONDS)
            latest, now = self._tracker.latest, time.monotonic()
            for name, stored in [*self._stored.items()]:
                if stored.holds_for(latest):
                    continue
                if stored.is_of(latest) and now - stored.asked < UNUSED_SECONDS:
                    self._start(name)
                else:
                    self._retire(name)
            while self._retired and now - self._retired[0][0] > RETIRED_SECONDS:
                self._retired.pop(0)[1].unlink(missing_ok=True)

    def _start(self, name: str) -> "asyncio.Task[None]":
        if (task := self._running.get(name)) is None:
            task = self._running[name] = asyncio.create_task(self._make(name))
            task.add_done_callback(lambda _: self._running.pop(name))
        return task

    async def _make(self, name: str) -> None:
        """Make the file of a stream from the latest snapshot."""
        latest, first = self._tracker.latest, _first_day()
        if (stream := latest.streams.get(name)) is None:
            return
        path = self._tracker.tail.folder / f"arrivals-{name}-{uuid4().hex}.parquet"
        try:
            days = [first + timedelta(days=number) for number in range(FEATURE_WINDOW_DAYS + SPARE_DAYS + 2)]
            sql = await asyncio.to_thread(copy_sql, latest, stream, days, path)
            await self._readers.run(sql, seconds=MAX_COMPUTE_SECONDS, snapshot=latest)
        except (LakehouseError, OSError) as error:
            log.warning("arrivals of %s can't be stored, so features read its tables: %s", name, error)
            path.unlink(missing_ok=True)
            return
        tables = {
            f"{layer}.{name}": latest.tables.load(f"{layer}.{name}") for layer in ("bronze", "silver", "quarantine")
        }
        asked = self._retire(name)
        self._stored[name] = _Stored(stream, tables, first, path, asked)

    def _retire(self, name: str) -> float:
        """Delete a stream's file later. Returns when it was last asked for, or now if there is none."""
        if (stored := self._stored.pop(name, None)) is None:
            return time.monotonic()
        self._retired.append((time.monotonic(), stored.path))
        return stored.asked


def _first_day() -> date:
    return datetime.now(UTC).date() - timedelta(days=FEATURE_WINDOW_DAYS - 1 + SPARE_DAYS)


def copy_sql(lake: ReadableLake, stream: Stream, days: Sequence[date], path: Path) -> str:
    """Generate the statement that writes what bronze has of these days, in order of the entity."""
    fields = [field.name for field in stream.contract.fields]
    order = stream.contract.entity if stream.contract.entity in fields else stream.contract.event_time
    select = f"select * from ({stored_sql(lake, stream, days)}) order by {quote(str(order))}"
    return f"copy ({select}) to {literal(str(path))} (format parquet, row_group_size {ROW_GROUP_ROWS})"
