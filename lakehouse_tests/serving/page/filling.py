"""Fill a real lake with days of simulated events, from landing to alerts, without Dagster."""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

from lakehouse.landing.writer import land
from lakehouse.pipeline import bronze, gold, silver
from lakehouse.pipeline.alerts import write_alerts
from lakehouse.pipeline.features import write_features
from lakehouse.pipeline.lake import Lake
from lakehouse.sources.simulation import Faults, Simulator
from lakehouse_tests.pipeline.own import Own

FAULTS = Faults(late=0.005, repeated=0.01, invalid=0.01, malformed=0.005)


def fill(lake: Lake, streams: Iterable[str], *, days: int, events: int, faults: Faults = FAULTS) -> None:
    """Land and compute `days` days up to now of these streams, with `events` events per day."""
    now = datetime.now(UTC)
    start = now - timedelta(days=days)
    touched = set()
    for number, name in enumerate(streams):
        own = Own(lake, lake.stream(name))
        simulator = Simulator(own.stream.contract, own.stream.simulate, number, faults)
        for day in range(days):
            first = start + timedelta(days=day)
            lines = simulator.batch(events, first, first + timedelta(days=1)).lines
            land(lake.objects, name, lines, now=now)
        landed = bronze.ingest_days(lake, own.stream, [now.date()], run_id="test")
        touched |= set(landed.event_dates)
        silver.clean_days(lake, own.stream, landed.event_dates, run_id="test")
        own.gold(*landed.event_dates)
        write_features(lake, own.stream, landed.event_dates)
        write_alerts(lake, own.stream, landed.event_dates)
    gold.write_metrics(lake, sorted(touched))
