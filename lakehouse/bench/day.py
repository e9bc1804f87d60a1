"""`bench day`: what a day of events costs that come one by one, over HTTP: PUTs and latency by rate, and bronze of the day."""

import asyncio
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime, time, timedelta
from functools import partial
from itertools import chain, zip_longest

from lakehouse.bench import load_generator
from lakehouse.bench.figures import Figure, figure, own_lake, timed
from lakehouse.bench.ingest import serving
from lakehouse.contracts.streams import Stream
from lakehouse.landing.writer import AsyncLandingWriter, Lines, land
from lakehouse.pipeline.bronze import ingest_days
from lakehouse.pipeline.lake import Lake
from lakehouse.sources.simulation import Simulator

RATES = (1, 10, 100, 300, 1000)
"""Events per second over all streams, each a request of its own."""

MAX_PUTS_PER_SECOND = 4
MAX_P99_MS = 500
MAX_BRONZE_RATIO = 2

CONNECTIONS = 1000
DIFFERENT_EVENTS = 500
"""Events of each stream that are sent in turn."""

SMALL_OBJECT_EVENTS = 10
LARGE_OBJECT_EVENTS = 1000
LANDING_THREADS = 16

NIGHT_HOUR = 22
"""The first hour that the sensor leaves to the run at 02:00, at worst."""


def measure(seconds: float = 30.0, events: int = 2_400_000) -> Iterator[Figure]:
    """Yield the figures of ingest, each rate for `seconds`, then those of bronze of a day of `events`."""
    yield from measure_ingest(seconds)
    yield from measure_bronze(events)


def measure_ingest(seconds: float, streams: Sequence[str] = ()) -> Iterator[Figure]:
    """Yield the figures of each rate. `streams` are by default all."""
    with own_lake(streams=streams) as lake, serving(lake.settings) as running:
        requests = _requests(lake, running.url)
        load_generator.run(running.url, requests, connections=10, seconds=min(2.0, seconds), rate=100)
        for rate in RATES:
            yield from _at_rate(lake, running.url, requests, rate, seconds)


def _requests(lake: Lake, url: str) -> list[bytes]:
    """Return requests of one event each, of every stream in turn."""
    now = datetime.now(UTC)
    by_stream = []
    for stream in lake.streams.values():
        simulator, path = Simulator(stream.contract, stream.simulate, 1), f"{url}/v1/streams/{stream.name}/events"
        lines = simulator.batch(DIFFERENT_EVENTS, now - timedelta(hours=1), now).lines.splitlines(keepends=True)
        by_stream.append([load_generator.request(path, line) for line in lines])
    return [request for request in chain.from_iterable(zip_longest(*by_stream)) if request is not None]


def _at_rate(lake: Lake, url: str, requests: Sequence[bytes], rate: int, seconds: float) -> Iterator[Figure]:
    before = _landing_objects(lake)
    load = load_generator.run(url, requests, connections=min(rate, CONNECTIONS), seconds=seconds, rate=rate)
    puts = (_landing_objects(lake) - before) / load.seconds
    yield figure("day", f"PUTs at {rate} events/s", puts, "a second", MAX_PUTS_PER_SECOND, a_day=round(puts * 86_400))
    p50, p99 = (load.percentile(share) * 1e3 for share in (0.5, 0.99))
    failed = sum(count for status, count in load.statuses.items() if status != 202) + load.broken
    yield figure("day", f"p99 at {rate} events/s", p99, "ms", MAX_P99_MS, p50_ms=round(p50, 1), failed=failed)


def _landing_objects(lake: Lake) -> int:
    return sum(1 for _ in lake.objects.list("realtime"))


