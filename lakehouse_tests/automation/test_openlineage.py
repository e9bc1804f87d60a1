"""Events of OpenLineage about real runs reach a real receiver, late if it is down, and none is lost silently."""

import json
import os
import threading
from collections.abc import Callable, Iterator
from datetime import date
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from dagster._core.remote_origin import RegisteredCodeLocationOrigin, RemoteInstigatorOrigin, RemoteRepositoryOrigin
from dagster._core.scheduler.instigation import (
    InstigatorState,
    InstigatorStatus,
    InstigatorType,
    SensorInstigatorData,
)
from jsonschema import Draft202012Validator, FormatChecker  # type: ignore[import-untyped]
from pydantic import SecretStr
from referencing import Registry, Resource

from lakehouse.assets import resources
from lakehouse.assets.graph import build_assets
from lakehouse.assets.io_manager import LakehouseIOManager
from lakehouse.assets.partitions import exact_tags
from lakehouse.assets.resources import LakeResource
from lakehouse.automation.jobs import BATCH, build_jobs
from lakehouse.automation.openlineage import sender
from lakehouse.automation.openlineage import sensor as module
from lakehouse.automation.openlineage.events import make_event
from lakehouse.runtime.dagster_metrics import DagsterMetrics
from lakehouse.runtime.openlineage_progress import SENSOR, Progress
from lakehouse.settings import Settings
from lakehouse_tests.pipeline.own import Own, make_stream, noon, payment, shared_lake, threshold

__all__ = ["make_stream", "shared_lake"]

DAY = date(2025, 3, 1)
Event = dict[str, Any]


