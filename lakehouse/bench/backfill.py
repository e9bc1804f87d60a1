"""`bench backfill`: silver of a year of one stream in one run, beside the same rows as one partition."""

import tempfile
from collections.abc import Iterator
from datetime import date
from pathlib import Path

from lakehouse.bench.figures import Figure, Spent, figure, own_lake, timed
from lakehouse.bench.load import STREAM, THREADS, File, generate
from lakehouse.landing.upload import upload
from lakehouse.pipeline.bronze import ingest_days
from lakehouse.pipeline.lake import Lake
from lakehouse.pipeline.silver import clean_days

DAYS = 365
REACH = 1.5
ROUNDS = 3


def measure(rows: int, rounds: int = ROUNDS) -> Iterator[Figure]:
    """Yield the figures for a year of `rows` rows. The two sides run in turns; the best round of each is compared."""
    with (
        tempfile.TemporaryDirectory(prefix="lakehouse-bench-") as folder,
        own_lake(streams=[STREAM], threads=THREADS) as lake,
    ):
        year = generate(Path(folder, "year.csv"), rows, date(2023, 1, 1), DAYS)
        day = generate(Path(folder, "day.csv"), rows, date(2024, 6, 1), 1)
        _land(lake, [year, day])
        rounds_spent: dict[str, list[Spent]] = {"year": [], "day": []}
        for _ in range(rounds):
            rounds_spent["year"].append(clean(lake, year))
            rounds_spent["day"].append(clean(lake, day))
    best = {name: min(costs, key=lambda cost: cost.seconds) for name, costs in rounds_spent.items()}
    apart, together = best["year"], best["day"]
    yield figure("backfill", f"{DAYS} partitions", apart.seconds, "s", cpu=round(apart.cpu, 2), rows=rows)
    yield figure("backfill", "one partition", together.seconds, "s", cpu=round(together.cpu, 2), rows=rows)
    yield figure("backfill", "ratio", apart.seconds / together.seconds, "x", REACH)


def _land(lake: Lake, files: list[File]) -> None:
    arrived = {upload(lake.objects, STREAM, file.path)[0].day for file in files}
    ingest_days(lake, lake.stream(STREAM), sorted(arrived))


def clean(lake: Lake, file: File) -> Spent:
    """Compute silver of a file's days and return the cost. Raises AssertionError if the rows are not those of the file."""
    cleaned, spent = timed(lambda: clean_days(lake, lake.stream(STREAM), file.days))
    rows = sum(ledger.silver for ledger in cleaned.ledgers.values())
    if rows != file.expected.silver:
        raise AssertionError(f"silver has {rows} rows, expected {file.expected.silver}")
    return spent
