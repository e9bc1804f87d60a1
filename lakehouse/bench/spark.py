"""`bench spark`: bronze and silver of one stream on Spark's workers, by days and in pieces of one day.

The counterpart is the same rows in this process.

Sail stands in for Spark: it runs the same Python workers in this process, so that all CPU is counted.
"""

import tempfile
from collections import defaultdict
from collections.abc import Iterator
from datetime import date
from pathlib import Path

from lakehouse.bench.backfill import clean
from lakehouse.bench.figures import Figure, figure, own_lake, timed
from lakehouse.bench.load import STREAM, THREADS, generate
from lakehouse.bench.sail import sail
from lakehouse.landing.upload import upload
from lakehouse.pipeline.bronze import ingest_days
from lakehouse.pipeline.cleaning import MAX_ROWS_IN_MEMORY

DAYS = 20
REACH = 1.15
PIECES_REACH = 2.5
ROUNDS = 3


LARGE_DAY_ROWS = 2 * MAX_ROWS_IN_MEMORY


def measure(rows: int, rounds: int = ROUNDS) -> Iterator[Figure]:
    """Yield CPU microseconds a row of each layer. The sides run in turns; the best round of each is compared."""
    cpu: dict[tuple[str, str], list[float]] = defaultdict(list)
    with (
        tempfile.TemporaryDirectory(prefix="lakehouse-bench-") as folder,
        sail() as address,
        own_lake(streams=[STREAM], threads=THREADS, spark=address, spark_from_mb=0) as lake,
    ):
        days = generate(Path(folder, "days.csv"), rows, date(2023, 1, 1), DAYS)
        large_day = generate(Path(folder, "day.csv"), LARGE_DAY_ROWS, date(2023, 6, 1), 1)
        arrived = sorted({upload(lake.objects, STREAM, file.path)[0].day for file in (days, large_day)})
        landed = days.rows + large_day.rows
        for _ in range(rounds):
            for engine in ("duckdb", "spark"):
                lake.settings = lake.settings.model_copy(update={"engine": engine})
                _, bronze = timed(lambda: ingest_days(lake, lake.stream(STREAM), arrived, replace=True))
                cpu["bronze", engine].append(bronze.cpu / landed)
                cpu["silver", engine].append(clean(lake, days).cpu / days.rows)
                cpu["silver of a large day", engine].append(clean(lake, large_day).cpu / large_day.rows)
    best = {name: min(costs) * 1e6 for name, costs in cpu.items()}
    for (layer, engine), cost in best.items():
        yield figure("spark", f"{layer} by {engine}", cost, "µs CPU a row")
    for layer in ("bronze", "silver"):
        yield figure("spark", f"{layer} ratio", best[layer, "spark"] / best[layer, "duckdb"], "x", REACH)
    # Beside days that fit in memory, because this machine spills a large one, which costs more.
    in_pieces = best["silver of a large day", "spark"] / best["silver", "duckdb"]
    yield figure("spark", "pieces ratio", in_pieces, "x", PIECES_REACH)
