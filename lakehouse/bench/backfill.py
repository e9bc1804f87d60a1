"""`bench backfill`: silver of a year of one stream in one run, beside the same number of rows as one partition."""

import tempfile
from collections.abc import Iterator
from datetime import date
from pathlib import Path

from lakehouse.bench.loading import STREAM, THREADS, File, generate
from lakehouse.bench.measuring import Figure, Spent, figure, own_lake, timed
from lakehouse.landing.upload import upload
from lakehouse.pipeline.bronze import ingest_days
from lakehouse.pipeline.lake import Lake
from lakehouse.pipeline.silver import clean_days

DAYS = 365
REACH = 1.5
ROUNDS = 3


def measure(rows: int, rounds: int = ROUNDS) -> Iterator[Figure]:
    """The figures for a year of so many rows; the two are taken in turns, and the best of each is compared."""
    with tempfile.TemporaryDirectory(prefix="lakehouse-bench-") as folder, own_lake(threads=THREADS) as lake:
        year = generate(Path(folder, "year.csv"), rows, date(2023, 1, 1), DAYS)
        day = generate(Path(folder, "day.csv"), rows, date(2024, 6, 1), 1)
        _land(lake, [year, day])
        taken: dict[str, list[Spent]] = {"year": [], "day": []}
        for _ in range(rounds):
            taken["year"].append(_clean(lake, year))
            taken["day"].append(_clean(lake, day))
    best = {name: min(spent, key=lambda one: one.seconds) for name, spent in taken.items()}
    apart, together = best["year"], best["day"]
    yield figure("backfill", f"{DAYS} partitions", apart.seconds, "s", cpu=round(apart.cpu, 2), rows=rows)
    yield figure("backfill", "one partition", together.seconds, "s", cpu=round(together.cpu, 2), rows=rows)
    yield figure("backfill", "ratio", apart.seconds / together.seconds, "x", REACH)


def _land(lake: Lake, files: list[File]) -> None:
    arrived = {upload(lake.objects, STREAM, file.path)[0].day for file in files}
    ingest_days(lake, lake.stream(STREAM), sorted(arrived))


def _clean(lake: Lake, file: File) -> Spent:
    cleaned, spent = timed(lambda: clean_days(lake, lake.stream(STREAM), file.days))
    found = sum(ledger.silver for ledger in cleaned.ledgers.values())
    if found != file.expected.silver:
        raise AssertionError(f"silver has {found} rows where the file has {file.expected.silver}")
    return spent
