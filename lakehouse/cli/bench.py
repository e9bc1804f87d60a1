"""`bench`: the benchmarks, one JSON line a figure as soon as it is measured. See `lakehouse.bench` for each."""

import signal
import time
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from lakehouse.cli.options import parse_duration
from lakehouse.cli.printing import print_json

if TYPE_CHECKING:
    from lakehouse.bench.figures import Figure

bench = typer.Typer(no_args_is_help=True, add_completion=False)


@bench.command("load")
def bench_load(
    rows: Annotated[
        int, typer.Option(min=1000, help="Lines of the generated file, about 100 bytes each.")
    ] = 16_000_000,
    keep: Annotated[Path | None, typer.Option(help="Keep the file and the lake, in this empty folder.")] = None,
) -> None:
    """Load a large file through bronze and silver, beside DuckDB alone and pandas."""
    from lakehouse.bench import load

    _print(load.measure(rows, folder=keep))


@bench.command("tick")
def bench_tick() -> None:
    """Materialize five minutes of all streams in realtime, on an empty lake and on one with a year of history."""
    from lakehouse.bench import tick

    _print(tick.measure())


@bench.command("backfill")
def bench_backfill(
    rows: Annotated[int, typer.Option(min=1000, help="Rows of the year.")] = 4_000_000,
) -> None:
    """Backfill a year of one stream in one run, beside the same rows as one partition."""
    from lakehouse.bench import backfill

    _print(backfill.measure(rows))


@bench.command("anomalies")
def bench_anomalies(
    labelled: Annotated[
        Path | None,
        typer.Argument(
            exists=True,
            file_okay=False,
            help="Labelled series in NAB's layout: data/**/*.csv, labels/combined_windows.json.",
        ),
    ] = None,
    series: Annotated[int, typer.Option(min=1, help="Generated series, without a folder.")] = 60,
    seed: Annotated[int, typer.Option(help="The seed of the generated series.")] = 1,
) -> None:
    """Find planted anomalies of ten kinds, or labelled ones, beside a z-score and range limits: NAB score, recall, speed."""
    from lakehouse.bench import anomalies

    _print(anomalies.measure(labelled, series=series, seed=seed))


@bench.command("features")
def bench_features(
    requests: Annotated[int, typer.Option(min=1, help="Entities with times.")] = 10_000_000,
    rows: Annotated[int, typer.Option(min=5000, help="Rows of the lake, over 40 days.")] = 1_000_000,
    length: Annotated[float, typer.Option("--seconds", min=0.5, help="Seconds of each figure over HTTP.")] = 4.0,
) -> None:
    """Add features to entities with times, as they were known then, beside DuckDB's ASOF join; and one over HTTP."""
    from lakehouse.bench import features

    _print(features.measure(requests, rows, length))


@bench.command("spark")
def bench_spark(
    rows: Annotated[int, typer.Option(min=1000, help="Rows to compute.")] = 2_000_000,
) -> None:
    """Compute bronze and silver on Spark's workers, beside the same rows in this process. Needs pysail."""
    from lakehouse.bench import spark

    _print(spark.measure(rows))


@bench.command("scale")
def bench_scale(
    streams: Annotated[int, typer.Option(min=2, help="Streams of the lake.")] = 100,
    days: Annotated[int, typer.Option(min=2, help="Days of each.")] = 3653,
) -> None:
    """Plan, commit, audit and show a stream of a lake with a million data files in its metadata. Takes ten minutes."""
    from lakehouse.bench import scale

    _print(scale.measure(streams, days))


@bench.command("compile")
def bench_compile() -> None:
    """Load the definitions of 500 models, beside those of 50 and of none."""
    from lakehouse.bench import compile_models

    _print(compile_models.measure())


@bench.command("launcher")
def bench_launcher(runs: Annotated[int, typer.Option(min=1, help="Runs of each launcher.")] = 10) -> None:
    """Time a run from request to first step, forked and by Dagster's default launcher."""
    from lakehouse.bench import launcher

    _print(launcher.measure(runs))


@bench.command("ingest")
def bench_ingest(
    duration: Annotated[
        str, typer.Option(help="Time of each figure; 10s when not given, 30s with --kill, 10m with --memory.")
    ] = "",
    kill: Annotated[
        bool, typer.Option("--kill", help="Kill processes with SIGKILL under load and count lost events.")
    ] = False,
    memory: Annotated[bool, typer.Option("--memory", help="Check that memory does not grow.")] = False,
    seed: Annotated[int, typer.Option(help="The same seed gives the same kills.")] = 1,
) -> None:
    """Ingest events durably over HTTP, beside FastAPI that appends them to a local file."""
    from lakehouse.bench import ingest
    from lakehouse.chaos import kill_ingest

    length = parse_duration(duration or ("30s" if kill else "10m" if memory else "10s"))
    if length is None or (kill and memory):
        raise typer.BadParameter("give --duration a finite length, and at most one of --kill and --memory")
    if kill:
        _print(kill_ingest.measure(length, seed))
    elif memory:
        _print(ingest.memory(length))
    else:
        _print(ingest.measure(length))


