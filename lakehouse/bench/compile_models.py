"""`bench compile`: the time to load the definitions of 500 models, beside those of 50 and of none."""

import statistics
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

from lakehouse.bench.figures import Figure, figure

REACH_SECONDS = 2.0
"""How much longer 500 models may take than 50."""

FEW, MANY = 50, 500
ROUNDS = 3

LOAD = """
import sys, time
from pathlib import Path
from lakehouse.automation.build import build_definitions
from lakehouse.settings import Settings
started = time.perf_counter()
definitions = build_definitions(Settings(models=(Path(sys.argv[1]),)))
definitions.get_repository_def().get_all_jobs()
print(time.perf_counter() - started)
"""
"""Loads the definitions as the code server does. Imports are not counted, because they don't depend on models."""


def measure(rounds: int = ROUNDS) -> Iterator[Figure]:
    """Yield the seconds that definitions take to load in a new process, the median of some rounds, in turns."""
    seconds: dict[int, list[float]] = {0: [], FEW: [], MANY: []}
    with TemporaryDirectory(prefix="lakehouse-bench-") as folder:
        for number in seconds:
            _write_models(Path(folder, str(number)), number)
        for _ in range(rounds):
            for number, measured in seconds.items():
                measured.append(_load(Path(folder, str(number))))
    medians = {number: statistics.median(measured) for number, measured in seconds.items()}
    for number, median in medians.items():
        yield figure("compile", f"definitions of {number} models", median, "s")
    yield figure("compile", f"{MANY} models more than {FEW}", medians[MANY] - medians[FEW], "s", REACH_SECONDS)


def _load(folder: Path) -> float:
    done = subprocess.run([sys.executable, "-P", "-c", LOAD, folder], check=True, capture_output=True, text=True)
    return float(done.stdout)


def _write_models(folder: Path, number: int) -> None:
    """Write models in chains of five: the first reads silver, each other the one before it."""
    (folder / "gold").mkdir(parents=True)
    for n in range(number):
        read = "silver.retail" if n % 5 == 0 else f"gold.m{n - 1}"
        header = f"/*\ndescription: Model {n}.\nkey: [dt, country]\n*/\n"
        sql = f"select dt, country, count(*) as events from {read} group by all\n"
        (folder / "gold" / f"m{n}.sql").write_text(header + sql)
