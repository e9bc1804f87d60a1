"""Each benchmark runs at a tiny size, checks its result, and yields its figures."""

import json
import os
import signal
from collections.abc import Iterator
from contextlib import nullcontext
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace

import dagster as dg
import duckdb
import pytest
from typer.testing import CliRunner

from lakehouse.bench import backfill, day, features, load, lookups, maintenance, query, scale, spark, tick
from lakehouse.bench.figures import Figure
from lakehouse.bench.pollution import pollute, source_table
from lakehouse.bench.run_history import Template, write_history
from lakehouse.cli import bench as commands
from lakehouse.cli.app import app
from lakehouse.pipeline import cleaning, cut_days
from lakehouse.runtime.instance import open_instance
from lakehouse.runtime.pruning import prune
from lakehouse.serving.query.named_queries import read_queries
from lakehouse.settings import Settings
from lakehouse_tests.forked import CONTEXT


def _by_name(figures: list[Figure]) -> dict[str, Figure]:
    return {figure["figure"]: figure for figure in figures}


def test_generated_file_has_the_expected_ledger(tmp_path: Path) -> None:
    file = load.generate(tmp_path / "made.csv", 60_000, date(2024, 1, 1), 10)
    with duckdb.connect() as database:
        counts = database.execute(
            f"""with lines as (
              from read_csv('{file.path}', all_varchar = true)
            )
            select
              (select count(*) from lines),
              (select count(*) from (select distinct * from lines where not starts_with("UnitPrice", '-'))),
              (select count(*) from lines where starts_with("UnitPrice", '-')),
              (select count(distinct "InvoiceDate"[:10]) from lines)"""
        ).fetchone()
    ledger = file.expected
    assert counts == (60_000, ledger.silver, ledger.quarantined, 10)
    assert ledger.conserved
    assert min(ledger.silver, ledger.quarantined, ledger.duplicates) > 0


def test_spark_compares_layers(sail: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spark, "sail", lambda: nullcontext(sail))  # two servers would share a client
    monkeypatch.setattr(spark, "LARGE_DAY_ROWS", 40_000)
    monkeypatch.setattr(cleaning, "MAX_ROWS_IN_MEMORY", 20_000)
    monkeypatch.setattr(cut_days, "PIECE_ROWS", 20_000)
    figures = _by_name(list(spark.measure(20_000, rounds=1)))
    layers = ("bronze", "silver", "silver of a large day")
    by_engine = {f"{layer} by {engine}" for layer in layers for engine in ("duckdb", "spark")}
    assert {*figures} == by_engine | {"bronze ratio", "silver ratio", "pieces ratio"}
    assert all(figure["value"] > 0 for figure in figures.values())


def test_scale_measures_a_lake_of_two_streams() -> None:
    figures = _by_name(list(scale.measure(2, 3)))
    assert figures["data files in metadata"]["value"] == 9
    assert all(figure["value"] > 0 for figure in figures.values())


def test_pollock_scores_files_of_its_folder(tmp_path: Path) -> None:
    source = next(pollute(source_table(3)))
    header, *rows = source.content.decode().splitlines(keepends=True)
    told = {"delimiter": ",", "quotechar": '"', "escapechar": '"', "header_lines": 2, "preamble_lines": 1}
    told["column_names"] = [f"{name} {name}" for name in source.header]
    contents = {
        "csv/file.csv": "PREAMBLE\r\n" + header * 2 + "".join(rows),
        "clean/file.csv": header + "".join(rows),
        "parameters/file.csv_parameters.json": json.dumps(told),
    }
    for name, content in contents.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(content.encode())
    result = CliRunner().invoke(app, ["bench", "pollock", str(tmp_path)])
    assert result.exit_code == 0, result.output
    figures = _by_name([json.loads(line) for line in result.stdout.splitlines()])
    scores = {name: (figure["value"], figure["wrong_rows"]) for name, figure in figures.items()}
    assert scores["lakehouse, told the dialect"] == scores["duckdb, told the dialect"] == (10, 0)
    assert scores["lakehouse, as they come"] == (1, 0)


def test_load_reports_ratio_and_memory() -> None:
    result = CliRunner().invoke(app, ["bench", "load", "--rows", "20000"])
    assert result.exit_code == 0, result.output
    figures = _by_name([json.loads(line) for line in result.stdout.splitlines()])
    assert {figure["bench"] for figure in figures.values()} == {"load"}
    assert list(figures) == [
        "duckdb alone",
        "upload",
        "bronze",
        "silver",
        "ratio",
        "ratio with upload",
        "silver rows",
        "peak memory",
        "pandas",
    ]
    assert figures["silver rows"]["value"] == figures["silver rows"]["reach"]
    assert all(figure["value"] > 0 for figure in figures.values())