def measure_bronze(events: int, streams: Sequence[str] = ()) -> Iterator[Figure]:
    """Yield the time that bronze takes for a day in large objects, in small ones, and for what the night has left.

    Small ones have the events of a moment: as the ingest service shares them between streams, and each by itself. At night
    the sensor `closed_hours` has requested all hours but the last two.
    """
    today = datetime.now(UTC).date()
    large_day, shared_day, small_day, night_day = (today - timedelta(days=n) for n in (1, 2, 3, 4))
    with own_lake(streams=streams, sync=False) as lake:
        seconds = {}
        for name, day, land_hours in (
            ("large", large_day, partial(_land_hours, object_events=LARGE_OBJECT_EVENTS)),
            ("shared", shared_day, _land_shared_hours),
            ("small", small_day, partial(_land_hours, object_events=SMALL_OBJECT_EVENTS)),
        ):
            objects = land_hours(lake, day, range(24), events)
            rows, spent = timed(partial(_ingest, lake, day))
            seconds[name] = spent.seconds
            yield figure("day", f"bronze of {name} objects", spent.seconds, "s", objects=objects, rows=rows)
        yield figure(
            "day",
            "bronze of shared objects / of large ones",
            seconds["shared"] / seconds["large"],
            "times",
            MAX_BRONZE_RATIO,
        )
        yield figure("day", "bronze of small objects / of large ones", seconds["small"] / seconds["large"], "times")
        _land_hours(lake, night_day, range(NIGHT_HOUR), events, SMALL_OBJECT_EVENTS)
        _ingest(lake, night_day)
        objects = _land_hours(lake, night_day, range(NIGHT_HOUR, 24), events, SMALL_OBJECT_EVENTS)
        rows, spent = timed(partial(_ingest, lake, night_day))
        yield figure("day", "bronze of small objects at 02:00", spent.seconds, "s", objects=objects, rows=rows)
        yield figure("day", "that / of large ones", spent.seconds / seconds["large"], "times", MAX_BRONZE_RATIO)


def _land_hours(lake: Lake, day: date, hours: Sequence[int], events: int, object_events: int) -> int:
    """Land these hours' part of a day with so many events, in objects of equal size. Returns the number of objects."""
    with ThreadPoolExecutor(LANDING_THREADS) as pool:
        for stream in lake.streams.values():
            parts = _parts(lake, stream, day, hours, events, object_events)
            list(pool.map(partial(_land, lake, stream.name), parts, _times(day, hours, len(parts))))
    return len(parts) * len(lake.streams)


def _land_shared_hours(lake: Lake, day: date, hours: Sequence[int], events: int) -> int:
    """Land them as the ingest service does: the events of a moment, of all streams, in one object."""
    by_stream = [_parts(lake, stream, day, hours, events, SMALL_OBJECT_EVENTS) for stream in lake.streams.values()]
    moments = [
        [Lines(name, [part]) for name, part in zip(lake.streams, parts, strict=True)]
        for parts in zip(*by_stream, strict=True)
    ]
    asyncio.run(_land_moments(lake, moments, _times(day, hours, len(moments))))
    return len(moments)


async def _land_moments(lake: Lake, moments: Sequence[Sequence[Lines]], times: Sequence[datetime]) -> None:
    writer = AsyncLandingWriter(lake.connection)
    slots = asyncio.Semaphore(LANDING_THREADS)

    async def land_moment(parts: Sequence[Lines], at: datetime) -> None:
        async with slots:
            await writer.land_shared(parts, at)

    await asyncio.gather(*map(land_moment, moments, times))


def _parts(lake: Lake, stream: Stream, day: date, hours: Sequence[int], events: int, object_events: int) -> list[bytes]:
    """Make a stream's part of these hours of a day, as the content of objects of equal size."""
    each = max(1, events * len(hours) // (24 * len(lake.streams) * LARGE_OBJECT_EVENTS)) * LARGE_OBJECT_EVENTS
    start = _start(day, hours)
    batch = Simulator(stream.contract, stream.simulate, hours[0]).batch(
        each, start, start + timedelta(hours=len(hours))
    )
    lines = batch.lines.splitlines(keepends=True)
    return [b"".join(lines[at : at + object_events]) for at in range(0, each, object_events)]


def _times(day: date, hours: Sequence[int], count: int) -> list[datetime]:
    return [_start(day, hours) + timedelta(hours=len(hours)) / count * n for n in range(count)]


def _start(day: date, hours: Sequence[int]) -> datetime:
    return datetime.combine(day, time(hours[0]), UTC)


def _land(lake: Lake, stream: str, lines: bytes, at: datetime) -> None:
    land(lake.objects, stream, lines, now=at)


def _ingest(lake: Lake, day: date) -> int:
    return sum(
        sum(counts["rows"] for counts in ingest_days(lake, stream, [day]).partitions.values())
        for stream in lake.streams.values()
    )
