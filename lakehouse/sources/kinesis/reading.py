"""Reads all Kinesis streams of a lakehouse side by side: whose turn it is, waiting, failures, and saying how it goes."""

import logging
import random
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from functools import partial
from threading import Event

from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError

from lakehouse.errors import LakehouseError
from lakehouse.settings import Settings
from lakehouse.sources.aws import TRANSIENT, aws_client, region_of
from lakehouse.sources.kinesis.shards import Shard, StreamReader
from lakehouse.sources.kinesis.status import Status, write
from lakehouse.storage.objects.store import Objects

AT_ONCE = 4
"""Shards that are read at the same time. Each holds an answer of at most 10 MiB, so this bounds memory."""

PAUSE = 0.25
"""Seconds between two turns of a shard that is behind; Kinesis allows five reads of a shard a second."""

BACK_OFF = 0.5
BACK_OFF_AT_MOST = 60.0
SAY_EVERY = 2.0
PATIENCE = 60.0
"""Seconds of failures after which reading up to the newest record is given up."""

log = logging.getLogger(__name__)

_FAILURES = (ClientError, BotoCoreError, LakehouseError)


@dataclass(slots=True)
class _Job:
    """A shard of a stream, or the stream itself while it is to be opened; when it is due, and how it went."""

    reader: StreamReader
    shard: Shard | None
    due: float = 0.0
    failures: int = 0
    failing_since: float = 0.0
    problem: str | None = None
    is_caught_up: bool = False


@dataclass(slots=True)
class Reading:
    """Reads streams until it is told to stop."""

    readers: Sequence[StreamReader]
    poll: float
    """Seconds between two looks at a shard that is read to its newest record."""
    say: Callable[[Sequence[Status]], None] = lambda _: None
    _jobs: dict[tuple[str, str], _Job] = field(default_factory=dict)
    _running: dict[Future[int], _Job] = field(default_factory=dict)

    def run(self, stop: Event, *, once: bool = False) -> Sequence[Status]:
        """Read until `stop` is set, or with `once` until all there is has been read; what was read.

        What is under way is landed before it returns. With `once`, raises LakehouseError when a stream can't be read.
        """
        said = 0.0
        with ThreadPoolExecutor(AT_ONCE, thread_name_prefix="kinesis") as pool:
            while not stop.is_set() and not (once and self._is_done()):
                self._start(pool)
                self._settle(stop)
                if once:
                    self._give_up()
                if time.monotonic() - said > SAY_EVERY:
                    said = time.monotonic()
                    self.say(self.statuses())
        self._end()
        return self.statuses()

    def statuses(self) -> list[Status]:
        """How it stands with each stream."""
        return [self._status(reader) for reader in self.readers]

    def _start(self, pool: ThreadPoolExecutor) -> None:
        """Hand out turns to those whose time has come, the longest due first."""
        now, busy = time.monotonic(), list(self._running.values())
        due = sorted((job for job in self._wanted() if job.due <= now and job not in busy), key=lambda job: job.due)
        for job in due[: AT_ONCE - len(busy)]:
            self._running[pool.submit(partial(_turn, job))] = job

    def _wanted(self) -> list[_Job]:
        found = []
        for reader in self.readers:
            if not reader.is_open or reader.is_stale:
                found.append(self._job(reader, None))
            else:
                found += [self._job(reader, shard) for shard in reader.readable()]
        return found

    def _job(self, reader: StreamReader, shard: Shard | None) -> _Job:
        name = (reader.stream, shard.id if shard else "")
        job = self._jobs.get(name)
        if job is None or job.shard is not shard:
            job = self._jobs[name] = _Job(reader, shard)
        return job

    def _settle(self, stop: Event) -> None:
        """Wait until a turn ends or another is due, not long, and see how those went that have ended."""
        if not self._running:
            dues = [job.due for job in self._wanted()]
            stop.wait(min(max(min(dues, default=0) - time.monotonic(), 0.005), 0.5))
            return
        for future in wait(self._running, timeout=0.05, return_when=FIRST_COMPLETED).done:
            job = self._running.pop(future)
            try:
                self._went_well(job, future.result())
            except _FAILURES as problem:
                self._failed(job, problem)

    def _went_well(self, job: _Job, records: int) -> None:
        if job.problem is not None:
            log.info("%s: going on", job.reader.stream)
        job.failures, job.problem = 0, None
        behind = bool(job.shard and job.shard.behind_ms)
        job.is_caught_up = not records and not behind
        job.due = time.monotonic() + (PAUSE if behind or job.shard is None else self.poll)

    def _failed(self, job: _Job, problem: Exception) -> None:
        now = time.monotonic()
        job.failing_since = job.failing_since if job.failures else now
        job.failures += 1
        job.due = now + min(BACK_OFF * 2 ** min(job.failures, 10), BACK_OFF_AT_MOST) * random.uniform(0.5, 1)  # noqa: S311
        if _code(problem) == "ResourceNotFoundException":
            job.reader.forget()
        said = described(problem, job.reader)
        if said != job.problem:
            passing = _code(problem) in TRANSIENT
            log.log(logging.INFO if passing else logging.ERROR, "%s: %s", job.reader.stream, said)
        job.problem = said

    def _give_up(self) -> None:
        for job in self._jobs.values():
            if job.failures and time.monotonic() - job.failing_since > PATIENCE:
                raise LakehouseError(job.problem or "Kinesis can't be read.")

    def _is_done(self) -> bool:
        jobs = self._wanted()
        return not self._running and all(job.is_caught_up and job.shard is not None for job in jobs)

    def _end(self) -> None:
        """Take in what was under way, and mark what has landed."""
        wait(self._running)
        for future, job in self._running.items():
            if problem := future.exception():
                log.info("%s: %s", job.reader.stream, problem)
        self._running.clear()
        for reader in self.readers:
            for shard in reader.shards.values():
                try:
                    reader.mark(shard)
                except LakehouseError as problem:
                    log.info("%s: %s", reader.stream, problem)
        self.say(self.statuses())

    def _status(self, reader: StreamReader) -> Status:
        shards = list(reader.shards.values())
        behind = [shard.behind_ms for shard in shards if not shard.finished and shard.behind_ms is not None]
        problems = [job.problem for job in self._jobs.values() if job.reader is reader and job.problem]
        return Status(
            stream=reader.stream,
            source=reader.source,
            shards=sum(not shard.finished for shard in shards),
            behind_ms=max(behind, default=None),
            records=sum(shard.records for shard in shards),
            objects=sum(shard.objects for shard in shards),
            bytes=sum(shard.bytes for shard in shards),
            problem=problems[0] if problems else None,
            at=time.time(),
        )


