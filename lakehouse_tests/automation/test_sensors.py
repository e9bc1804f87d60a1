"""Sensors: an error of one stream is logged, and the runs of all others are requested."""

from collections.abc import Callable
from datetime import UTC, date, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import dagster as dg
import pytest

from lakehouse.alerting.store import AlertStore
from lakehouse.assets import resources
from lakehouse.assets.partitions import exact_days
from lakehouse.assets.resources import LakeResource
from lakehouse.automation import sensors
from lakehouse.contracts.streams import Stream, discover
from lakehouse.errors import LakehouseError
from lakehouse.landing.incoming import Incoming
from lakehouse.landing.keys import LandingObject
from lakehouse.runtime.instance import STREAM_TAG
from lakehouse.serving.lookups.declaration import Lookup
from lakehouse.settings import Settings

NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)


@pytest.mark.parametrize("error", [LakehouseError("no"), OSError("no"), KeyError("no")])
@pytest.mark.parametrize("sensor", [sensors.incoming_files, sensors.late_data])
def test_failing_stream_holds_up_no_other(monkeypatch: pytest.MonkeyPatch, sensor: Any, error: Exception) -> None:
    streams = discover()
    broken = next(iter(streams))
    lake = SimpleNamespace(streams=streams, objects=SimpleNamespace(folders=lambda _: []), settings=Settings())
    monkeypatch.setattr(sensors, "read_report", lambda _: [])
    monkeypatch.setattr(sensors, "write_report", lambda _objects, _report: None)
    monkeypatch.setattr(sensors, "select_incoming", lambda _objects, _stream: Incoming())

    def work_of(stream: Stream) -> None:
        if stream.name == broken:
            raise error

    def not_ingested(_lake: object, stream: Stream, _listed: object, _since: object) -> list[LandingObject]:
        work_of(stream)
        return [LandingObject(f"incoming/{stream.name}/a.csv", stream.name, NOW, 1)]

    def days_to_refresh(_lake: object, stream: Stream) -> list[date]:
        work_of(stream)
        return [NOW.date()]

    monkeypatch.setattr(resources, "_lake", lambda: lake)
    monkeypatch.setattr(sensors, "not_ingested", not_ingested)
    monkeypatch.setattr(sensors, "days_to_refresh", days_to_refresh)
    with dg.DagsterInstance.ephemeral() as instance:
        context = dg.build_sensor_context(instance, resources={"lake": LakeResource()})
        requests: list[Any] = list(sensor(context))
    assert {request.tags[STREAM_TAG] for request in requests} == set(streams) - {broken}


@pytest.mark.parametrize("stale", [[], ["retail"]])
def test_stale_lookup_is_requested_unless_a_stream_of_its_own_is(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, stale: list[str]
) -> None:
    for name in ("broken", "totals"):
        (tmp_path / f"{name}.sql").write_text("-- key: stream\n-- description: x\nfrom gold.daily_metrics")
    lake = SimpleNamespace(streams=discover(), settings=Settings(lookups=(tmp_path,)))
    sensor: Any = sensors.late_data

    def is_stale(_lake: object, lookup: Lookup) -> bool:
        if lookup.name == "broken":
            raise LakehouseError("no")
        return True

    monkeypatch.setattr(resources, "_lake", lambda: lake)
    monkeypatch.setattr(sensors, "days_to_refresh", lambda _, stream: [NOW.date()] * (stream.name in stale))
    monkeypatch.setattr(sensors, "is_stale", is_stale)
    with dg.DagsterInstance.ephemeral() as instance:
        context = dg.build_sensor_context(instance, resources={"lake": LakeResource()})
        requests: list[Any] = list(sensor(context))
    tags = [request.tags[STREAM_TAG] for request in requests]
    assert tags == [*stale, *(["customers_lookup"] if not stale else []), "totals_lookup"]


def _clock(at: str) -> type[datetime]:
    class Clock(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> datetime:  # type: ignore[override]
            return datetime.fromisoformat(f"{at}:25").replace(tzinfo=tz)

    return Clock


def test_many_small_objects_are_ingested_when_their_hours_have_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = next(iter(discover().values()))
    listed: list[str] = []

    def list_hour(_objects: object, _stream: str, hour: str) -> list[None]:
        listed.append(hour)
        return [None] * 4000

    monkeypatch.setattr(resources, "_lake", lambda: SimpleNamespace(streams={stream.name: stream}, objects=None))
    monkeypatch.setattr(sensors, "list_hour", list_hour)
    ticks = ["28T11", "28T11", "28T12", "28T13", "28T14", "29T00", "29T01", "29T02", "29T03"]
    requested: dict[str, list[date] | None] = {}
    with dg.DagsterInstance.ephemeral() as instance:
        cursor = None
        for tick in ticks:
            monkeypatch.setattr(sensors, "datetime", _clock(f"2026-11-{tick}"))
            context = dg.build_sensor_context(instance, cursor, resources={"lake": LakeResource()})
            for request in _requests(sensors.closed_hours, context):
                requested[tick] = exact_days(request.tags)
            cursor = context.cursor
    today, next_day = date(2026, 11, 28), date(2026, 11, 29)
    assert requested == {"28T11": [today], "28T14": [today], "29T00": [today], "29T03": [next_day]}
    assert listed == [f"{day}-{hour:02}:00" for day, hours in ((today, 24), (next_day, 3)) for hour in range(hours)]


def _requests(sensor: Callable[..., Any], context: dg.SensorEvaluationContext) -> list[dg.RunRequest]:
    return [request for request in sensor(context) if isinstance(request, dg.RunRequest)]


def test_failed_run_is_reported_once_to_the_receivers_of_alerts(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    @dg.op
    def fails() -> None:
        raise RuntimeError("no disk")

    @dg.job(name="refresh", tags={STREAM_TAG: "iot"})
    def refresh() -> None:
        fails()

    settings = Settings(home=tmp_path, webhook_url="http://127.0.0.1:9/x")
    monkeypatch.setattr(sensors, "get_settings", lambda: settings)
    with dg.DagsterInstance.ephemeral() as instance:
        result = refresh.execute_in_process(instance=instance, raise_on_error=False)
        context = dg.build_run_status_sensor_context(
            "run_failures", result.get_run_failure_event(), instance, result.dagster_run
        ).for_run_failure()
        for _ in range(2):  # Dagster evaluates it again if it was killed before its cursor moved
            sensors.run_failures(context)
    with AlertStore(settings).transaction() as transaction:
        (report,) = transaction.take_reports(0.0)
    assert (report.cause.key, report.cause.details["run_id"]) == ("refresh/iot", result.run_id)
