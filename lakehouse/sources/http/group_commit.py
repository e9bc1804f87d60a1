"""Group commit: requests that arrive within a moment are stored together and answered then. HTTP is not known here: see `routes`.

Time is divided into slots of the maximum age, which are the same in every process of the server. Small groups of a slot go to
`joint_writer`, which stores them in one object.
"""

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial

from lakehouse.contracts.model import Contract
from lakehouse.errors import LakehouseError, StorageUnavailableError
from lakehouse.http.metrics import Metrics
from lakehouse.landing.keys import LandingObject
from lakehouse.landing.writer import MIN_COMPRESSED_BYTES
from lakehouse.sources.http.batch import Batch
from lakehouse.sources.http.joint_writer import JointWriter, Part
from lakehouse.sources.http.validation import SqlValidator

log = logging.getLogger(__name__)

INITIAL_CONCURRENT_WRITES = 4
MAX_CONCURRENT_WRITES = 16
"""Objects that one process writes at a time."""

EARLY_DIVISOR = 4
"""After a quarter of its maximum age, a group is full with a quarter of its size."""

MAX_GROUP_BYTES = 16 << 20
"""Size at which a group that waits for its turn accepts no more requests."""

TIMER_SECONDS = 0.002
"""How early a timer may fire."""

FAILURE_PAUSE_SECONDS = 1.0
"""How long requests are rejected after a write has failed."""


_EPOCH = datetime.fromtimestamp(0, UTC)


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
    """When its slot began."""
    deadline: float
    """When its slot ends, by the event loop's clock."""
    members: list[_Member] = field(default_factory=list)
    size: int = 0
    due: bool = False

    @property
    def text_first(self) -> list[_Member]:
        """The members in the order in which they are stored, because an object's first bytes tell how to read it."""
        return sorted(self.members, key=lambda member: not member.batch.starts_as_text)


