"""`generate`: simulated events at a steady rate, to the HTTP server when it runs, else straight to landing."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta

from lakehouse.cli.printing import console, print_json, print_table, progress
from lakehouse.landing.writer import land
from lakehouse.pipeline.lake import Lake
from lakehouse.settings import Settings, get_settings
from lakehouse.sources.http import server as http
from lakehouse.sources.http.client import Parcel, Target, deliver, find_target
from lakehouse.sources.simulation import Faults, Simulator, Truth
from lakehouse.storage.embedded import lifecycle as server

BATCHES_A_SECOND = 10
BATCH = 20_000
"""Events of one request or object, at most: some five megabytes, and a tenth of a second at 200,000 events a second."""

EVENT_BYTES = 512
"""No simulated event is longer; so many fit into a body that the server takes."""

COUNTS = ("landed", "valid", "repeated", "invalid", "malformed", "late")

Send = Callable[[Iterator[Parcel], Callable[[int], None]], None]


def generate_events(
    names: Sequence[str], rate: float, seconds: float | None, seed: int, faults: Faults, *, as_json: bool
) -> None:
    """Send `rate` events a second over all streams for so many seconds, or until interrupted, and say what was sent."""
    settings = get_settings()
    lake = Lake(settings)
    streams = [lake.stream(name) for name in names] or list(lake.streams.values())
    simulators = {
        stream.name: Simulator(stream.contract, stream.simulate, seed + number, faults)
        for number, stream in enumerate(streams)
    }
    truths = {stream.name: Truth() for stream in streams}
    started = time.monotonic()
    with server.running(settings) as connection, progress() as bars:
        task = bars.add_task("events", total=round(rate * seconds) if seconds else None)
        target = find_target(settings) if http.running(settings) else None
        most = min(settings.http_max_events, settings.http_max_body_mb * 2**20 // EVENT_BYTES)
        parcels = _parcels(simulators, truths, rate, seconds, most)
        # What was sent is sent; interrupting says how much it is.
        with suppress(KeyboardInterrupt):
            if target is not None:
                _post(target, parcels, rate, lambda events: bars.advance(task, events))
            else:
                _land(Lake(settings, connection), parcels, rate, lambda events: bars.advance(task, events))
    _say(truths, time.monotonic() - started, _where(settings, target), as_json)


def _post(target: Target, parcels: Iterator[Parcel], rate: float, advance: Callable[[int], None]) -> None:
    deliver(target, parcels, rate=rate, on_delivered=lambda done: advance(done.accepted + done.quarantined))


def _land(lake: Lake, parcels: Iterator[Parcel], rate: float, advance: Callable[[int], None]) -> None:
    started, events = time.monotonic(), 0
    for parcel in parcels:
        time.sleep(max(0.0, started + events / rate - time.monotonic()))
        land(lake.objects, parcel.stream, parcel.lines)
        events += parcel.count
        advance(parcel.count)


def _parcels(
    simulators: dict[str, Simulator], truths: dict[str, Truth], rate: float, seconds: float | None, most: int
) -> Iterator[Parcel]:
    """The streams in turn, each event dated when it is due, `most` at once; whoever takes the parcels keeps the pace."""
    total = round(rate * seconds) if seconds is not None else None
    started, sent = datetime.now(UTC), 0
    size = max(1, min(BATCH, most, round(rate / BATCHES_A_SECOND)))
    while total is None or sent < total:
        for name, simulator in simulators.items():
            events = size if total is None else min(size, total - sent)
            if events <= 0:
                return
            first = started + timedelta(seconds=sent / rate)
            batch = simulator.batch(events, first, first + timedelta(seconds=max(events / rate, 0.001)))
            sent += events
            truths[name] += batch.truth
            yield Parcel(name, batch.lines, events)


def _where(settings: Settings, target: Target | None) -> str:
    return target.url if target is not None else f"landing under {settings.root}"


def _say(truths: dict[str, Truth], seconds: float, where: str, as_json: bool) -> None:
    if as_json:
        counts = {name: {count: getattr(truth, count) for count in COUNTS} for name, truth in truths.items()}
        print_json({"seconds": round(seconds, 3), "to": where, "streams": counts})
        return
    rows = [[name, *(getattr(truth, count) for count in COUNTS)] for name, truth in truths.items()]
    print_table("", ["stream", *COUNTS], rows, right=COUNTS)
    total = sum(truth.landed for truth in truths.values())
    console.print(f"{total:,} events to {where} in {seconds:.1f} s, {total / max(seconds, 1e-9):,.0f} a second.")
