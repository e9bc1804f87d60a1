"""`generate`: simulated events at a steady rate."""

import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta

from lakehouse.commands.printing import console, print_json, print_table, progress
from lakehouse.ingest.landing import land
from lakehouse.ingest.simulation import Faults, Simulator, Truth
from lakehouse.layers.lake import Lake
from lakehouse.settings import get_settings
from lakehouse.storage import server

TICK_SECONDS = 1.0
COUNTS = ("landed", "valid", "repeated", "invalid", "malformed", "late")


def generate_events(
    names: Sequence[str], rate: float, seconds: float | None, seed: int, faults: Faults, *, as_json: bool
) -> None:
    """Land `rate` events a second over all streams for so many seconds, or until interrupted, and say what was sent."""
    settings = get_settings()
    streams = [Lake(settings).stream(name) for name in names] or list(Lake(settings).streams.values())
    simulators = {
        stream.name: Simulator(stream.contract, stream.simulate, seed + number, faults)
        for number, stream in enumerate(streams)
    }
    truths = {stream.name: Truth() for stream in streams}
    started = time.monotonic()
    with server.running(settings) as connection, progress() as bars:
        objects = Lake(settings, connection).objects
        task = bars.add_task("events", total=round(rate * seconds) if seconds else None)
        try:
            for shares, first, last in _ticks(rate / len(streams), seconds, len(streams)):
                for (name, simulator), events in zip(simulators.items(), shares, strict=True):
                    if events:
                        batch = simulator.batch(events, first, last)
                        land(objects, name, batch.lines)
                        truths[name] += batch.truth
                bars.advance(task, sum(shares))
        except KeyboardInterrupt:
            pass  # what was landed is landed; say how much it is
    _say(truths, time.monotonic() - started, as_json)


def _ticks(rate: float, seconds: float | None, streams: int) -> Iterator[tuple[list[int], datetime, datetime]]:
    """Every second, how many events each stream owes by now, and the time they happened in; never drifting."""
    started = time.monotonic()
    sent = 0
    last = datetime.now(UTC)
    while True:
        elapsed = time.monotonic() - started
        until = min(elapsed, seconds) if seconds is not None else elapsed
        owed = round(rate * until) - sent
        if owed > 0:
            now = datetime.now(UTC)
            yield [owed] * streams, last, max(now, last + timedelta(milliseconds=1))
            sent, last = sent + owed, now
        if seconds is not None and elapsed >= seconds:
            return
        time.sleep(max(0.0, min(TICK_SECONDS, (seconds or float("inf")) - elapsed)))


def _say(truths: dict[str, Truth], seconds: float, as_json: bool) -> None:
    if as_json:
        counts = {name: {count: getattr(truth, count) for count in COUNTS} for name, truth in truths.items()}
        print_json({"seconds": round(seconds, 3), "streams": counts})
        return
    rows = [[name, *(getattr(truth, count) for count in COUNTS)] for name, truth in truths.items()]
    print_table("", ["stream", *COUNTS], rows, right=COUNTS)
    total = sum(truth.landed for truth in truths.values())
    console.print(f"{total:,} events landed in {seconds:.1f} s, {total / max(seconds, 1e-9):,.0f} a second.")
