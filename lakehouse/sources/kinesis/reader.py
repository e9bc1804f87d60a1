"""Read all Kinesis streams of a lakehouse side by side: scheduling, back-off, and reporting progress and errors."""

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from functools import partial
from threading import Event

from botocore.exceptions import BotoCoreError, ClientError
from tenacity import RetryCallState, Retrying, wait_exponential, wait_random_exponential

from lakehouse.aws import explain
from lakehouse.errors import LakehouseError
from lakehouse.settings import Settings
from lakehouse.sources.aws import TRANSIENT_ERROR_CODES, arn_region, aws_client, error_code
from lakehouse.sources.kinesis.status import StreamStatus, write_statuses
from lakehouse.sources.kinesis.stream_reader import Shard, StreamReader
from lakehouse.storage.objects.store import Objects

MAX_CONCURRENT_READS = 4
"""Shards read at the same time. Each holds an answer of at most 10 MiB, so this bounds memory."""

CATCH_UP_PAUSE_SECONDS = 0.25
"""Pause between two reads of a shard that is behind. Kinesis allows five reads of a shard a second."""

BACK_OFF = wait_exponential(multiplier=0.5, max=30) + wait_random_exponential(multiplier=0.5, max=30)
"""Seconds until a shard is read again after failures: 0.5 to 1 after the first, at most 60."""

REPORT_INTERVAL_SECONDS = 2.0

GIVE_UP_AFTER_SECONDS = 60.0
"""How long a stream may fail before a reader that should end at the newest record gives up."""

log = logging.getLogger(__name__)

_READ_ERRORS = (ClientError, BotoCoreError, LakehouseError)


@dataclass(slots=True)
class _Job:
    """A shard to read, or a stream to open if `shard` is None: when it is due and how it went."""

    reader: StreamReader
    shard: Shard | None
    due: float = 0.0
    failures: int = 0
    failing_since: float = 0.0
    error: str | None = None
    is_caught_up: bool = False

    def run(self) -> int:
        """Read the shard, or list the stream's shards. Returns how many records were read."""
        if self.shard is not None:
            return self.reader.read_shard(self.shard)
        if self.reader.is_open:
            self.reader.list_shards()
        else:
            self.reader.open()
        return 0


