"""Group commit: requests of a stream share a landing object, and are answered when it is stored. No HTTP in here."""

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

MOST_AT_ONCE = 16
"""Objects that one process stores at a time."""

SHARE = 4
"""After this part of its age a group is stored when it has this part of its size."""

LARGEST = 16 << 20
"""Bytes at which a group takes no more requests, while it waits for its turn."""

PAUSE = 1.0
"""Seconds for which nothing is taken after storage has failed."""


@dataclass(frozen=True, slots=True)
class Stored:
    """Where a batch's events are, and which break the contract: by their number in the request, why."""

    landing: LandingObject
    first_row: int
    count: int
    broken: Mapping[int, list[str]]


@dataclass(slots=True)
class _Member:
    batch: Batch
    answer: "asyncio.Future[Stored]"
    taken: float


@dataclass(slots=True)
class _Group:
    stream: str
    arrived_at: datetime
    members: list[_Member] = field(default_factory=list)
    size: int = 0
    due: bool = False
    timer: asyncio.TimerHandle | None = None


class GroupCommit:
    """Collects batches and lands them; lives in one event loop."""

    def __init__(
        self,
        landing: AsyncLandingWriter,
        contracts: Mapping[str, Contract],
        metrics: Metrics,
        *,
        age: timedelta,
        size: int,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        tell: Callable[[LandingObject], None] = lambda _: None,
    ) -> None:
        """`tell` hears of each object that is stored."""
        self._landing = landing
        self._contracts = contracts
        self._metrics = metrics
        self._age = age.total_seconds()
        self._size = size
        self._now = now
        self._tell = tell
        self._open: dict[str, _Group] = {}
        self._waiting: deque[_Group] = deque()
        self._storing: set[asyncio.Task[None]] = set()
        self._at_once = 4
        self._judges: dict[str, SqlValidator] = {}
        self._judging = ThreadPoolExecutor(1, thread_name_prefix="judge")
        self._failed_at: float | None = None

    @property
    def failing(self) -> bool:
        """Whether storage failed a moment ago, so that a further try would only be slow."""
        return self._failed_at is not None and time.monotonic() - self._failed_at < PAUSE

    @property
    def in_doubt(self) -> bool:
        """Whether nothing has been stored since storage failed last."""
        return self._failed_at is not None

    def add(self, stream: str, examine: Callable[[datetime], Batch]) -> "tuple[Batch, asyncio.Future[Stored] | None]":
        """Put what `examine` makes of the arrival time into the stream's open group.

        Returns the batch and its answer-to-be; there is none for a batch without events. The answer raises what landing
        raises, and then it is not known whether the events are stored.
        """
        # The name and so the arrival time of an object is settled when its group opens, for validity depends on it.
        group = self._open.get(stream) or _Group(stream, self._now())
        batch = examine(group.arrived_at)
        if not batch.count:
            return batch, None
        answer: asyncio.Future[Stored] = asyncio.get_running_loop().create_future()
        group.members.append(_Member(batch, answer, time.monotonic()))
        group.size += len(batch.lines)
        self._schedule(group)
        return batch, answer

    def warm_up(self) -> None:
        """Have the slow judges ready: the first of them makes duckdb import pandas, for seconds."""
        for stream in self._contracts:
            self._reasons(stream, [b"{}"], self._now())

    async def close(self) -> None:
        """Store all that is held, then stop."""
        for group in list(self._open.values()):
            self._is_due(group)
        while self._storing:
            await asyncio.wait(self._storing)
        self._judging.shutdown()

    def _schedule(self, group: _Group) -> None:
        if group.timer is None:
            self._open[group.stream] = group
            group.timer = asyncio.get_running_loop().call_later(self._age, self._is_due, group)
        # Where events come so fast that a group is full at once, few objects matter; else the answers do.
        enough = self._size / SHARE if time.monotonic() - group.members[0].taken > self._age / SHARE else self._size
        if group.size >= enough:
            self._is_due(group)
        if group.size >= LARGEST:
            self._close_group(group)

    def _is_due(self, group: _Group) -> None:
        """Store the group, now or when it is its turn; until then it takes further requests."""
        if group.due:
            return
        group.due = True
        if group.timer:
            group.timer.cancel()
        self._waiting.append(group)
        self._start()

    def _close_group(self, group: _Group) -> None:
        if self._open.get(group.stream) is group:
            del self._open[group.stream]

    def _start(self) -> None:
        while self._waiting and len(self._storing) < self._at_once:
            group = self._waiting.popleft()
            self._close_group(group)
            task = asyncio.get_running_loop().create_task(self._store(group))
            self._storing.add(task)
            task.add_done_callback(self._stored)

    def _stored(self, task: "asyncio.Task[None]") -> None:
        self._storing.discard(task)
        self._start()

    async def _store(self, group: _Group) -> None:
        begun = time.monotonic()
        members = sorted(group.members, key=lambda member: not member.batch.starts_as_text)
        try:
            judging = asyncio.ensure_future(self._judge(group.stream, members, group.arrived_at))
            try:
                landing = await self._landing.land(group.stream, [m.batch.lines for m in members], group.arrived_at)
            finally:
                verdicts = await judging
        except Exception as problem:
            self._fail(group, members, problem)
            return
        self._failed_at = None
        self._tell(landing)
        self._adapt(time.monotonic() - begun)
        self._metrics.stored(group.stream, group.size, time.monotonic() - begun)
        first = 1
        for member, broken in zip(members, verdicts, strict=True):
            if not member.answer.done():
                member.answer.set_result(Stored(landing, first, member.batch.count, broken))
            self._metrics.events(group.stream, member.batch.count, len(broken))
            first += member.batch.count

    def _fail(self, group: _Group, members: list[_Member], problem: Exception) -> None:
        self._metrics.failed(group.stream)
        if isinstance(problem, LakehouseError):
            self._failed_at = time.monotonic()
            self._at_once = max(1, self._at_once // 2)
            log.error("could not store %d bytes of %s: %s", group.size, group.stream, problem)
        else:
            log.exception("could not store %d bytes of %s", group.size, group.stream)
            problem = StorageUnavailableError("The events could not be stored; send them again.")
        for member in members:
            if not member.answer.done():
                member.answer.set_exception(problem)
                member.answer.exception()  # nobody may be waiting for it

    def _adapt(self, seconds: float) -> None:
        """More objects at once while groups wait and storage keeps up, fewer when it does not."""
        if seconds > self._age and self._at_once > 1:
            self._at_once -= 1
        elif self._waiting and self._at_once < MOST_AT_ONCE:
            self._at_once += 1

    async def _judge(self, stream: str, members: list[_Member], arrived_at: datetime) -> list[Mapping[int, list[str]]]:
        doubts = [doubt for member in members for doubt in member.batch.doubts]
        if not doubts:
            return [{}] * len(members)
        work = partial(self._reasons, stream, [doubt.line for doubt in doubts], arrived_at)
        reasons = await asyncio.get_running_loop().run_in_executor(self._judging, work)
        found: list[Mapping[int, list[str]]] = []
        place = 0
        for member in members:
            numbered = enumerate(member.batch.doubts, place)
            found.append({doubt.row: reasons[i] for i, doubt in numbered if i in reasons})
            place += len(member.batch.doubts)
        return found

    def _reasons(self, stream: str, lines: list[bytes], arrived_at: datetime) -> Mapping[int, list[str]]:
        if stream not in self._judges:
            self._judges[stream] = SqlValidator(self._contracts[stream])
        return self._judges[stream].reasons(lines, arrived_at)