def test_backfill_compares_a_year_with_one_day() -> None:
    figures = _by_name(list(backfill.measure(20_000, rounds=1)))
    assert list(figures) == ["365 partitions", "one partition", "ratio"]
    assert figures["ratio"]["value"] == pytest.approx(
        figures["365 partitions"]["value"] / figures["one partition"]["value"], rel=0.05
    )


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Use few events in one object, and a history of few commits."""
    for name, value in {"EVENTS": 50, "OBJECTS": 1, "KEPT_SNAPSHOTS": 2, "COMMITS_OF_A_YEAR": 1}.items():
        monkeypatch.setattr(tick, name, value)


def test_tick_reports_both_lakes(small: None) -> None:
    figures = _by_name(list(tick.measure(ticks=1, cold_ticks=1, hours=1, days=1, streams=["iot", "logs"])))
    assert list(figures) == [
        "history made in",
        "warm, empty lake",
        "warm, a year of history",
        "warm ratio",
        "cold, empty lake",
        "cold, a year of history",
        "cold ratio",
    ]
    assert all(figure["value"] > 0 for figure in figures.values())


def test_maintenance_leaves_few_files(small: None) -> None:
    figures = _by_name(list(maintenance.measure(hours=2, days=3, queries=1)))
    for name in ("realtime.financial", "bronze.financial"):
        files = figures[f"{name} files"]
        assert files["value"] < files["before"] / 4
        assert figures[f"{name} query"]["value"] > 0


def test_copied_run_history_is_pruned(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path / "home")
    hour = "2024-01-01-10:00"

    @dg.asset(partitions_def=dg.HourlyPartitionsDefinition("2024-01-01-00:00"))
    def fresh() -> None:
        pass

    with open_instance(settings) as history:
        run = dg.materialize([fresh], partition_key=hour, instance=history).run_id
    copies = write_history(settings, [Template("realtime", run, hour)], days=2, full_days=1)
    assert copies.runs == 2 * 288
    with open_instance(settings) as history:
        assert history.get_runs_count() == 1 + 2 * 288
        assert len(history.get_materialized_partitions(fresh.key)) >= 48
        newest = history.get_runs(limit=1, filters=dg.RunsFilter(statuses=[dg.DagsterRunStatus.SUCCESS]))
        assert newest
        assert prune(history, settings, now=datetime.now(UTC) + timedelta(days=7)).runs > 250


def test_lookups_are_compressed_and_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lookups, "ROWS", 100)
    size, written, found = lookups.measure(entities=2000, kinds=["financial"])
    assert 0 < size["bytes_per_entity"] < size["json_bytes_per_entity"] / 10
    assert min(written["value"], found["value"], found["json_p99_us"]) > 0


def test_query_reports_every_query_and_look_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(query, "BODIES", 1)
    monkeypatch.setattr(query, "EVENTS", 200)
    monkeypatch.setattr(query, "multiprocessing", SimpleNamespace(get_context=lambda _: CONTEXT))
    for workers in ("HTTP", "QUERY"):
        monkeypatch.setenv(f"LAKEHOUSE_{workers}_WORKERS", "1")
    figures = _by_name(list(query.measure(seconds=0.05, rows=100, entities=1000, rate=1000, days=2)))
    asked = [*read_queries(), "one of 1,000 entities", "one customer"]
    for name in asked:
        assert figures[f"{name}, 1 client, p99"]["requests_per_second"] > 0
        assert figures[f"{name}, 16 clients, p99"]["value"] > 0
    assert figures["events that arrived meanwhile"]["value"] > 0


def test_day_counts_puts_and_reads_small_objects(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(day, "RATES", (20,))
    ingest = _by_name(list(day.measure_ingest(0.3, ["logs"])))
    assert ingest["PUTs at 20 events/s"]["value"] > 0
    assert ingest["p99 at 20 events/s"]["failed"] == 0
    bronze = _by_name(list(day.measure_bronze(1000, ["logs"])))
    counted = {name: (figure["objects"], figure["rows"]) for name, figure in bronze.items() if "objects" in figure}
    assert counted == {
        "bronze of large objects": (1, 1000),
        "bronze of shared objects": (100, 1000),
        "bronze of small objects": (100, 1000),
        "bronze of small objects at 02:00": (100, 1000),
    }
    for name in ("bronze of shared objects / of large ones", "that / of large ones"):
        assert bronze[name]["reach"] == day.MAX_BRONZE_RATIO


def test_sigterm_stops_what_a_benchmark_has_started() -> None:
    steps: list[str] = []

    def figures() -> Iterator[Figure]:
        try:
            os.kill(os.getpid(), signal.SIGTERM)
            yield {}
        finally:
            steps.append("stopped")

    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(SystemExit, match="143"):
        commands._print(figures())
    assert (steps, signal.getsignal(signal.SIGTERM)) == (["stopped"], before)


def test_features_are_measured_beside_an_asof_join(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(features, "SLOT", timedelta(days=1))  # fewer objects land
    monkeypatch.setattr(features, "ASKED_DAYS", 2)
    figures = _by_name(list(features.measure(2_000, 8_000, seconds=0.5)))
    assert {name.partition(",")[0] for name in figures} >= {"2", "one entity now", "100 entities at a time"}
    counterpart = figures["the same by an ASOF join over the daily features"]
    assert 0 < counterpart["differing_share"] < 1
    assert all(figure["value"] > 0 for figure in figures.values())
