"""Dagster shows the age of landed objects, how many are pending, and the hours in which some arrived."""

import json
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import dagster as dg
import pytest

from lakehouse.assets import resources
from lakehouse.assets.graph import build_assets
from lakehouse.assets.resources import LakeResource
from lakehouse.automation import landing_lag as landing
from lakehouse.automation.landing_lag import landing_lag
from lakehouse.sources.kinesis import status
from lakehouse.sources.kinesis.status import StreamStatus
from lakehouse_tests.pipeline.own import Own, make_stream, payment, shared_lake

__all__ = ["make_stream", "shared_lake"]  # fixtures

Evaluate = Callable[[], tuple[dict[str, float] | None, list[str]]]


@pytest.fixture
def own(make_stream: Callable[..., Own], monkeypatch: pytest.MonkeyPatch) -> Own:
    own = make_stream()
    monkeypatch.setattr(resources, "_lake", lambda: own.lake)
    monkeypatch.setattr(landing, "get_settings", lambda: own.lake.settings)
    return own


@pytest.fixture
def evaluate(own: Own) -> Iterator[Evaluate]:
    """Evaluate the sensor once. Return the numbers it observed, or None, and the hours it materialized."""
    cursor: str | None = None
    with dg.DagsterInstance.ephemeral() as instance:

        def evaluate() -> tuple[dict[str, float] | None, list[str]]:
            nonlocal cursor
            context = dg.build_sensor_context(instance, cursor, resources={"lake": LakeResource()})
            result: Any = landing_lag(context)
            assert all(event.asset_key.path == ["landing", own.name] for event in result.asset_events)
            cursor = result.cursor
            observed = [event for event in result.asset_events if isinstance(event, dg.AssetObservation)]
            materialized = [event for event in result.asset_events if isinstance(event, dg.AssetMaterialization)]
            numbers: Any = {name: value.value for name, value in observed[0].metadata.items()} if observed else None
            return numbers, [str(event.partition) for event in materialized]

        yield evaluate


def _land(own: Own, name: str, at: datetime | None = None) -> str:
    own.land([payment(name, at or datetime.now(UTC))], at or datetime.now(UTC))
    return f"{at or datetime.now(UTC):%Y-%m-%d-%H}:00"


def test_pending_stream_is_observed_and_idle_stream_once(own: Own, evaluate: Evaluate) -> None:
    assert evaluate() == ({"objects_waiting": 0, "files_waiting": 0, "bytes_waiting": 0, "seconds_waiting": 0.0}, [])
    assert evaluate() == (None, [])

    early = datetime.now(UTC) - timedelta(minutes=20)
    hours = sorted({_land(own, "a", early), _land(own, "b")})
    numbers, landed = evaluate()
    assert numbers is not None
    assert (numbers["objects_waiting"], numbers["files_waiting"], landed) == (2, 0, hours)
    assert 1200 <= numbers["seconds_waiting"] < 1300
    assert numbers["newest_object_age_seconds"] < 60
    numbers, landed = evaluate()
    assert numbers is not None, "it is still pending"
    assert landed == []

    own.refresh_realtime(*hours)
    numbers, landed = evaluate()
    assert numbers is not None, "the end of the backlog is observed"
    assert (numbers["objects_waiting"], numbers["bytes_waiting"], landed) == (0, 0, [])
    assert evaluate() == (None, [])

    time.sleep(0.01)
    hour = _land(own, "c")
    numbers, landed = evaluate()
    assert numbers is not None
    assert (numbers["objects_waiting"], landed) == (1, [hour])


def test_files_are_pending_until_bronze_ingests_them(own: Own, evaluate: Evaluate) -> None:
    own.drop(json.dumps(payment("x", datetime.now(UTC))).encode(), "x.json")
    numbers, landed = evaluate()
    assert numbers is not None
    assert (numbers["files_waiting"], numbers["objects_waiting"], len(landed)) == (1, 0, 1)
    own.bronze()
    numbers, _ = evaluate()
    assert numbers is not None
    assert (numbers["files_waiting"], numbers["bytes_waiting"]) == (0, 0)


def test_files_ingested_between_ticks_have_landed(own: Own, evaluate: Evaluate) -> None:
    evaluate()
    own.drop(json.dumps(payment("x", datetime.now(UTC))).encode(), "x.json")
    own.bronze()
    numbers, landed = evaluate()
    assert numbers is not None
    assert (numbers["files_waiting"], len(landed)) == (0, 1)
    assert numbers["newest_object_age_seconds"] < 60
    assert evaluate()[1] == []


def test_kinesis_lag_is_observed(own: Own, evaluate: Evaluate, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = own.lake.settings.model_copy(update={"kinesis": {own.name: "s"}})
    monkeypatch.setattr(landing, "get_settings", lambda: settings)
    behind = StreamStatus(own.name, "s", 2, 1500, 10, 1, 100, None, time.time())
    status.write_statuses(settings, [behind])
    numbers, _ = evaluate()
    assert numbers is not None
    assert (numbers["kinesis_behind_seconds"], numbers["kinesis_is_read"]) == (1.5, 1)


def test_landed_hours_are_partitions_of_landing(own: Own, evaluate: Evaluate) -> None:
    _land(own, "a")
    _, [hour] = evaluate()
    [spec] = [
        spec
        for spec in build_assets(own.lake.streams, datetime.now(UTC).date() - timedelta(days=2))
        if isinstance(spec, dg.AssetSpec) and spec.key.path[0] == "landing"
    ]
    assert spec.partitions_def is not None
    assert spec.partitions_def.has_partition_key(hour)
    assert spec.freshness_policy is not None
