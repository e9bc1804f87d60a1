"""`bench day`: what a day of events costs that come one by one, over HTTP: PUTs and latency by rate, and bronze of the day."""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime, time, timedelta
from functools import partial
from itertools import chain, zip_longest

from lakehouse.bench import load_generator
from lakehouse.bench.figures import Figure, figure, own_lake, timed
from lakehouse.bench.ingest import serving
from lakehouse.landing.writer import land
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

    By then the sensor `closed_hours` has requested all hours but the last two.
    """
    large_day, small_day, night_day = (datetime.now(UTC).date() - timedelta(days=n) for n in (1, 2, 3))
    with own_lake(streams=streams, sync=False) as lake:
        seconds = []
        for name, day, size in (("large", large_day, LARGE_OBJECT_EVENTS), ("small", small_day, SMALL_OBJECT_EVENTS)):
            objects = _land_hours(lake, day, range(24), events, size)
            rows, spent = timed(partial(_ingest, lake, day))
            seconds.append(spent.seconds)
            yield figure("day", f"bronze of {name} objects", spent.seconds, "s", objects=objects, rows=rows)
        yield figure("day", "bronze of small objects / of large ones", seconds[1] / seconds[0], "times")
        _land_hours(lake, night_day, range(NIGHT_HOUR), events, SMALL_OBJECT_EVENTS)
        _ingest(lake, night_day)
        objects = _land_hours(lake, night_day, range(NIGHT_HOUR, 24), events, SMALL_OBJECT_EVENTS)
        rows, spent = timed(partial(_ingest, lake, night_day))
        yield figure("day", "bronze of small objects at 02:00", spent.seconds, "s", objects=objects, rows=rows)
        yield figure("day", "that / of large ones", spent.seconds / seconds[0], "times", MAX_BRONZE_RATIO)


def _land_hours(lake: Lake, day: date, hours: Sequence[int], events: int, object_events: int) -> int:
    """Land these hours' part of a day with so many events, in objects of equal size. Returns the number of objects."""
    start = datetime.combine(day, time(hours[0]), UTC)
    length = timedelta(hours=len(hours))
    streams = list(lake.streams.values())
    each = max(1, events * len(hours) // (24 * len(streams) * LARGE_OBJECT_EVENTS)) * LARGE_OBJECT_EVENTS
    count = each // object_events
    with ThreadPoolExecutor(LANDING_THREADS) as pool:
        for stream in streams:
            simulator = Simulator(stream.contract, stream.simulate, hours[0])
            lines = simulator.batch(each, start, start + length).lines.splitlines(keepends=True)
            parts = (b"".join(lines[n * object_events : (n + 1) * object_events]) for n in range(count))
            times = (start + length / count * n for n in range(count))
            list(pool.map(partial(_land, lake, stream.name), parts, times))
    return count * len(streams)


def _land(lake: Lake, stream: str, lines: bytes, at: datetime) -> None:
    land(lake.objects, stream, lines, now=at)


def _ingest(lake: Lake, day: date) -> int:
    return sum(
        sum(counts["rows"] for counts in ingest_days(lake, stream, [day]).partitions.values())
        for stream in lake.streams.values()
    )
