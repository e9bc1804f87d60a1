"""Group commit: the requests of a stream share a landing object and are answered when it is stored.

HTTP is not known here: see `routes`.
"""

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial

from lakehouse.contracts.model import Contract
from lakehouse.errors import LakehouseError, StorageUnavailableError
from lakehouse.http.metrics import Metrics
from lakehouse.landing.keys import LandingObject
from lakehouse.landing.writer import AsyncLandingWriter
from lakehouse.sources.http.batch import Batch
from lakehouse.sources.http.validation import SqlValidator

log = logging.getLogger(__name__)

INITIAL_CONCURRENT_WRITES = 4
MAX_CONCURRENT_WRITES = 16
"""Objects that one process writes at a time."""

EARLY_DIVISOR = 4
"""After a quarter of its maximum age, a group is full with a quarter of its size."""

MAX_GROUP_BYTES = 16 << 20
"""Size at which a group that waits for its turn accepts no more requests."""

FAILURE_PAUSE_SECONDS = 1.0
"""How long requests are rejected after a write has failed."""


@dataclass(frozen=True, slots=True)
class StoredBatch:
    """Where a batch was stored."""

    landing: LandingObject
    first_row: int
    """The number of its first row in the landing object, from 1."""
    count: int
    reasons: Mapping[int, list[str]]
    """Why events break the contract, by their number in the request, from 1."""


@dataclass(slots=True)
class _Member:
    batch: Batch
    stored: "asyncio.Future[StoredBatch]"
    added_at: float


@dataclass(slots=True)
class _Group:
    stream: str
    arrived_at: datetime
    members: list[_Member] = field(default_factory=list)
    size: int = 0
    due: bool = False
    timer: asyncio.TimerHandle | None = None


