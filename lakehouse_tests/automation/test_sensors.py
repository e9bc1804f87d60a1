"""Sensors: an error of one stream is logged, and the runs of all others are requested."""

from datetime import UTC, date, datetime
from types import SimpleNamespace
from typing import Any

import dagster as dg
import pytest

from lakehouse.assets import resources
from lakehouse.assets.resources import LakeResource
from lakehouse.automation import sensors
from lakehouse.contracts.streams import Stream, discover
from lakehouse.errors import LakehouseError
from lakehouse.landing.keys import LandingObject
from lakehouse.runtime.instance import STREAM_TAG

NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)


@pytest.mark.parametrize("error", [LakehouseError("no"), OSError("no"), KeyError("no")])
@pytest.mark.parametrize("sensor", [sensors.incoming_files, sensors.late_data])
def test_failing_stream_holds_up_no_other(monkeypatch: pytest.MonkeyPatch, sensor: Any, error: Exception) -> None:
    streams = discover()
    broken = next(iter(streams))
    lake = SimpleNamespace(streams=streams, objects=SimpleNamespace(folders=lambda _: []))

    def work_of(stream: Stream) -> None:
        if stream.name == broken:
            raise error

    def pending_files(_lake: object, stream: Stream, _since: object) -> list[LandingObject]:
        work_of(stream)
        return [LandingObject(f"incoming/{stream.name}/a.csv", stream.name, NOW, 1)]

    def days_to_refresh(_lake: object, stream: Stream) -> list[date]:
        work_of(stream)
        return [NOW.date()]

    monkeypatch.setattr(resources, "_lake", lambda: lake)
    monkeypatch.setattr(sensors, "pending_files", pending_files)
    monkeypatch.setattr(sensors, "days_to_refresh", days_to_refresh)
    with dg.DagsterInstance.ephemeral() as instance:
        context = dg.build_sensor_context(instance, resources={"lake": LakeResource()})
        requests: list[Any] = list(sensor(context))
    assert {request.tags[STREAM_TAG] for request in requests} == set(streams) - {broken}