def build(settings: Settings, objects: Objects) -> Reading:
    """What reads the streams that the settings name."""
    readers = [
        StreamReader(
            aws_client(settings, "kinesis", region=region_of(source), connections=AT_ONCE), objects, stream, source
        )
        for stream, source in settings.kinesis.items()
    ]
    return Reading(readers, settings.kinesis_poll_ms / 1000, partial(write, settings))


def check_stream_names(sources: Mapping[str, str], streams: Sequence[str]) -> None:
    """Raise LakehouseError when a Kinesis stream is to be read into a stream that there is not."""
    if wrong := [name for name in sources if name not in streams]:
        raise LakehouseError(
            f"LAKEHOUSE_KINESIS names {', '.join(wrong)}, which is no stream; there are {', '.join(streams)}."
        )


def described(problem: Exception, reader: StreamReader) -> str:
    """What went wrong and what to do, in a line."""
    what = f"Can't read the Kinesis stream {reader.source}"
    if isinstance(problem, LakehouseError):
        return str(problem)
    if isinstance(problem, NoCredentialsError):
        return f"{what}: there are no AWS credentials; set AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY."
    code = _code(problem)
    if code == "ResourceNotFoundException":
        return f"{what}: there is no such stream in that region and account; create it or mend LAKEHOUSE_KINESIS."
    if code.startswith("AccessDenied"):
        return (
            f"{what}: access is denied; allow kinesis:DescribeStreamSummary, ListShards, GetShardIterator and"
            " GetRecords on it, and kms:Decrypt if it is encrypted."
        )
    return f"{what}, trying again: {str(problem).splitlines()[0][:300]}"


def _turn(job: _Job) -> int:
    if job.shard is not None:
        return job.reader.turn(job.shard)
    if job.reader.is_open:
        job.reader.list_shards()
    else:
        job.reader.open()
    return 0


def _code(problem: Exception) -> str:
    return str(problem.response["Error"]["Code"]) if isinstance(problem, ClientError) else ""