@bench.command("day")
def bench_day(
    length: Annotated[float, typer.Option("--seconds", min=1, help="Seconds of each rate.")] = 30.0,
    events: Annotated[int, typer.Option(min=7000, help="Events of the day that bronze ingests.")] = 2_400_000,
) -> None:
    """Count PUTs and time POSTs at 1 to 1,000 events a second of all streams, and time bronze of a day in small objects."""
    from lakehouse.bench import day

    _print(day.measure(length, events))


@bench.command("freshness")
def bench_freshness(
    length: Annotated[float, typer.Option("--seconds", min=1, help="Seconds to send events for.")] = 30.0,
    rate: Annotated[int, typer.Option(min=1000, help="Events a second.")] = 10_000,
) -> None:
    """Time an event from its POST until SQL over HTTP returns it, while others arrive."""
    from lakehouse.bench import freshness

    _print(freshness.measure(length, rate))


@bench.command("long-run")
def bench_long_run(
    minutes: Annotated[float, typer.Option(min=0.01, help="Minutes to run.")] = 60.0,
    rate: Annotated[float, typer.Option(min=0.1, help="Events a second, over all streams.")] = 300.0,
) -> None:
    """Run a whole lakehouse under load; print every process's memory and its growth. Exit with 1 if one grows too much."""
    from lakehouse.bench import long_run

    _print(long_run.measure(minutes, rate))


@bench.command("query")
def bench_query(
    length: Annotated[float, typer.Option("--seconds", min=0.5, help="Seconds of each figure.")] = 4.0,
    rows: Annotated[int, typer.Option(min=1000, help="Rows of each stream, over a week.")] = 200_000,
    entities: Annotated[int, typer.Option(min=1, help="Devices in the look-up.")] = 1_000_000,
    rate: Annotated[int, typer.Option(min=1000, help="Events a second that arrive during queries.")] = 10_000,
) -> None:
    """Run named queries and look-ups over HTTP while events arrive, beside the same SQL straight in DuckDB."""
    from lakehouse.bench import query

    _print(query.measure(length, rows, entities, rate))


@bench.command("live")
def bench_live(
    length: Annotated[float, typer.Option("--seconds", min=0.5, help="Seconds of each figure.")] = 8.0,
    rows: Annotated[int, typer.Option(min=1000, help="Rows of each stream, over a week.")] = 200_000,
    rate: Annotated[int, typer.Option(min=1000, help="Events a second that arrive meanwhile.")] = 10_000,
) -> None:
    """Query today's numbers over HTTP while events arrive, beside the same SQL by hand over the unified view."""
    from lakehouse.bench import live

    _print(live.measure(length, rows, rate))


@bench.command("lookups")
def bench_lookups(
    entities: Annotated[int, typer.Option(min=1000, help="Entities of each look-up.")] = 2_000_000,
) -> None:
    """Measure the local copies of look-ups, beside plain JSON: bytes at 100 M entities, seconds, look-ups."""
    from lakehouse.bench import lookups

    _print(lookups.measure(entities))


@bench.command("maintenance")
def bench_maintenance() -> None:
    """Maintain a week of 5-minute files and a month of small ones: files, bytes and a query before and after."""
    from lakehouse.bench import maintenance

    _print(maintenance.measure())


@bench.command("year")
def bench_year(
    days: Annotated[int, typer.Option(min=1, help="Days of 5- and 10-minute runs to write.")] = 365,
) -> None:
    """Time pages, sensors and a tick over a year of runs in Dagster's history, before and after pruning."""
    from lakehouse.bench import year

    _print(year.measure(days))


@bench.command("pollock")
def bench_pollock(
    folder: Annotated[
        Path | None,
        typer.Argument(
            help="The folder of Pollock's files, with csv, clean and parameters; files like them when not given.",
            exists=True,
            file_okay=False,
        ),
    ] = None,
) -> None:
    """Read 2,290 CSV files with the defects of the Pollock benchmark, beside DuckDB: score and rows wrong without a word."""
    from lakehouse.bench import pollock

    _print(pollock.measure(folder))


@bench.command("faults")
def bench_faults(
    rounds: Annotated[int, typer.Option(min=1, help="Rounds; each draws its own faults and kills.")] = 15,
    seed: Annotated[
        int | None,
        typer.Option(help="Seed of the first round; each next round adds one. Taken from the clock when not given."),
    ] = None,
    whole: Annotated[
        bool,
        typer.Option(
            "--whole",
            help="Kill every process of `lakehouse up`, itself included, then cut the power of a disk; a minute a round.",
        ),
    ] = False,
) -> None:
    """Count events lost or counted twice under kills and a failing network, round after round."""
    from lakehouse.chaos import faults, power_cut, whole_lakehouse

    first = seed if seed is not None else int(time.time())
    if not whole:
        _print(faults.measure(rounds, first))
        return
    _print(whole_lakehouse.measure(rounds, first))
    _print(power_cut.measure(rounds, first))


def _print(figures: "Iterable[Figure]") -> None:
    """Print each figure. SIGTERM ends a benchmark as Ctrl+C does, so that it stops the processes that it has started."""
    before = signal.signal(signal.SIGTERM, _stop)
    try:
        for figure in figures:
            print_json(figure)
    finally:
        signal.signal(signal.SIGTERM, before)


def _stop(number: int, _: object) -> NoReturn:
    raise SystemExit(128 + number)
