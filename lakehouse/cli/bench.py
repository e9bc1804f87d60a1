"""`bench`: the benchmarks, one JSON line a figure as soon as it is known. What is measured is each module's of `bench`."""

import time
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lakehouse.cli.durations import seconds
from lakehouse.cli.printing import print_json

if TYPE_CHECKING:
    from lakehouse.bench.figures import Figure

bench = typer.Typer(help="The benchmarks, one JSON line a figure, each on a lake of its own.", no_args_is_help=True)


@bench.command("load")
def bench_load(
    rows: Annotated[int, typer.Option(min=1000, help="Lines of the generated file, some 100 bytes each.")] = 16_000_000,
    keep: Annotated[Path | None, typer.Option(help="Leave the file and the lake in this empty folder.")] = None,
) -> None:
    """A large file through bronze and silver, beside DuckDB alone and pandas."""
    from lakehouse.bench import load

    _print(load.measure(rows, folder=keep))


@bench.command("tick")
def bench_tick() -> None:
    """Five minutes of all streams into realtime, on an empty lake and on one with a year of history."""
    from lakehouse.bench import tick

    _print(tick.measure())


@bench.command("backfill")
def bench_backfill(
    rows: Annotated[int, typer.Option(min=1000, help="Rows of the year.")] = 4_000_000,
) -> None:
    """A year of one stream in one run, beside the same rows as one partition."""
    from lakehouse.bench import backfill

    _print(backfill.measure(rows))


@bench.command("launcher")
def bench_launcher(runs: Annotated[int, typer.Option(min=1, help="So many each way.")] = 10) -> None:
    """From asking for a run to its first step, warm and by Dagster's default."""
    from lakehouse.bench import launcher

    _print(launcher.measure(runs))


@bench.command("ingest")
def bench_ingest(
    duration: Annotated[
        str, typer.Option(help="Of each figure; 10s when not given, 30s with --kill, 10m with --memory.")
    ] = "",
    kill: Annotated[bool, typer.Option("--kill", help="Kill -9 processes under load and count what is lost.")] = False,
    memory: Annotated[bool, typer.Option("--memory", help="Whether memory stays as it is.")] = False,
    seed: Annotated[int, typer.Option(help="Of the kills.")] = 1,
) -> None:
    """Durable events over HTTP, beside FastAPI that appends them to a local file."""
    from lakehouse.bench import ingest
    from lakehouse.chaos import kill_ingest

    length = seconds(duration or ("30s" if kill else "10m" if memory else "10s"))
    if length is None or (kill and memory):
        raise typer.BadParameter("give --duration a length, and one of --kill and --memory")
    if kill:
        _print(kill_ingest.measure(length, seed))
    elif memory:
        _print(ingest.memory(length))
    else:
        _print(ingest.measure(length))


@bench.command("freshness")
def bench_freshness(
    length: Annotated[float, typer.Option("--seconds", min=1, help="How long events are sent.")] = 30.0,
    rate: Annotated[int, typer.Option(min=1000, help="Events a second.")] = 10_000,
) -> None:
    """How long after its POST an event is in SQL over HTTP, while others arrive."""
    from lakehouse.bench import freshness

    _print(freshness.measure(length, rate))


@bench.command("query")
def bench_query(
    length: Annotated[float, typer.Option("--seconds", min=0.5, help="Of each figure.")] = 4.0,
    rows: Annotated[int, typer.Option(min=1000, help="Of each stream, in a week.")] = 200_000,
    entities: Annotated[int, typer.Option(min=1, help="In the look-up of devices.")] = 1_000_000,
    rate: Annotated[int, typer.Option(min=1000, help="Events a second that arrive meanwhile.")] = 10_000,
) -> None:
    """Named queries and look-ups over HTTP while events arrive, beside the same SQL straight in DuckDB."""
    from lakehouse.bench import query

    _print(query.measure(length, rows, entities, rate))


@bench.command("maintenance")
def bench_maintenance() -> None:
    """A week of 5-minute files and a month of small ones: files, bytes and a query before and after."""
    from lakehouse.bench import maintenance

    _print(maintenance.measure())


@bench.command("year")
def bench_year(
    days: Annotated[int, typer.Option(min=1, help="Days of 5- and 10-minute runs to write.")] = 365,
) -> None:
    """A year of runs in Dagster's history: what pages, sensors and the next tick take, and what pruning leaves."""
    from lakehouse.bench import year

    _print(year.measure(days))


@bench.command("faults")
def bench_faults(
    rounds: Annotated[int, typer.Option(min=1, help="Each draws its faults and kills anew.")] = 15,
    seed: Annotated[
        int | None, typer.Option(help="Of the first round; the next has the next. By default another each time.")
    ] = None,
    whole: Annotated[
        bool, typer.Option("--whole", help="Of all that `lakehouse up` runs, and of itself; half a minute a round.")
    ] = False,
) -> None:
    """Kills and a failing network, round after round: events lost and counted twice."""
    from lakehouse.chaos import faults, whole_lakehouse

    harness = whole_lakehouse if whole else faults
    _print(harness.measure(rounds, seed if seed is not None else int(time.time())))


def _print(figures: "Iterable[Figure]") -> None:
    for figure in figures:
        print_json(figure)
