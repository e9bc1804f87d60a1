"""A home that the release before the canonical definitions wrote opens, audits clean and computes nothing again.

The home is made by the release's own code, from the repository's history.
"""

import os
import re
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Iterator, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from lakehouse.assets import resources
from lakehouse.assets.resources import LakeResource
from lakehouse.auditing.audit import audit
from lakehouse.automation.build import build_definitions
from lakehouse.automation.sensors import incoming_files, late_data
from lakehouse.contracts.streams import Stream, discover
from lakehouse.pipeline.lake import Lake
from lakehouse.pipeline.lineage.properties import computed_from, defined_since
from lakehouse.pipeline.lineage.realtime_coverage import uncovered_hours
from lakehouse.pipeline.lineage.staleness import last_changes
from lakehouse.pipeline.refresh import days_to_refresh, pending_files
from lakehouse.pipeline.table_specs import anomaly_tables
from lakehouse.runtime.instance import open_instance
from lakehouse.settings import Settings
from lakehouse.storage.embedded import lifecycle as storage
from lakehouse_tests.contracts.earlier_definitions import RELEASE, REPOSITORY, has_release
from lakehouse_tests.nightly import more_at_night

pytestmark = pytest.mark.skipif(
    not has_release(), reason=f"{RELEASE} is not in this clone's history; `git fetch --unshallow` brings it"
)

OWN = "payments"
"""A stream of the user's own, whose earlier numbers no table of the package holds."""

STREAMS = set(discover())

SHIPPED = more_at_night({"orders", "retail", "iot"}, STREAMS)
"""Shipped streams that the release runs. `contracts/test_definition.py` compares the numbers of all of them."""

HISTORY_MODULE = "lakehouse.automation.history"
"""Where the release's `dagster.yaml` says that Dagster's history is."""


@pytest.fixture(scope="module")
def old_settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """A home that the release's `demo` made, of shipped streams and one more."""
    folder = tmp_path_factory.mktemp("upgrade")
    code, home, streams = folder / "release", folder / "home", folder / "streams"
    archive = subprocess.run(["git", "-C", str(REPOSITORY), "archive", RELEASE], capture_output=True, check=True).stdout
    with tarfile.open(fileobj=BytesIO(archive)) as files:
        files.extractall(code, filter="data")
    _copy_stream(code / "lakehouse/streams/financial", streams / OWN)
    for name in STREAMS - SHIPPED:
        shutil.rmtree(code / "lakehouse/streams" / name)
    settings = Settings(home=home, streams=(streams,))
    variables = {"PYTHONPATH": str(code), "LAKEHOUSE_HOME": str(home), "LAKEHOUSE_STREAMS": f'["{streams}"]'}
    command = [sys.executable, "-m", "lakehouse", "demo", "--events", "100"]
    subprocess.run(command, cwd=code, env=os.environ | variables, capture_output=True, check=True, timeout=300)
    assert HISTORY_MODULE in (home / "dagster" / "dagster.yaml").read_text()
    return settings


@pytest.fixture(scope="module")
def lake(old_settings: Settings) -> Iterator[Lake]:
    """The home, opened by today's code."""
    with storage.running(old_settings) as connection:
        lake = Lake(old_settings, connection)
        lake.streams = {name: stream for name, stream in lake.streams.items() if name in SHIPPED | {OWN}}
        yield lake
        lake.engine.close()


def _copy_stream(source: Path, folder: Path) -> None:
    shutil.copytree(source, folder)
    contract = folder / "contract.odcs.yaml"
    renamed = re.sub(rf"^( *- |)name: {source.name}$", rf"\g<1>name: {OWN}", contract.read_text(), flags=re.MULTILINE)
    contract.write_text(renamed)


def _snapshots(lake: Lake) -> dict[str, int | None]:
    return {name: lake.tables.load(name).metadata.current_snapshot_id for name in lake.tables.names()}


def _sensor_requests(lake: Lake, sensor: dg.SensorDefinition) -> Sequence[Any]:
    with open_instance(lake.settings) as instance:
        context = dg.build_sensor_context(instance, resources={"lake": LakeResource()})
        results: Any = sensor(context)
        return [result for result in results if isinstance(result, dg.RunRequest)]