class Receiver:
    """An HTTP server that takes events, or answers with another status."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.headers: list[dict[str, str]] = []
        self.status = 201
        received = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                if received.status < 300:
                    received.events.append(json.loads(body))
                    received.headers.append({**self.headers, "path": self.path})
                self.send_response(received.status)
                self.end_headers()

            def log_message(self, *args: object) -> None:
                pass

        self._server = HTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    receiver = Receiver()
    yield receiver
    receiver.close()


class House:
    """A lakehouse of one stream, its history, and the sensor with its cursor."""

    def __init__(self, own: Own, instance: dg.DagsterInstance) -> None:
        self.own, self.instance = own, instance
        lake = LakeResource()
        self.definitions = dg.Definitions(
            assets=build_assets(own.lake.streams, date(2025, 1, 1)),
            jobs=build_jobs(),
            sensors=[module.openlineage],
            resources={"lake": lake, "io_manager": LakehouseIOManager(lake=lake)},
        )
        self.cursor: str | None = None
        self.run()  # before the first tick, so it is not sent
        self.tick()

    def run(self) -> dg.ExecuteInProcessResult:
        job = self.definitions.resolve_job_def(BATCH)
        return job.execute_in_process(instance=self.instance, tags=exact_tags([DAY]), raise_on_error=False)

    def tick(self) -> Progress:
        context = dg.build_sensor_context(
            self.instance, self.cursor, resources={"lake": LakeResource()}, definitions=self.definitions
        )
        [*module.openlineage(context)]  # type: ignore[misc]
        self.cursor = context.cursor
        progress = Progress.parse(self.cursor)
        assert progress is not None
        return progress


@pytest.fixture
def house(make_stream: Callable[..., Own], monkeypatch: pytest.MonkeyPatch, receiver: Receiver) -> Iterator[House]:
    own = make_stream(edit=threshold(0.6))
    settings = Settings(
        home=own.lake.settings.home, openlineage=f"{receiver.url}/lineage?x=1", openlineage_api_key=SecretStr("secret")
    )
    monkeypatch.setattr(resources, "_lake", lambda: own.lake)
    monkeypatch.setattr(module, "get_settings", lambda: settings)
    with dg.DagsterInstance.ephemeral() as instance:
        yield House(own, instance)


def _by_name(datasets: list[Event], suffix: str) -> Event:
    (found,) = [dataset for dataset in datasets if dataset["name"].endswith(suffix)]
    return found


def test_run_is_told_with_schemas_columns_checks_times_and_snapshots(house: House, receiver: Receiver) -> None:
    own = house.own
    own.land([payment("a", noon(DAY)), payment("b", noon(DAY)), payment("c", noon(DAY), amount="x")], noon(DAY))
    result = house.run()
    assert house.tick().sent == 2
    start, complete = receiver.events
    assert [start["eventType"], complete["eventType"]] == ["START", "COMPLETE"]
    assert {facet["_producer"] for facet in _facets(complete)} == {complete["producer"]}
    assert {event["run"]["runId"] for event in receiver.events} == {result.run_id}
    assert (complete["job"]["namespace"], complete["job"]["name"]) == ("lakehouse", BATCH)
    nominal = complete["run"]["facets"]["nominalTime"]
    assert (nominal["nominalStartTime"], nominal["nominalEndTime"]) == (
        "2025-03-01T00:00:00+00:00",
        "2025-03-02T00:00:00+00:00",
    )
    silver, gold = (own.lake.tables.load(f"{name}") for name in (f"silver.{own.name}", f"gold.{own.name}_daily"))
    name = gold.location().split("/", 3)[3]
    output = _by_name(complete["outputs"], name)
    assert output["namespace"] == gold.location()[: -len(name) - 1]
    facets = output["facets"]
    assert [field["name"] for field in facets["schema"]["fields"]][:2] == ["dt", "currency"]
    amount = facets["columnLineage"]["fields"]["amount"]["inputFields"]
    assert [(source["name"], source["field"]) for source in amount] == [(silver.location().split("/", 3)[3], "amount")]
    cleaned = _by_name(complete["outputs"], silver.location().split("/", 3)[3])["facets"]["columnLineage"]["fields"]
    bronze = own.lake.tables.load(f"bronze.{own.name}").location().split("/", 3)[3]
    assert [(source["name"], source["field"]) for source in cleaned["amount"]["inputFields"]] == [(bronze, "amount")]
    assert facets["version"]["datasetVersion"] == str(gold.current_snapshot().snapshot_id)  # type: ignore[union-attr]
    assert facets["symlinks"]["identifiers"][0]["name"] == f"gold.{own.name}_daily"
    assert output["outputFacets"]["outputStatistics"]["rowCount"] == 1
    checked = _by_name(complete["inputs"], silver.location().split("/", 3)[3])
    assertions = checked["inputFacets"]["dataQualityAssertions"]["assertions"]
    assert {"assertion", "success", "severity"} <= assertions[0].keys()
    landing = (f"s3://{own.lake.connection.bucket}", f"realtime/{own.name}")
    assert landing in [(dataset["namespace"], dataset["name"]) for dataset in complete["inputs"]]
    assert (receiver.headers[0]["path"], receiver.headers[0]["Authorization"]) == ("/lineage?x=1", "Bearer secret")
    assert house.tick().sent == 2  # nothing is sent twice


def test_failed_run_is_told_with_its_error(house: House, receiver: Receiver) -> None:
    house.own.land([payment(key, noon(DAY), amount=amount) for key, amount in ("a1", "bx", "cx")], noon(DAY))
    house.run()
    house.tick()
    assert [event["eventType"] for event in receiver.events] == ["START", "FAIL"]
    assert "quality gate" in receiver.events[1]["run"]["facets"]["errorMessage"]["message"]


def test_receiver_that_is_down_gets_all_events_later_and_what_is_pruned_is_counted(
    house: House, receiver: Receiver
) -> None:
    receiver.status = 503
    runs = [house.run().run_id for _ in range(3)]
    waiting = house.tick()
    assert (waiting.sent, waiting.lost, len(waiting.waiting), bool(waiting.waits_since)) == (0, 0, 6, True)
    assert house.tick().waits_since == waiting.waits_since
    house.instance.delete_run(runs[1])
    receiver.status = 200
    told = house.tick()
    assert (told.sent, told.lost, told.waiting, told.waits_since) == (4, 2, [], None)
    assert [event["run"]["runId"] for event in receiver.events] == [runs[0], runs[0], runs[2], runs[2]]


def test_event_that_cannot_be_made_waits_and_holds_up_no_other(
    house: House, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = [house.run().run_id for _ in range(2)]
    with monkeypatch.context() as patch:

        def make(instance: dg.DagsterInstance, datasets: Any, entry: dg.EventLogEntry) -> Any:
            if entry.run_id == runs[0]:
                raise ValueError("unexpected")
            return make_event(instance, datasets, entry)

        patch.setattr(sender, "make_event", make)
        progress = house.tick()
        assert (progress.sent, progress.lost, len(progress.waiting)) == (2, 0, 2)
        assert {event["run"]["runId"] for event in receiver.events} == {runs[1]}
    told = house.tick()
    assert (told.sent, told.waiting) == (4, [])
    assert [event["run"]["runId"] for event in receiver.events] == [runs[1], runs[1], runs[0], runs[0]]


def test_metrics_count_what_was_sent_waits_and_is_lost(tmp_path: Path) -> None:
    repository = RemoteRepositoryOrigin(RegisteredCodeLocationOrigin("lakehouse"), "__repository__")
    data = SensorInstigatorData(cursor=Progress(0, 9, sent=5, lost=2, waiting=[7, 8]).encode())
    with dg.DagsterInstance.local_temp(str(tmp_path)) as instance:
        origin = RemoteInstigatorOrigin(repository, SENSOR)
        instance.add_instigator_state(
            InstigatorState(origin, InstigatorType.SENSOR, InstigatorStatus.DECLARED_IN_CODE, data)
        )
        samples = [sample for metric in DagsterMetrics(instance).collect() for sample in metric.samples]
    values = {sample.name: sample.value for sample in samples}
    names = ("sent_total", "lost_total", "waiting")
    assert [values[f"lakehouse_openlineage_events_{name}"] for name in names] == [5, 2, 2]


def test_events_are_appended_to_a_file(house: House, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "new" / "events.ndjson"
    monkeypatch.setattr(module, "get_settings", lambda: Settings(openlineage=str(file)))
    house.run()
    house.tick()
    assert [json.loads(line)["eventType"] for line in file.read_text().splitlines()] == ["START", "COMPLETE"]


SPEC = os.environ.get("OPENLINEAGE_SPEC", "")


@pytest.mark.skipif(
    not SPEC,
    reason="OPENLINEAGE_SPEC names no `spec` of a clone of OpenLineage; no package has it",
)
def test_events_are_accepted_by_the_schemas_of_the_standard(house: House, receiver: Receiver) -> None:
    house.own.land([payment("a", noon(DAY)), payment("b", noon(DAY), amount="x")], noon(DAY))
    house.run()
    house.own.land([payment("a", noon(DAY)), payment("b", noon(DAY))], noon(DAY))
    house.run()
    house.tick()
    schemas = {
        path.name: json.loads(path.read_text()) for path in [*Path(SPEC).glob("*.json"), *Path(SPEC).glob("facets/*")]
    }
    registry: Registry[Any] = Registry().with_resources(
        (schema["$id"], Resource.from_contents(schema)) for schema in schemas.values()
    )

    def validate(value: Event, file: str, name: str) -> None:
        schema = {"$ref": f"{schemas[file]['$id']}#/$defs/{name}"}
        Draft202012Validator(schema, registry=registry, format_checker=FormatChecker()).validate(value)

    assert len(receiver.events) == 4
    checked = set()
    for event in receiver.events:
        validate(event, "OpenLineage.json", "RunEvent")
        for facet in _facets(event):
            place, _, name = facet["_schemaURL"].partition("#/$defs/")
            file = place.rpartition("/")[2]
            if file in schemas:
                validate(facet, file, name)
                checked.add(name)
    assert checked >= {
        "ColumnLineageDatasetFacet",
        "DataQualityAssertionsDatasetFacet",
        "DatasetVersionDatasetFacet",
        "NominalTimeRunFacet",
        "SchemaDatasetFacet",
    }


def _facets(event: Event) -> Iterator[Event]:
    owners = [event["run"], event["job"], *event["inputs"], *event["outputs"]]
    for owner in owners:
        for kind in ("facets", "inputFacets", "outputFacets"):
            yield from owner.get(kind, {}).values()
