"""`demo`: the main job on a fresh machine, from simulated events to what people read."""

import time
from datetime import UTC, datetime, timedelta
from typing import Any

from lakehouse.cli.printing import console, print_json, print_table, progress
from lakehouse.errors import LakehouseError
from lakehouse.landing.keys import hour_partition
from lakehouse.landing.writer import land
from lakehouse.pipeline.lake import Lake
from lakehouse.pipeline.unified_view import view_sql
from lakehouse.settings import get_settings
from lakehouse.sources.simulation import Faults, Simulator, Truth
from lakehouse.storage.embedded import lifecycle as server

FAULTS = Faults(late=0.01, repeated=0.01, invalid=0.01, malformed=0.002)
BATCHES = 4
"""Landing objects of each stream."""

LAYERS = ("bronze", "realtime", "silver", "quarantine")


def run_demo(*, events: int, seed: int, as_json: bool) -> None:
    """Simulate all streams, run the graph through Dagster, and print what each layer holds and where to look."""
    from lakehouse.assets.partitions import exact_tags
    from lakehouse.automation.jobs import BRONZE, REALTIME, REFRESH
    from lakehouse.automation.runs import Runner, raise_on_failure
    from lakehouse.pipeline.lineage.refresh import days_to_refresh

    settings = get_settings()
    started = time.monotonic()
    with server.running(settings) as connection, progress() as bars:
        task = bars.add_task("tables", total=5)
        lake = Lake(settings, connection)
        lake.bootstrap()
        bars.update(task, advance=1, description="simulated events")
        # The whole of yesterday: of a day that has just begun, what is broken may be more than what is valid.
        now = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0) - timedelta(seconds=1)
        truths = _simulate(lake, events, seed, now)
        bars.update(task, advance=1, description="realtime")
        runner = Runner(lake)
        raise_on_failure(runner.run(REALTIME, {"dagster/partition": hour_partition(now)}))
        bars.update(task, advance=1, description="bronze")
        raise_on_failure(runner.run(BRONZE, exact_tags([now.date()])))
        bars.update(task, advance=1, description="silver, gold, serving")
        days = sorted({day for stream in lake.streams.values() for day in days_to_refresh(lake, stream)})
        if days:
            raise_on_failure(runner.run(REFRESH, exact_tags(days)))
        bars.advance(task)
        found = _holdings(lake, truths)
        seconds = time.monotonic() - started
    _say(found, seconds, str(settings.root), as_json)
    if wrong := [row["stream"] for row in found if not row["conserved"]]:
        raise LakehouseError(
            f"rows of {', '.join(wrong)} are not accounted for; please report this with {settings.root}"
        )


def _simulate(lake: Lake, events: int, seed: int, now: datetime) -> dict[str, Truth]:
    """A day of events up to then, landed in a few objects a stream."""
    truths: dict[str, Truth] = {}
    step = timedelta(days=1) / BATCHES
    for number, stream in enumerate(lake.streams.values()):
        simulator = Simulator(stream.contract, stream.simulate, seed + number, FAULTS)
        truth = Truth()
        for batch_number in range(BATCHES):
            first = now - timedelta(days=1) + step * batch_number
            batch = simulator.batch(max(1, events // BATCHES), first, first + step)
            land(lake.objects, stream.name, batch.lines, now=now)
            truth += batch.truth
        truths[stream.name] = truth
    return truths


def _holdings(lake: Lake, truths: dict[str, Truth]) -> list[dict[str, Any]]:
    found = []
    with lake.engine.cursor() as cursor:

        def rows(name: str) -> int:
            counted = cursor.execute(f"select count(*) from ({view_sql(lake, name)})").fetchone()
            return int(counted[0]) if counted else 0

        for name, truth in truths.items():
            row: dict[str, Any] = {"stream": name, "simulated": truth.landed}
            row |= {layer: rows(f"{layer}.{name}") for layer in LAYERS}
            row["duplicates"] = row["bronze"] - row["silver"] - row["quarantine"]
            row |= {
                "gold": rows(f"gold.{name}_daily"),
                "unified": rows(f"serving.unified_{name}"),
                "features": rows(f"serving.{name}_features"),
                "alerts": rows(f"serving.{name}_alerts"),
            }
            row["conserved"] = row["duplicates"] >= 0
            found.append(row)
    return found


def _say(found: list[dict[str, Any]], seconds: float, home: str, as_json: bool) -> None:
    if as_json:
        print_json({"seconds": round(seconds, 3), "home": home, "streams": found})
        return
    # A column a stream, for a terminal of 80 columns has no room for all that is counted.
    streams = [row["stream"] for row in found]
    counted = [name for name in found[0] if name not in ("stream", "conserved")]
    print_table("Rows", ["", *streams], [[name, *(row[name] for row in found)] for name in counted], streams)
    console.print(
        "bronze = silver + quarantine + duplicates: every landed line is accounted for, once.", soft_wrap=True
    )
    console.print(f"Done in {seconds:.1f} s; all of it is under {home}. Next:")
    console.print('  lakehouse query "select * from gold.financial_daily order by amount desc limit 5"', soft_wrap=True)
    console.print('  lakehouse query "select reasons, raw from quarantine.iot limit 5"')
    console.print("  lakehouse up         the Dagster page, schedules and sensors")
    console.print("  lakehouse load retail FILE.csv        your own files")