def test_nothing_is_computed_again(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resources, "_lake", lambda: lake)
    before = _snapshots(lake)
    assert len(before) == 7 * len(lake.streams) + 1
    assert all(snapshot is not None for name, snapshot in before.items() if not name.startswith("quarantine"))
    changes = {f"{layer}.{name}: added _file" for layer in ("bronze", "quarantine") for name in lake.streams}
    created = {f"{table}: created" for stream in lake.streams.values() for table in anomaly_tables(stream)}
    assert {*lake.bootstrap()} == changes | created, "tables gain the name of a row's file"
    assert lake.bootstrap() == []
    for stream in lake.streams.values():
        assert days_to_refresh(lake, stream) == []
        assert pending_files(lake, stream) == []
    assert _sensor_requests(lake, late_data) == []
    assert _sensor_requests(lake, incoming_files) == []
    empty = {table: None for stream in lake.streams.values() for table in anomaly_tables(stream)}
    assert _snapshots(lake) == before | empty


def test_audit_is_clean(lake: Lake) -> None:
    report = audit(lake)
    assert report.findings == []
    assert sum(report.rows.values()) > 100 * len(lake.streams)


def test_unified_view_still_skips_covered_hours(lake: Lake) -> None:
    for name, stream in lake.streams.items():
        realtime, bronze, silver = (lake.tables.load(f"{layer}.{name}") for layer in ("realtime", "bronze", "silver"))
        number = realtime.properties["lakehouse.defined"]
        assert number != str(stream.definition.number), "the release stored another number"
        assert defined_since(realtime, stream.definition) == ""
        assert uncovered_hours(stream, realtime, bronze, silver) == []


@pytest.mark.parametrize(
    ("table", "query"),
    [
        ("silver.{}", "silver"),
        ("quarantine.{}", "silver"),
        ("gold.{}_daily", "gold"),
        ("serving.{}_features", "features"),
        ("serving.{}_alerts", "alerts"),
    ],
)
def test_days_count_as_computed_by_todays_definition(lake: Lake, table: str, query: Any) -> None:
    for name, stream in lake.streams.items():
        definition = stream.definition_of(query)
        days = last_changes(lake.tables.load(f"silver.{name}"))
        numbers = computed_from(lake.tables.load(table.format(name)), definition.source, days)
        assert numbers.keys() == days.keys()
        assert definition.number not in numbers.values(), "the release stored another number"
        assert all(map(definition.matches, numbers.values()))


def test_edited_sql_counts_as_another_definition(lake: Lake, tmp_path: Path) -> None:
    stream, silver_table = lake.streams[OWN], lake.tables.load(f"silver.{OWN}")
    numbers = computed_from(silver_table, stream.definition.source, last_changes(silver_table)).values()
    shutil.copytree(stream.folder, tmp_path / OWN)
    silver = tmp_path / OWN / "silver.sql"
    silver.write_text(silver.read_text().replace("5000", "6000"))
    edited = Stream(OWN, tmp_path / OWN, stream.contract)
    assert all(map(stream.definition.matches, numbers))
    assert not any(map(edited.definition.matches, numbers))


def test_dagster_sees_the_code_versions_it_knows(lake: Lake) -> None:
    versions = {
        spec.key: spec.code_version
        for spec in build_definitions(lake.settings).resolve_all_asset_specs()
        if spec.code_version and spec.group_name != OWN
    }
    with open_instance(lake.settings) as instance:
        noted = {key: version for key in versions if (version := _materialized_version(instance, key))}
    # Dagster notes none for a run of several partitions.
    assert {key.path[0] for key in noted} >= {"realtime"}
    assert noted == {key: versions[key] for key in noted}


def _materialized_version(instance: dg.DagsterInstance, key: dg.AssetKey) -> str | None:
    event = instance.get_latest_materialization_event(key)
    materialization = event.asset_materialization if event else None
    return (materialization.tags or {}).get("dagster/code_version") if materialization else None


def test_dagster_configuration_names_todays_modules(lake: Lake) -> None:
    with open_instance(lake.settings) as instance:
        assert instance.get_runs_count() == 3, "the release's runs are in the history"
    assert HISTORY_MODULE not in (lake.settings.root / "dagster" / "dagster.yaml").read_text()