class GroupCommit:
    """Groups batches and lands them. Belongs to one event loop."""

    def __init__(
        self,
        landing: AsyncLandingWriter,
        contracts: Mapping[str, Contract],
        metrics: Metrics,
        *,
        max_age: timedelta,
        max_bytes: int,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        on_landed: Callable[[LandingObject], None] = lambda _: None,
    ) -> None:
        """Write a group once it is as old as `max_age` or as large as `max_bytes`, then call `on_landed`."""
        self._landing = landing
        self._contracts = contracts
        self._metrics = metrics
        self._max_age = max_age.total_seconds()
        self._max_bytes = max_bytes
        self._now = now
        self._on_landed = on_landed
        self._open: dict[str, _Group] = {}
        self._due: deque[_Group] = deque()
        self._writes: set[asyncio.Task[None]] = set()
        self._concurrent_writes = INITIAL_CONCURRENT_WRITES
        self._validators: dict[str, SqlValidator] = {}
        self._validation_thread = ThreadPoolExecutor(1, thread_name_prefix="validation")
        self._failed_at: float | None = None

    @property
    def failing(self) -> bool:
        """Whether a write failed a moment ago, so that another attempt would only be slow."""
        return self._failed_at is not None and time.monotonic() - self._failed_at < FAILURE_PAUSE_SECONDS

    @property
    def in_doubt(self) -> bool:
        """Whether no write has succeeded since the last one failed."""
        return self._failed_at is not None

    def add(
        self, stream: str, build: Callable[[datetime], Batch]
    ) -> "tuple[Batch, asyncio.Future[StoredBatch] | None]":
        """Add the batch that `build` makes, given its arrival time, to the stream's open group.

        Returns the batch and a future of where it is stored; None for a batch without events. The future raises the
        errors of landing, after which the events may or may not be stored.
        """
        # An object's name, and so its arrival time, is fixed when its group opens, because validity depends on it.
        group = self._open.get(stream) or _Group(stream, self._now())
        batch = build(group.arrived_at)
        if not batch.count:
            return batch, None
        stored: asyncio.Future[StoredBatch] = asyncio.get_running_loop().create_future()
        group.members.append(_Member(batch, stored, time.monotonic()))
        group.size += len(batch.lines)
        self._schedule(group)
        return batch, stored

    def warm_up(self) -> None:
        """Create all SQL validators. The first makes duckdb import pandas, which takes seconds."""
        for stream in self._contracts:
            self._reasons_of(stream, [b"{}"], self._now())

    async def close(self) -> None:
        """Write all groups, then stop."""
        for group in list(self._open.values()):
            self._make_due(group)
        while self._writes:
            await asyncio.wait(self._writes)
        self._validation_thread.shutdown()

    def _schedule(self, group: _Group) -> None:
        if group.timer is None:
            self._open[group.stream] = group
            group.timer = asyncio.get_running_loop().call_later(self._max_age, self._make_due, group)
        # A group that fills up at once may grow, for few objects. One that does not is written early, for fast answers.
        age = time.monotonic() - group.members[0].added_at
        full = self._max_bytes / EARLY_DIVISOR if age > self._max_age / EARLY_DIVISOR else self._max_bytes
        if group.size >= full:
            self._make_due(group)
        if group.size >= MAX_GROUP_BYTES:
            self._close_group(group)

    def _make_due(self, group: _Group) -> None:
        """Write the group when it is its turn; until then it accepts requests."""
        if group.due:
            return
        group.due = True
        if group.timer:
            group.timer.cancel()
        self._due.append(group)
        self._start_writes()

    def _close_group(self, group: _Group) -> None:
        if self._open.get(group.stream) is group:
            del self._open[group.stream]

    def _start_writes(self) -> None:
        while self._due and len(self._writes) < self._concurrent_writes:
            group = self._due.popleft()
            self._close_group(group)
            task = asyncio.get_running_loop().create_task(self._write(group))
            self._writes.add(task)
            task.add_done_callback(self._on_written)

    def _on_written(self, task: "asyncio.Task[None]") -> None:
        self._writes.discard(task)
        self._start_writes()

    async def _write(self, group: _Group) -> None:
        started = time.monotonic()
        members = sorted(group.members, key=lambda member: not member.batch.starts_as_text)
        try:
            validation = asyncio.ensure_future(self._validate(group.stream, members, group.arrived_at))
            try:
                landing = await self._landing.land(group.stream, [m.batch.lines for m in members], group.arrived_at)
            finally:
                reasons_of_members = await validation
        except Exception as error:
            self._fail(group, members, error)
            return
        self._failed_at = None
        self._on_landed(landing)
        self._adapt_concurrency(time.monotonic() - started)
        self._metrics.count_object(group.stream, group.size, time.monotonic() - started)
        first_row = 1
        for member, reasons in zip(members, reasons_of_members, strict=True):
            if not member.stored.done():
                member.stored.set_result(StoredBatch(landing, first_row, member.batch.count, reasons))
            self._metrics.count_events(group.stream, member.batch.count, len(reasons))
            first_row += member.batch.count

    def _fail(self, group: _Group, members: list[_Member], error: Exception) -> None:
        self._metrics.count_storage_error(group.stream)
        if isinstance(error, LakehouseError):
            self._failed_at = time.monotonic()
            self._concurrent_writes = max(1, self._concurrent_writes // 2)
            log.error("could not store %d bytes of %s: %s", group.size, group.stream, error)
        else:
            log.exception("could not store %d bytes of %s", group.size, group.stream)
            error = StorageUnavailableError("The events could not be stored. Send them again.")
        for member in members:
            if not member.stored.done():
                member.stored.set_exception(error)
                member.stored.exception()  # marks it as retrieved, because its client may have gone

    def _adapt_concurrency(self, seconds: float) -> None:
        """Write more objects at once while groups wait and storage keeps up, fewer when it does not."""
        if seconds > self._max_age and self._concurrent_writes > 1:
            self._concurrent_writes -= 1
        elif self._due and self._concurrent_writes < MAX_CONCURRENT_WRITES:
            self._concurrent_writes += 1

    async def _validate(
        self, stream: str, members: list[_Member], arrived_at: datetime
    ) -> list[Mapping[int, list[str]]]:
        """Return each member's reasons, by the events' numbers in its request."""
        unproven = [line for member in members for line in member.batch.unproven]
        if not unproven:
            return [{}] * len(members)
        work = partial(self._reasons_of, stream, [line.line for line in unproven], arrived_at)
        reasons = await asyncio.get_running_loop().run_in_executor(self._validation_thread, work)
        by_member: list[Mapping[int, list[str]]] = []
        start = 0
        for member in members:
            numbered = enumerate(member.batch.unproven, start)
            by_member.append({line.row: reasons[index] for index, line in numbered if index in reasons})
            start += len(member.batch.unproven)
        return by_member

    def _reasons_of(self, stream: str, lines: list[bytes], arrived_at: datetime) -> Mapping[int, list[str]]:
        if stream not in self._validators:
            self._validators[stream] = SqlValidator(self._contracts[stream])
        return self._validators[stream].reasons(lines, arrived_at)
