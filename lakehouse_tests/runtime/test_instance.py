"""The Dagster instance of a lakehouse: its dagster.yaml, limits and environment."""

import os
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import yaml
from dagster import DagsterInstance, DagsterRunStatus, asset, materialize

from lakehouse.runtime.event_log import PooledSqliteEventLogStorage
from lakehouse.runtime.instance import LANE_TAG, dagster_home, environment, lane_tags, open_instance
from lakehouse.runtime.run_launcher import ForkingRunLauncher
from lakehouse.settings import Settings


@pytest.fixture
def own(tmp_path: Path) -> Settings:
    return Settings(home=tmp_path / "lake")


@pytest.fixture
def opened(own: Settings) -> Iterator[DagsterInstance]:
    with open_instance(own) as opened:
        yield opened


def test_dagster_yaml_is_written_once_and_restored_after_changes(own: Settings) -> None:
    home = dagster_home(own)
    file = home / "dagster.yaml"
    first = file.stat()
    text = file.read_text()

    assert dagster_home(own) == home == own.root / "dagster"
    assert file.stat().st_ino == first.st_ino
    assert yaml.safe_load(text)["telemetry"] == {"enabled": False}

    file.write_text("telemetry: {enabled: true}\n")
    dagster_home(own)
    assert file.read_text() == text
    assert sorted(path.name for path in home.iterdir()) == ["dagster.yaml"]


OLD_DAGSTER_YAML = """# Written by lakehouse; changes are lost.
event_log_storage:
  module: lakehouse.automation.history
  class: EventHistory
  config: {base_dir: BASE}
run_launcher:
  module: lakehouse.automation.launcher
  class: WarmRunLauncher
  config: {state: STATE}
"""


def test_classes_of_an_earlier_release_are_rewritten_at_start(own: Settings) -> None:
    file = own.root / "dagster" / "dagster.yaml"
    file.parent.mkdir(parents=True)
    file.write_text(OLD_DAGSTER_YAML)
    with open_instance(own) as instance:
        assert type(instance.event_log_storage) is PooledSqliteEventLogStorage
        assert type(instance.run_launcher) is ForkingRunLauncher
    assert "lakehouse.automation" not in file.read_text()


def test_opening_leaves_environment_unchanged(own: Settings) -> None:
    before = dict(os.environ)
    with open_instance(own):
        pass
    environment(own)
    assert dict(os.environ) == before


def test_instance_queues_monitors_and_retries_runs(opened: DagsterInstance) -> None:
    queue = opened.get_concurrency_config().run_queue_config
    assert queue is not None
    assert queue.max_concurrent_runs == 3
    assert {limit["key"]: limit["limit"] for limit in queue.tag_concurrency_limits} == {
        LANE_TAG: 1,
        "dagster/backfill": 2,
    }
    assert opened.get_concurrency_config().pool_config.default_pool_limit is None
    assert opened.run_monitoring_enabled
    assert opened.run_retries_enabled
    assert not opened.telemetry_enabled


def test_lane_tags_name_one_job_and_stream() -> None:
    assert lane_tags("realtime", "iot") == {"lakehouse/stream": "iot", "lakehouse/lane": "realtime.iot"}
    assert len({lane_tags(job, stream)[LANE_TAG] for job in ("realtime", "batch") for stream in ("iot", "retail")}) == 4


def test_run_writes_under_the_home_only(own: Settings) -> None:
    @asset
    def spoken() -> None:
        print("said in the run")

    with open_instance(own) as opened:
        result = materialize([spoken], instance=opened)
        run = opened.get_run_by_id(result.run_id)
    assert run is not None
    assert run.status == DagsterRunStatus.SUCCESS
    logs = [path for path in (own.root / "dagster" / "logs").rglob("*.out") if result.run_id in str(path)]
    assert [path.read_text() for path in logs] == ["said in the run\n"]


def test_child_process_opens_the_same_instance(own: Settings) -> None:
    program = textwrap.dedent("""
        from dagster import DagsterInstance
        with DagsterInstance.get() as instance:
            print(instance.root_directory)
    """)
    out = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, **environment(own)},
        cwd=own.root.parent,
        check=True,
        capture_output=True,
        text=True,
    )
    assert out.stdout.strip() == str(own.root / "dagster")
    assert environment(own)["LAKEHOUSE_HOME"] == str(own.root)


def test_new_instance_may_be_opened_by_several_at_once(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path)

    def count_runs(_: int) -> int:
        with open_instance(settings) as instance:
            return instance.get_runs_count()

    with ThreadPoolExecutor(6) as pool:
        assert [*pool.map(count_runs, range(6))] == [0] * 6
