"""`bench`: the benchmarks, one JSON line a figure as soon as it is known."""

import sys
from collections.abc import Iterable
from pathlib import Path

from lakehouse.bench.measuring import Figure
from lakehouse.commands.printing import print_json


def load_figures(rows: int, keep: Path | None) -> None:
    """Measure loading a file of so many rows; the file and the lake stay in `keep`."""
    from lakehouse.bench import loading

    _print(loading.measure(rows, folder=keep))


def tick_figures() -> None:
    """Measure a tick on an empty lake and on one with a year of history."""
    from lakehouse.bench import tick

    _print(tick.measure())


def backfill_figures(rows: int) -> None:
    """Measure a year of one stream as 365 partitions and as one."""
    from lakehouse.bench import backfill

    _print(backfill.measure(rows))


def launcher_figures(runs: int) -> None:
    """Measure how soon a run begins, forked from the warm process and by Dagster's default."""
    from lakehouse.bench import launcher

    _print(launcher.measure(runs))


def ingest_figures(seconds: float) -> None:
    """Measure durable ingest over HTTP."""
    from lakehouse.bench import ingest

    _print(ingest.measure(seconds))


def ingest_memory_figures(seconds: float) -> None:
    """Measure the HTTP server's memory over so many seconds."""
    from lakehouse.bench import ingest

    _print(ingest.memory(seconds))


def ingest_kill_figures(seconds: float, seed: int) -> None:
    """Count what is lost and what is there twice when processes are killed under load."""
    from lakehouse.bench import killing

    _print(killing.measure(seconds, seed))


def freshness_figures(seconds: float, rate: int) -> None:
    """Measure how soon events are in SQL."""
    from lakehouse.bench import freshness

    _print(freshness.measure(seconds, rate))


def maintenance_figures() -> None:
    """Measure what maintenance does to a week of ticks."""
    from lakehouse.bench import maintenance

    _print(maintenance.measure())


def year_figures(days: int) -> None:
    """Measure Dagster's history after so many days of runs."""
    from lakehouse.bench import year

    _print(year.measure(days))


def faults_figures(rounds: int, seed: int) -> None:
    """Kill and disturb a small lakehouse, then count what is left."""
    from lakehouse.bench import faults

    _print(faults.measure(rounds, seed))


def _print(figures: Iterable[Figure]) -> None:
    for figure in figures:
        print_json(figure)
        sys.stdout.flush()
