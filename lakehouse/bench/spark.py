"""`bench spark`: bronze and silver of one stream on Spark's workers, beside the same rows in this process.

Sail stands in for Spark: it runs the same Python workers in this process, so that all CPU is counted.
"""

import tempfile
from collections.abc import Iterator
from datetime import date
from pathlib import Path

from lakehouse.bench.backfill import clean
from lakehouse.bench.figures import Figure, Spent, figure, own_lake, timed
from lakehouse.bench.load import STREAM, THREADS, generate
from lakehouse.bench.sail import sail
from lakehouse.landing.upload import upload
from lakehouse.pipeline.bronze import ingest_days

DAYS = 20
REACH = 1.15
ROUNDS = 3


def measure(rows: int, rounds: int = ROUNDS) -> Iterator[Figure]:
    """Yield CPU microseconds a row of each layer. The two sides run in turns; the best round of each is compared."""
    costs: dict[tuple[str, str], list[Spent]] = {}
    with (
        tempfile.TemporaryDirectory(prefix="lakehouse-bench-") as folder,
        sail() as address,
        own_lake(streams=[STREAM], threads=THREADS, spark=address, spark_from_mb=0) as lake,
    ):
        file = generate(Path(folder, "days.csv"), rows, date(2023, 1, 1), DAYS)
        arrived = [upload(lake.objects, STREAM, file.path)[0].day]
        for _ in range(rounds):
            for engine in ("duckdb", "spark"):
                lake.settings = lake.settings.model_copy(update={"engine": engine})
                _, bronze = timed(lambda: ingest_days(lake, lake.stream(STREAM), arrived, replace=True))
                costs.setdefault(("bronze", engine), []).append(bronze)
                costs.setdefault(("silver", engine), []).append(clean(lake, file))
    for layer in ("bronze", "silver"):
        cpu = {engine: min(spent.cpu for spent in costs[layer, engine]) for engine in ("duckdb", "spark")}
        for engine, seconds in cpu.items():
            yield figure("spark", f"{layer} by {engine}", seconds / rows * 1e6, "µs CPU a row", rows=rows)
        yield figure("spark", f"{layer} ratio", cpu["spark"] / cpu["duckdb"], "x", REACH)
