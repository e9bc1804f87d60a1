"""`generate`: simulated events at a steady rate, through the HTTP server when it runs, else straight to landing."""

import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Annotated

import typer

from lakehouse.cli.options import Json, Seed, Streams, parse_duration
from lakehouse.cli.printing import console, print_json, print_table, progress
from lakehouse.client.client import Client
from lakehouse.client.parcels import Parcel
from lakehouse.landing.writer import land
from lakehouse.pipeline.lake import Lake
from lakehouse.serving.api import gateway_server as http_server
from lakehouse.settings import Settings, get_settings
from lakehouse.sources.http.client import local_client
from lakehouse.sources.simulation import Faults, Simulator, Truth
from lakehouse.storage.embedded import lifecycle as storage

PARCELS_PER_SECOND = 10
MAX_PARCEL_EVENTS = 20_000
"""Some five megabytes in one request or object, and a tenth of a second at 200,000 events a second."""

MAX_EVENT_BYTES = 512
"""No simulated event is longer, so this bounds how many fit into a request body that the server accepts."""

COUNTS = ("landed", "valid", "repeated", "invalid", "malformed", "late")

Rate = Annotated[float, typer.Option(min=0.1, help="Events a second, over all the streams.")]
Duration = Annotated[str, typer.Option(help="A duration such as 30s, 5m or 2h, or infinite.")]
Late = Annotated[float, typer.Option(min=0, max=1, help="Share of late events.")]
Repeated = Annotated[float, typer.Option(min=0, max=1, help="Share of repeated events.")]
Invalid = Annotated[float, typer.Option(min=0, max=1, help="Share of events that break the contract.")]
Malformed = Annotated[float, typer.Option(min=0, max=1, help="Share of lines that are not events at all.")]


def generate(
    streams: Streams = None,
    rate: Rate = 100.0,
    duration: Duration = "30s",
    seed: Seed = 1,
    late: Late = 0.0,
    repeated: Repeated = 0.0,
    invalid: Invalid = 0.0,
    malformed: Malformed = 0.0,
    as_json: Json = False,
) -> None:
    """Send events for `duration`, or until interrupted, and print how many of each kind were sent."""
    seconds = parse_duration(duration)
    faults = Faults(late=late, repeated=repeated, invalid=invalid, malformed=malformed)
    settings = get_settings()
    lake = Lake(settings)
    chosen = [lake.stream(name) for name in streams] if streams else [*lake.streams.values()]
    simulators = {
        stream.name: Simulator(stream.contract, stream.simulate, seed + number, faults)
        for number, stream in enumerate(chosen)
    }
    truths = {stream.name: Truth() for stream in chosen}
    started = time.monotonic()
    with storage.running(settings) as connection, progress() as bars:
        task = bars.add_task("events", total=round(rate * seconds) if seconds else None)
        client = local_client(settings) if http_server.running(settings) else None
        limit = min(settings.http_max_events, settings.http_max_body_mb * 2**20 // MAX_EVENT_BYTES)
        parcels = _parcels(simulators, truths, rate, seconds, limit)
        # Interrupting is a normal end: the summary counts the events that were sent.
        with suppress(KeyboardInterrupt):
            if client is not None:
                _post(client, parcels, rate, lambda events: bars.advance(task, events))
            else:
                _land(Lake(settings, connection), parcels, rate, lambda events: bars.advance(task, events))
    _print(truths, time.monotonic() - started, _where(settings, client), as_json)


def _post(client: Client, parcels: Iterator[Parcel], rate: float, advance: Callable[[int], None]) -> None:
    with client:
        for result in client.deliver(parcels, rate=rate):
            advance(result.events)


def _land(lake: Lake, parcels: Iterator[Parcel], rate: float, advance: Callable[[int], None]) -> None:
    started, events = time.monotonic(), 0
    for parcel in parcels:
        time.sleep(max(0.0, started + events / rate - time.monotonic()))
        land(lake.objects, parcel.stream, parcel.lines)
        events += parcel.count
        advance(parcel.count)


def _parcels(
    simulators: dict[str, Simulator], truths: dict[str, Truth], rate: float, seconds: float | None, limit: int
) -> Iterator[Parcel]:
    """Yield parcels of at most `limit` events, stream after stream, each event dated when it is due.

    The consumer keeps the pace.
    """
    total = round(rate * seconds) if seconds is not None else None
    started, sent = datetime.now(UTC), 0
    size = max(1, min(MAX_PARCEL_EVENTS, limit, round(rate / PARCELS_PER_SECOND)))
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


def _where(settings: Settings, client: Client | None) -> str:
    return client.url if client is not None else f"landing under {settings.root}"


def _print(truths: dict[str, Truth], seconds: float, where: str, as_json: bool) -> None:
    if as_json:
        counts = {name: {count: getattr(truth, count) for count in COUNTS} for name, truth in truths.items()}
        print_json({"seconds": round(seconds, 3), "to": where, "streams": counts})
        return
    rows = [[name, *(getattr(truth, count) for count in COUNTS)] for name, truth in truths.items()]
    print_table("", ["stream", *COUNTS], rows, right=COUNTS)
    total = sum(truth.landed for truth in truths.values())
    console.print(f"Sent {total:,} events to {where} in {seconds:.1f} s, {total / max(seconds, 1e-9):,.0f} a second.")
