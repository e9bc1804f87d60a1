"""Pruning keeps Dagster's history small, and keeps the latest state of each partition."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import dagster as dg
import pytest

from lakehouse.runtime.instance import open_instance
from lakehouse.runtime.pruning import prune
from lakehouse.settings import Settings

DAYS = dg.DailyPartitionsDefinition("2024-01-01", end_date="2024-01-10")
HOURS = dg.HourlyPartitionsDefinition("2024-01-01-00:00", end_date="2024-01-02-00:00")
ATTEMPT = "attempt"


@dg.asset(partitions_def=DAYS, check_specs=[dg.AssetCheckSpec("good", asset="daily")])
def daily(context: dg.AssetExecutionContext) -> Iterator[dg.MaterializeResult[None]]:
    print("said in the run")
    if context.run.tags.get(ATTEMPT) == "failing":
        raise ValueError("it fails")
    result = dg.AssetCheckResult(passed=True)
    yield dg.MaterializeResult(metadata={"rows": 1}, tags={"by": "test"}, check_results=[result])


@dg.asset(partitions_def=HOURS)
def hourly() -> None:
    print("said in the run")


@dg.asset
def plain() -> None:
    print("said in the run")


@pytest.fixture(params=["sqlite", "postgres"])
def settings(request: pytest.FixtureRequest, tmp_path: Path) -> Settings:
    """A home with its history in SQLite, and one with its history in PostgreSQL."""
    more = {"dagster_postgres_url": request.getfixturevalue("postgres")} if request.param == "postgres" else {}
    return Settings(home=tmp_path / "home", **more)


def _run(history: dg.DagsterInstance, asset: dg.AssetsDefinition, partition: str | None = None, **tags: str) -> str:
    done = dg.materialize([asset], partition_key=partition, tags=tags, instance=history, raise_on_error=False)
    return done.run_id


def _materialized(history: dg.DagsterInstance, name: str) -> set[str]:
    return set(history.get_materialized_partitions(dg.AssetKey(name)))


def test_old_runs_are_pruned_and_partition_state_stays(settings: Settings) -> None:
    with open_instance(settings) as history:
        if settings.dagster_postgres_url is not None:
            assert type(history.event_log_storage).__name__ == "PostgresEventLogStorage"
        superseded = _run(history, daily, "2024-01-01")
        runs = [
            superseded,
            _run(history, daily, "2024-01-01"),
            _run(history, daily, "2024-01-02"),
            _run(history, hourly, "2024-01-01-03:00"),
            _run(history, plain),
            _run(history, plain),
        ]
        failed = _run(history, daily, "2024-01-03", attempt="failing")

        assert prune(history, settings).runs == 0, "nothing is old yet"
        soon = datetime.now(UTC) + timedelta(days=8)
        assert prune(history, settings, now=soon, dry_run=True).runs == 6
        assert history.get_runs_count() == 7

        done = prune(history, settings, now=soon)
        assert (done.runs, done.logs) == (6, 6)
        assert [run.run_id for run in history.get_runs()] == [failed], "failed runs are kept longer"
        assert _materialized(history, "daily") == {"2024-01-01", "2024-01-02"}
        assert _materialized(history, "hourly") == set(), "realtime has let go of that hour, too"
        assert history.get_latest_materialization_event(dg.AssetKey("plain")) is not None
        left = [len(history.all_logs(run)) for run in runs]
        assert left == [0, 1, 1, 0, 0, 1]
        key = dg.AssetCheckKey(dg.AssetKey("daily"), "good")
        checked = history.event_log_storage.get_latest_asset_check_execution_by_key([key])
        assert key in checked
        folder = settings.root / "dagster" / "logs"
        assert {path.name for path in folder.iterdir() if path.name in {*runs, failed}} == {failed}

        assert prune(history, settings, now=soon).runs == 0, "once is enough"
        assert prune(history, settings, now=soon + timedelta(days=30)).runs == 1
        assert history.get_runs_count() == 0


def test_active_run_is_not_pruned(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path / "home")
    job = dg.define_asset_job("job", [plain]).resolve(asset_graph=dg.Definitions([plain]).resolve_asset_graph())
    with open_instance(settings) as history:
        history.report_run_canceling(history.create_run_for_job(job))
        assert prune(history, settings, now=datetime.now(UTC) + timedelta(days=400)).runs == 0
        assert history.get_runs_count() == 1