@dataclass(slots=True)
class KinesisReader:
    """Reads streams until it is stopped."""

    readers: Sequence[StreamReader]
    poll_seconds: float
    """Pause between two reads of a shard that is read to its newest record."""
    report: Callable[[Sequence[StreamStatus]], None] = lambda _: None
    _jobs: dict[tuple[str, str], _Job] = field(default_factory=dict)
    _running: dict[Future[int], _Job] = field(default_factory=dict)

    def run(self, stop: Event, *, once: bool = False) -> Sequence[StreamStatus]:
        """Read until `stop` is set, or with `once` until every shard is read to its newest record.

        Reads that are under way land before this returns. With `once`, raises LakehouseError if a stream can't be read.
        """
        reported_at = 0.0
        with ThreadPoolExecutor(MAX_CONCURRENT_READS, thread_name_prefix="kinesis") as pool:
            while not stop.is_set() and not (once and self._is_caught_up()):
                self._start_due_jobs(pool)
                self._finish_jobs(stop)
                if once:
                    self._raise_if_failing()
                if time.monotonic() - reported_at > REPORT_INTERVAL_SECONDS:
                    reported_at = time.monotonic()
                    self.report(self.statuses())
        self._finish()
        return self.statuses()

    def statuses(self) -> list[StreamStatus]:
        """Return the status of each stream."""
        return [self._status(reader) for reader in self.readers]

    def _start_due_jobs(self, pool: ThreadPoolExecutor) -> None:
        """Start the jobs that are due, those that waited longest first."""
        now, running = time.monotonic(), list(self._running.values())
        due = [job for job in self._open_jobs() if job.due <= now and job not in running]
        for job in sorted(due, key=lambda job: job.due)[: MAX_CONCURRENT_READS - len(running)]:
            self._running[pool.submit(job.run)] = job

    def _open_jobs(self) -> list[_Job]:
        jobs = []
        for reader in self.readers:
            if not reader.is_open or reader.is_stale:
                jobs.append(self._job(reader, None))
            else:
                jobs += [self._job(reader, shard) for shard in reader.readable_shards()]
        return jobs

    def _job(self, reader: StreamReader, shard: Shard | None) -> _Job:
        name = (reader.stream, shard.id if shard else "")
        job = self._jobs.get(name)
        if job is None or job.shard is not shard:
            job = self._jobs[name] = _Job(reader, shard)
        return job

    def _finish_jobs(self, stop: Event) -> None:
        """Wait a moment until a running job ends or another is due, and record how the ended ones went."""
        if not self._running:
            due = min((job.due for job in self._open_jobs()), default=0)
            stop.wait(min(max(due - time.monotonic(), 0.005), 0.5))
            return
        for future in wait(self._running, timeout=0.05, return_when=FIRST_COMPLETED).done:
            job = self._running.pop(future)
            try:
                self._record_success(job, future.result())
            except _READ_ERRORS as error:
                self._record_failure(job, error)

    def _record_success(self, job: _Job, records: int) -> None:
        if job.error is not None:
            log.info("%s: reading again", job.reader.stream)
        job.failures, job.error = 0, None
        is_behind = bool(job.shard and job.shard.behind_ms)
        job.is_caught_up = not records and not is_behind
        pause = CATCH_UP_PAUSE_SECONDS if is_behind or job.shard is None else self.poll_seconds
        job.due = time.monotonic() + pause

    def _record_failure(self, job: _Job, error: Exception) -> None:
        now = time.monotonic()
        job.failing_since = job.failing_since if job.failures else now
        job.failures += 1
        job.due = now + _back_off_seconds(job.failures)
        if error_code(error) == "ResourceNotFoundException":
            job.reader.close()
        message = describe_error(error, job.reader)
        if message != job.error:
            level = logging.INFO if error_code(error) in TRANSIENT_ERROR_CODES else logging.ERROR
            log.log(level, "%s: %s", job.reader.stream, message)
        job.error = message

    def _raise_if_failing(self) -> None:
        for job in self._jobs.values():
            if job.failures and time.monotonic() - job.failing_since > GIVE_UP_AFTER_SECONDS:
                raise LakehouseError(job.error or "Kinesis can't be read.")

    def _is_caught_up(self) -> bool:
        jobs = self._open_jobs()
        return not self._running and all(job.is_caught_up and job.shard is not None for job in jobs)

    def _finish(self) -> None:
        """Wait for running jobs and mark what has landed."""
        wait(self._running)
        for future, job in self._running.items():
            if error := future.exception():
                log.info("%s: %s", job.reader.stream, error)
        self._running.clear()
        for reader in self.readers:
            for shard in reader.shards.values():
                try:
                    reader.mark_landed(shard)
                except LakehouseError as error:
                    log.info("%s: %s", reader.stream, error)
        self.report(self.statuses())

    def _status(self, reader: StreamReader) -> StreamStatus:
        shards = list(reader.shards.values())
        behind = [shard.behind_ms for shard in shards if not shard.is_finished and shard.behind_ms is not None]
        errors = (job.error for job in self._jobs.values() if job.reader is reader and job.error)
        return StreamStatus(
            stream=reader.stream,
            source=reader.source,
            shards=sum(not shard.is_finished for shard in shards),
            behind_ms=max(behind, default=None),
            records=sum(shard.records for shard in shards),
            objects=sum(shard.objects for shard in shards),
            bytes=sum(shard.bytes for shard in shards),
            error=next(errors, None),
            at=time.time(),
        )


def kinesis_reader(settings: Settings, objects: Objects) -> KinesisReader:
    """Make the reader of the streams that the settings name."""
    readers = [
        StreamReader(
            aws_client(settings, "kinesis", region=arn_region(source), connections=MAX_CONCURRENT_READS),
            objects,
            stream,
            source,
        )
        for stream, source in settings.kinesis.items()
    ]
    return KinesisReader(readers, settings.kinesis_poll_ms / 1000, partial(write_statuses, settings))


def check_stream_names(sources: Mapping[str, str], streams: Sequence[str]) -> None:
    """Raise LakehouseError if a Kinesis stream is mapped to a stream that does not exist."""
    if unknown := [name for name in sources if name not in streams]:
        raise LakehouseError(
            f"LAKEHOUSE_KINESIS names {', '.join(unknown)}, which is no stream; there are {', '.join(streams)}."
        )


def describe_error(error: Exception, reader: StreamReader) -> str:
    """Describe in one line what failed and what to do."""
    failure = f"Can't read the Kinesis stream {reader.source}"
    if isinstance(error, LakehouseError):
        return str(error)
    code = error_code(error)
    if code == "ResourceNotFoundException":
        return f"{failure}: there is no such stream in that region and account; create it or fix LAKEHOUSE_KINESIS."
    if code.startswith("AccessDenied"):
        return (
            f"{failure}: access is denied; allow kinesis:DescribeStreamSummary, ListShards, GetShardIterator and"
            " GetRecords on it, and kms:Decrypt if it is encrypted."
        )
    if advice := explain(error):
        return f"{failure}: {advice}"
    return f"{failure}, trying again: {str(error).splitlines()[0][:300]}"


def _back_off_seconds(failures: int) -> float:
    # Only the wait strategy of tenacity is used, because its loop would hold one of the few threads while it waits.
    state = RetryCallState(Retrying(), None, (), {})
    state.attempt_number = failures
    return BACK_OFF(state)
