"""Parcels, the events of one request each: cut from lines, halved, and delivered several at a time."""

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from threading import Event

from lakehouse.client.results import SendResult
from lakehouse.errors import LakehouseError

MAX_PARCEL_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Parcel:
    """The events of one request, as NDJSON."""

    stream: str
    lines: bytes
    count: int
    name: str | None = None
    """The Idempotency-Key: the same whenever these events are sent. Without one, a retry may land them again."""

    def halves(self) -> tuple["Parcel", "Parcel"]:
        """Split into two parcels whose names follow from this one's, so that a repetition splits in the same way."""
        lines = [line for line in self.lines.split(b"\n") if line.strip()]
        middle = len(lines) // 2
        return self._part(lines[:middle], 0), self._part(lines[middle:], 1)

    def _part(self, lines: list[bytes], number: int) -> "Parcel":
        name = None if self.name is None else f"{self.name}.{number}"
        return Parcel(self.stream, b"".join(line + b"\n" for line in lines), len(lines), name)


def cut_parcels(stream: str, lines: Iterable[bytes], name: str, max_events: int) -> Iterator[Parcel]:
    """Cut lines without their ends into parcels of at most `max_events` and a MiB, named `name` and their number."""
    held: list[bytes] = []
    size = number = 0
    for line in lines:
        if held and (len(held) == max_events or size + len(line) > MAX_PARCEL_BYTES):
            yield Parcel(stream, b"\n".join(held) + b"\n", len(held), f"{name}-{number}")
            held, size, number = [], 0, number + 1
        held.append(line)
        size += len(line) + 1
    if held:
        yield Parcel(stream, b"\n".join(held) + b"\n", len(held), f"{name}-{number}")


def deliver(
    post: Callable[[Parcel, Event], SendResult],
    pool: ThreadPoolExecutor,
    parcels: Iterable[Parcel],
    *,
    rate: float | None,
    concurrency: int,
) -> Iterator[SendResult]:
    """Post parcels, at most `rate` events a second and `concurrency` at a time. Yield their results in their order.

    The event that `post` gets is set when the delivery fails or its consumer stops, so that waiting retries end. Raises
    the first LakehouseError of `post`; its `sent` has what parcels after the failed one stored. Raises an error of
    `parcels` once all before it are stored.
    """
    stopped = Event()
    in_flight: deque[tuple[Parcel, Future[SendResult]]] = deque()
    started, events = time.monotonic(), 0
    failures: list[Exception] = []
    try:
        for parcel in _until_failure(parcels, failures):
            if rate and (early := started + events / rate - time.monotonic()) > 0:
                time.sleep(early)
            events += parcel.count
            in_flight.append((parcel, pool.submit(post, parcel, stopped)))
            while len(in_flight) >= concurrency or (in_flight and in_flight[0][1].done()):
                yield in_flight[0][1].result()
                in_flight.popleft()
        while in_flight:
            yield in_flight[0][1].result()
            in_flight.popleft()
        if failures:
            raise failures[0]
    except LakehouseError as error:
        _end(stopped, in_flight)
        error.sent = (error.sent or SendResult()) + _stored(in_flight)
        raise
    finally:
        _end(stopped, in_flight)


def _until_failure(parcels: Iterable[Parcel], failures: list[Exception]) -> Iterator[Parcel]:
    """Yield the parcels before an error of theirs, which goes to `failures`."""
    try:
        yield from parcels
    except Exception as error:
        failures.append(error)


def _end(stopped: Event, in_flight: Iterable[tuple[Parcel, Future[SendResult]]]) -> None:
    """End what is in flight: each request after its current attempt."""
    stopped.set()
    futures = [future for _, future in in_flight]
    for future in futures:
        future.cancel()
    wait(futures)


def _stored(in_flight: Iterable[tuple[Parcel, Future[SendResult]]]) -> SendResult:
    """Sum up what parcels stored after the first of them failed, with their rows where they would have been."""
    total, missing = SendResult(), 0
    for parcel, future in in_flight:
        if future.cancelled() or future.exception() is not None:
            missing += parcel.count
        else:
            total += future.result().after(missing)
    return total