class GroupCommit:
    """Groups batches and lands them. Belongs to one event loop."""

    def __init__(
        self,
        writer: JointWriter,
        contracts: Mapping[str, Contract],
        metrics: Metrics,
        *,
        max_age: timedelta,
        max_bytes: int,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        on_landed: Callable[[LandingObject], None] = lambda _: None,
    ) -> None:
        """Write a group at the end of a slot of `max_age`, or once it has `max_bytes`; then call `on_landed`."""
        self._writer = writer
        self._contracts = {**contracts}
        self._metrics = metrics
        self._max_age = max_age.total_seconds()
        self._max_bytes = max_bytes
        self._now = now
        self._on_landed = on_landed
        self._open: dict[str, _Group] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._due: deque[Sequence[_Group]] = deque()
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
        group = self._open.get(stream) or self._new_group(stream)
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

    def replace_contracts(self, contracts: Mapping[str, Contract]) -> None:
        """Validate by these contracts from now on. Streams without one may still have events that wait."""
        self._contracts |= contracts

    async def close(self) -> None:
        """Write all groups, then stop."""
        self._make_due([group for group in self._open.values() if not group.due])
        while self._writes:
            await asyncio.wait(self._writes)
        self._validation_thread.shutdown()

    def _new_group(self, stream: str) -> _Group:
        now = self._now()
        since = (now - _EPOCH) % timedelta(seconds=self._max_age)  # exactly, because all processes must agree
        deadline = asyncio.get_running_loop().time() + self._max_age - since.total_seconds()
        return _Group(stream, now - since, deadline)

    def _schedule(self, group: _Group) -> None:
        self._open[group.stream] = group
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_at(group.deadline, self._end_slot)
        # A group that fills up at once may grow, for few objects. One that does not is written early, for fast answers.
        age = time.monotonic() - group.members[0].added_at
        full = self._max_bytes / EARLY_DIVISOR if age > self._max_age / EARLY_DIVISOR else self._max_bytes
        if group.size >= full:
            self._make_due([group])
        if group.size >= MAX_GROUP_BYTES:
            self._close_group(group)

    def _end_slot(self) -> None:
        """Write the groups whose slot has ended: small ones together."""
        loop = asyncio.get_running_loop()
        waiting = [group for group in self._open.values() if not group.due]
        ended = [group for group in waiting if group.deadline <= loop.time() + TIMER_SECONDS]
        rest = [group.deadline for group in waiting if group not in ended]
        self._timer = loop.call_at(min(rest), self._end_slot) if rest else None
        self._make_due(ended)

    def _make_due(self, groups: Sequence[_Group]) -> None:
        """Write the groups when it is their turn; until then they accept requests."""
        together: dict[datetime, list[_Group]] = {}
        for group in groups:
            if not group.due:
                group.due = True
                if group.size < MIN_COMPRESSED_BYTES:
                    together.setdefault(group.arrived_at, []).append(group)
                else:
                    self._due.append([group])
        self._due.extend(together.values())
        self._start_writes()

    def _close_group(self, group: _Group) -> None:
        if self._open.get(group.stream) is group:
            del self._open[group.stream]

    def _start_writes(self) -> None:
        while self._due and len(self._writes) < self._concurrent_writes:
            groups = self._due.popleft()
            for group in groups:
                self._close_group(group)
            task = asyncio.get_running_loop().create_task(self._write(groups))
            self._writes.add(task)
            task.add_done_callback(self._on_written)

    def _on_written(self, task: "asyncio.Task[None]") -> None:
        self._writes.discard(task)
        self._start_writes()

    async def _write(self, groups: Sequence[_Group]) -> None:
        """Write groups of one slot."""
        started = time.monotonic()
        parts = [_part(group) for group in groups]
        try:
            validation = asyncio.gather(*map(self._validate, groups))
            try:
                landed = await self._writer.land(parts, groups[0].arrived_at)
            finally:
                reasons = await validation
        except Exception as error:
            self._fail(groups, error)
            return
        self._failed_at = None
        seconds = time.monotonic() - started
        self._adapt_concurrency(seconds)
        for group, part, reasons_of_members in zip(groups, landed, reasons, strict=True):
            self._on_landed(part.landing)
            self._metrics.count_object(group.stream, group.size, seconds)
            self._answer(group, part.landing, part.first_row, reasons_of_members)

    def _answer(
        self, group: _Group, landing: LandingObject, first_row: int, reasons_of_members: list[Mapping[int, list[str]]]
    ) -> None:
        for member, reasons in zip(group.text_first, reasons_of_members, strict=True):
            if not member.stored.done():
                member.stored.set_result(StoredBatch(landing, first_row, member.batch.count, reasons))
            self._metrics.count_events(group.stream, member.batch.count, len(reasons))
            first_row += member.batch.count

    def _fail(self, groups: Sequence[_Group], error: Exception) -> None:
        names, size = ", ".join(group.stream for group in groups), sum(group.size for group in groups)
        for group in groups:
            self._metrics.count_storage_error(group.stream)
        if isinstance(error, LakehouseError):
            self._failed_at = time.monotonic()
            self._concurrent_writes = max(1, self._concurrent_writes // 2)
            log.error("could not store %d bytes of %s: %s", size, names, error)
        else:
            log.exception("could not store %d bytes of %s", size, names)
            error = StorageUnavailableError("The events could not be stored. Send them again.")
        for member in (member for group in groups for member in group.members):
            if not member.stored.done():
                member.stored.set_exception(error)
                member.stored.exception()  # marks it as retrieved, because its client may have gone

    def _adapt_concurrency(self, seconds: float) -> None:
        """Write more objects at once while groups wait and storage keeps up, fewer when it does not."""
        if seconds > self._max_age and self._concurrent_writes > 1:
            self._concurrent_writes -= 1
        elif self._due and self._concurrent_writes < MAX_CONCURRENT_WRITES:
            self._concurrent_writes += 1

    async def _validate(self, group: _Group) -> list[Mapping[int, list[str]]]:
        """Return each member's reasons, by the events' numbers in its request."""
        members = group.text_first
        unproven = [line for member in members for line in member.batch.unproven]
        if not unproven:
            return [{}] * len(members)
        work = partial(self._reasons_of, group.stream, [line.line for line in unproven], group.arrived_at)
        reasons = await asyncio.get_running_loop().run_in_executor(self._validation_thread, work)
        by_member: list[Mapping[int, list[str]]] = []
        start = 0
        for member in members:
            numbered = enumerate(member.batch.unproven, start)
            by_member.append({line.row: reasons[index] for index, line in numbered if index in reasons})
            start += len(member.batch.unproven)
        return by_member

    def _reasons_of(self, stream: str, lines: list[bytes], arrived_at: datetime) -> Mapping[int, list[str]]:
        contract, validator = self._contracts[stream], self._validators.get(stream)
        if validator is None or validator.contract is not contract:
            validator = self._validators[stream] = SqlValidator(contract)
        return validator.reasons(lines, arrived_at)


def _part(group: _Group) -> Part:
    members = group.text_first
    rows = sum(member.batch.count for member in members)
    return Part(group.stream, [member.batch.lines for member in members], rows, members[0].batch.starts_as_text)
