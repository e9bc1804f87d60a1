"""`demo`: every layer on a fresh machine, from simulated events to dashboards."""

import shutil
import sys
import time
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

import typer

from lakehouse.cli.options import Json, Seed
from lakehouse.cli.printing import console, print_json, print_table, progress
from lakehouse.errors import LakehouseError
from lakehouse.landing.keys import hour_partition
from lakehouse.landing.writer import land
from lakehouse.pipeline.lake import Lake
from lakehouse.pipeline.unified_view import view_sql
from lakehouse.settings import get_settings
from lakehouse.sources.simulation import Faults, Simulator, Truth
from lakehouse.storage.embedded import lifecycle as storage

FAULTS = Faults(late=0.01, repeated=0.01, invalid=0.01, malformed=0.002)
OBJECTS_PER_STREAM = 4
LAYERS = ("bronze", "realtime", "silver", "quarantine")
NEXT = (
    'query "select * from gold.financial_daily order by amount desc limit 5"',
    'query "select reasons, raw from quarantine.iot limit 5"',
    "up                      # the page, the Dagster page, schedules and sensors",
    "load retail FILE.csv    # your own files",
)
"""Commands to try after the demo."""

Events = Annotated[int, typer.Option(min=1, help="Simulated events for each stream.")]


def demo(events: Events = 20_000, seed: Seed = 1, as_json: Json = False) -> None:
    """Simulate all streams, run the graph through Dagster, and print the rows of each layer.

    Raises LakehouseError if a run fails or a row is unaccounted for.
    """
    from lakehouse.assets.partitions import exact_tags  # Dagster takes seconds to import
    from lakehouse.automation.jobs import BRONZE, REALTIME, REFRESH
    from lakehouse.automation.runs import Runner, raise_on_failure
    from lakehouse.pipeline.refresh import days_to_refresh

    settings = get_settings()
    started = time.monotonic()
    with storage.running(settings) as connection, progress() as bars:
        task = bars.add_task("tables", total=5)
        lake = Lake(settings, connection)
        lake.bootstrap()
        bars.update(task, advance=1, description="simulated events")
        # Simulate the whole of yesterday: of a day that has just begun, too few rows may be valid for the quality gate.
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
        rows = _count_rows(lake, truths)
        seconds = time.monotonic() - started
    _print(rows, seconds, str(settings.root), as_json)
    if lossy := [row["stream"] for row in rows if not row["conserved"]]:
        raise LakehouseError(f"Rows of {', '.join(lossy)} are unaccounted for; please report this with {settings.root}")


def _simulate(lake: Lake, events: int, seed: int, now: datetime) -> dict[str, Truth]:
    """Land the events of the day before `now`, in a few objects for each stream."""
    truths: dict[str, Truth] = {}
    step = timedelta(days=1) / OBJECTS_PER_STREAM
    for number, stream in enumerate(lake.streams.values()):
        simulator = Simulator(stream.contract, stream.simulate, seed + number, FAULTS)
        truth = Truth()
        for batch_number in range(OBJECTS_PER_STREAM):
            first = now - timedelta(days=1) + step * batch_number
            batch = simulator.batch(max(1, events // OBJECTS_PER_STREAM), first, first + step)
            land(lake.objects, stream.name, batch.lines, now=now)
            truth += batch.truth
        truths[stream.name] = truth
    return truths


def _count_rows(lake: Lake, truths: dict[str, Truth]) -> list[dict[str, Any]]:
    counts = []
    with lake.engine.cursor() as cursor:

        def rows(table: str) -> int:
            count = cursor.execute(f"select count(*) from ({view_sql(lake, table)})").fetchone()
            return int(count[0]) if count else 0

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
            counts.append(row)
    return counts


def _print(counts: list[dict[str, Any]], seconds: float, home: str, as_json: bool) -> None:
    if as_json:
        print_json({"seconds": round(seconds, 3), "home": home, "streams": counts})
        return
    # Streams are the columns, because a terminal of 80 columns has no room for a column a count.
    streams = [row["stream"] for row in counts]
    names = [name for name in counts[0] if name not in ("stream", "conserved")]
    print_table("Rows", ["", *streams], [[name, *(row[name] for row in counts)] for name in names], streams)
    console.print(
        "bronze = silver + quarantine + duplicates: every landed line is accounted for, once.", soft_wrap=True
    )
    console.print(f"Done in {seconds:.1f} s. Everything is under {home}. Try next:", soft_wrap=True)
    program = "lakehouse" if shutil.which("lakehouse") else sys.argv[0]
    for words in NEXT:
        console.print(f"  {program} {words}", soft_wrap=True)
