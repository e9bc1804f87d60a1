"""An invalid contract is refused with a message that names the file, the field and what is allowed."""
# ruff: noqa: E501  (a case is a line)

import re
from collections.abc import Callable
from datetime import date, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import yaml

from lakehouse.contracts.model import AnomalyRule, ChangeStream, Contract, Field, FieldType, Retention
from lakehouse.contracts.odcs import load_contract
from lakehouse.contracts.streams import discover
from lakehouse.contracts.time_formats import read_time_format
from lakehouse.errors import ContractError

SOUND = """
apiVersion: v3.2.0
kind: DataContract
id: lakehouse-trips
name: trips
version: 1.0.0
status: active
description: {purpose: One trip.}
team: {name: fleet}
tags: [vehicles]
schema:
  - name: trips
    logicalType: object
    physicalType: table
    properties:
      - {name: trip_id, logicalType: string, required: true, primaryKey: true, description: Which trip.}
      - {name: at, logicalType: timestamp, required: true, logicalTypeOptions: {format: [d/M/yyyy, epoch ms], defaultTimezone: Europe/Berlin}}
      - {name: fare, logicalType: number, physicalType: "decimal(10, 2)", logicalTypeOptions: {exclusiveMinimum: 0, maximum: 500}}
      - {name: km, logicalType: number, logicalTypeOptions: {minimum: 0}}
      - {name: seats, logicalType: integer}
      - {name: shared, logicalType: boolean}
      - {name: stops, logicalType: array, items: {logicalType: string}}
      - {name: kind, logicalType: string, enum: [{value: day}, {value: night}]}
      - {name: plate, physicalName: Plate, logicalType: string, logicalTypeOptions: {pattern: "^[A-Z]+$", minLength: 1, maxLength: 9}}
slaProperties:
  - {property: freshness, value: 15, unit: m}
  - {property: retention, value: 30, unit: d, element: bronze}
  - {property: retention, value: 20, unit: d, element: silver}
customProperties:
  - {property: eventTime, value: at}
  - {property: historyStart, value: 2020-02-01}
  - {property: qualityThreshold, value: 0.9}
  - {property: entity, value: plate}
  - {property: anomaly, value: "km by plate, kind"}
  - {property: changeStream, value: {key: [trip_id], version: seats, operation: kind, delete: night}}
"""

Change = Callable[[dict[str, Any]], None]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "trips").mkdir()
    return tmp_path / "trips"


def _write(folder: Path, text: str) -> Path:
    file = folder / "contract.odcs.yaml"
    file.write_text(text)
    return file


def test_valid_contract_is_read_whole(folder: Path) -> None:
    _write(folder, SOUND)
    text = FieldType("string")
    assert load_contract(folder) == Contract(
        stream="trips",
        version="1.0.0",
        description="One trip.",
        owner="fleet",
        fields=(
            Field("trip_id", text, "trip_id", "Which trip.", required=True, key=True),
            Field(
                "at",
                FieldType("timestamp"),
                "at",
                required=True,
                format=(read_time_format("d/M/yyyy"), read_time_format("epoch ms")),
                default_timezone="Europe/Berlin",
            ),
            Field("fare", FieldType("decimal", 10, 2), "fare", exclusive_minimum=Decimal(0), maximum=Decimal(500)),
            Field("km", FieldType("double"), "km", minimum=Decimal(0)),
            Field("seats", FieldType("integer"), "seats"),
            Field("shared", FieldType("boolean"), "shared"),
            Field("stops", FieldType("list"), "stops"),
            Field("kind", text, "kind", enum=("day", "night")),
            Field("plate", text, "Plate", pattern="^[A-Z]+$", min_length=1, max_length=9),
        ),
        event_time="at",
        history_start=date(2020, 2, 1),
        quality_threshold=0.9,
        freshness=timedelta(minutes=15),
        retention=Retention(bronze=30, silver=20),
        entity="plate",
        anomaly=AnomalyRule("km", ("plate", "kind")),
        changes=ChangeStream(("trip_id",), "seats", "kind", "night"),
        tags=("vehicles",),
    )


def _at(path: str, value: Any) -> Change:
    """Make an edit that sets the value at a path such as `schema.0.name`. A field's name may stand for its index."""

    def change(document: dict[str, Any]) -> None:
        here: Any = document
        *way, last = path.split(".")
        for step in way:
            here = _inside(here, step)
        if value is None:
            del here[last]
        else:
            here[last] = value

    return change


def _inside(here: Any, step: str) -> Any:
    if isinstance(here, dict):
        return here[step]
    if step.isdigit():
        return here[int(step)]
    return next(item for item in here if step in (item.get("name"), item.get("property"), item.get("element")))


FIELDS = "schema.0.properties"

BROKEN: list[tuple[str, Change, str]] = [
    ("a version of the standard", _at("apiVersion", "v2.2.2"), "apiVersion: "),
    ("another kind", _at("kind", "Other"), "must be v3.x with `kind: DataContract`"),
    ("no version", _at("version", None), "version: is missing"),
    ("a name with capitals", _at("name", "Trips"), "name: 'Trips' is not a name; allowed are lower-case letters"),
    ("no name", _at("name", None), "name: '' is not a name"),
    ("another name than its folder's", _at("name", "rides"), "is 'rides', but the stream's folder is 'trips'; make them equal"),
    ("no schema", _at("schema", []), "schema: must hold one object with at least one property"),
    ("no properties", _at("schema.0.properties", []), "schema: must hold one object with at least one property"),
    ("a field's name", _at(f"{FIELDS}.km.name", "k m"), "schema.k m: 'k m' is not a name"),
    ("a reserved name", _at(f"{FIELDS}.km.name", "dt"), "schema.dt: is a name the lakehouse uses itself"),
    ("a name with the underscore of our own columns", _at(f"{FIELDS}.km.name", "_row"), "schema._row: '_row' is not a name"),
    ("a name twice", _at(f"{FIELDS}.km.name", "fare"), "schema.fare: its name is used twice"),
    ("a header twice", _at(f"{FIELDS}.km.physicalName", "PLATE "), "schema.plate: its physicalName is used twice"),
    ("a type", _at(f"{FIELDS}.seats.logicalType", "date"), "schema.seats: logicalType 'date'; allowed are string, timestamp, integer"),
    ("no type", _at(f"{FIELDS}.seats.logicalType", None), "schema.seats: logicalType None; allowed are"),
    ("a type of a number", _at(f"{FIELDS}.km.physicalType", "float"), "schema.km: physicalType 'float' of a number; allowed are double"),
    ("39 digits", _at(f"{FIELDS}.km.physicalType", "decimal(39,2)"), "allowed are double and decimal(1..38,scale)"),
    ("a scale above the digits", _at(f"{FIELDS}.km.physicalType", "decimal(2,3)"), "allowed are double and decimal(1..38,scale)"),
    ("an array of numbers", _at(f"{FIELDS}.stops.items", {"logicalType": "integer"}), "schema.stops: an array must have `items: {logicalType: string}`"),
    ("an array of nothing", _at(f"{FIELDS}.stops.items", None), "schema.stops: an array must have `items"),
    ("an enumeration of numbers", _at(f"{FIELDS}.seats.enum", [{"value": 1}]), "schema.seats: enum is for string fields"),
    ("an unknown option", _at(f"{FIELDS}.km.logicalTypeOptions", {"multipleOf": 2}), "schema.km.logicalTypeOptions: multipleOf not known for a double; allowed are exclusiveMaximum, exclusiveMinimum, maximum, minimum"),
    ("a pattern of a number", _at(f"{FIELDS}.km.logicalTypeOptions", {"pattern": "x"}), "pattern not known for a double"),
    ("a bound of a time", _at(f"{FIELDS}.at.logicalTypeOptions", {"minimum": 1}), "minimum not known for a timestamp; allowed are defaultTimezone, format"),
    ("a bound of a boolean", _at(f"{FIELDS}.shared.logicalTypeOptions", {"minimum": 1}), "minimum not known for a boolean; allowed are none"),
    ("a format with unknown letters", _at(f"{FIELDS}.at.logicalTypeOptions", {"format": "dd/MM/yyyy QQ"}), "logicalTypeOptions.format: 'dd/MM/yyyy QQ': QQ not known; write it as dd/MM/yyyy HH:mm"),
    ("a format without a year", _at(f"{FIELDS}.at.logicalTypeOptions", {"format": ["%d/%m"]}), "logicalTypeOptions.format: '%d/%m': has no year"),
    ("a zone", _at(f"{FIELDS}.at.logicalTypeOptions", {"defaultTimezone": "Berlin"}), "logicalTypeOptions.defaultTimezone: 'Berlin' is no time zone such as Europe/Berlin"),
    ("a bound that is no number", _at(f"{FIELDS}.km.logicalTypeOptions", {"minimum": "low"}), "logicalTypeOptions.minimum: 'low' is not a number"),
    ("a bound that is not finite", _at(f"{FIELDS}.km.logicalTypeOptions", {"minimum": ".nan"}), "logicalTypeOptions.minimum: '.nan' is not a number"),
    ("a bound that is NaN", _at(f"{FIELDS}.km.logicalTypeOptions", {"minimum": "NaN"}), "logicalTypeOptions.minimum: 'NaN' is not a number"),
    ("a pattern", _at(f"{FIELDS}.plate.logicalTypeOptions", {"pattern": "["}), "logicalTypeOptions.pattern: '[' is not a regular expression"),
    ("a pattern that the engine does not know", _at(f"{FIELDS}.plate.logicalTypeOptions", {"pattern": "(?=x)y"}), "logicalTypeOptions.pattern: '(?=x)y' is not a regular expression"),
    ("a length", _at(f"{FIELDS}.plate.logicalTypeOptions", {"maxLength": -1}), "logicalTypeOptions.maxLength: -1 is not a length"),
    ("a length that is true", _at(f"{FIELDS}.plate.logicalTypeOptions", {"maxLength": True}), "logicalTypeOptions.maxLength: True is not a length"),
    ("no key", _at(f"{FIELDS}.trip_id.primaryKey", False), "schema: no property has `primaryKey: true`"),
    ("no event time", _at("customProperties.eventTime.property", "entity"), "customProperties.eventTime: is missing"),
    ("an event time that is no field", _at("customProperties.eventTime.value", "when"), "customProperties.eventTime: 'when' is no field; allowed are trip_id, at"),
    ("an event time that is no time", _at("customProperties.eventTime.value", "trip_id"), "customProperties.eventTime: trip_id must be a required timestamp"),
    ("an event time that may be missing", _at(f"{FIELDS}.at.required", False), "customProperties.eventTime: at must be a required timestamp"),
    ("a history start", _at("customProperties.historyStart.value", "2020"), "customProperties.historyStart: '2020' is not a date such as 2010-01-01"),
    ("a threshold above one", _at("customProperties.qualityThreshold.value", 95), "customProperties.qualityThreshold: 95 is not a share from 0 to 1"),
    ("a threshold that is text", _at("customProperties.qualityThreshold.value", "all"), "'all' is not a share from 0 to 1"),
    ("a threshold that is true", _at("customProperties.qualityThreshold.value", True), "True is not a share from 0 to 1"),
    ("an engine that is not known", _at("customProperties.qualityThreshold.property", "engine"), "customProperties.engine: 0.9 is not duckdb or spark"),
    ("an entity that is no field", _at("customProperties.entity.value", "car"), "customProperties.entity: 'car' is no field"),
    ("changes without a version", _at("customProperties.changeStream.value.version", None), "customProperties.changeStream: must have key (a list of fields), version, operation and delete"),
    ("changes of no field", _at("customProperties.changeStream.value.key", ["car"]), "customProperties.changeStream: 'car' is no field"),
    ("an unknown property", _at("customProperties.entity.property", "entities"), "customProperties: entities not known; allowed are anomaly, changeStream, dialect, engine, entity, eventTime"),
    ("anomalies of nothing", _at("customProperties.anomaly.value", {"by": ["plate"]}), "customProperties.anomaly: must be a text such as `value by device_id`, or have measure, by, season and sensitivity"),
    ("anomalies of one series", _at("customProperties.anomaly.value", "km"), "customProperties.anomaly: must be a text such as `value by device_id`, or have measure, by, season and sensitivity"),
    ("anomalies of a list", _at("customProperties.anomaly.value", ["km"]), "customProperties.anomaly: must be a text such as `value by device_id`, or have measure, by, season and sensitivity"),
    ("an unknown season", _at("customProperties.anomaly.value", {"measure": "km", "by": ["plate"], "season": "year"}), "customProperties.anomaly: season 'year'; allowed are none, day, week"),
    ("no sensitivity", _at("customProperties.anomaly.value", {"measure": "km", "by": ["plate"], "sensitivity": 0}), "customProperties.anomaly: sensitivity 0 is not a number of false alerts a week, above 0 and up to 1000"),
    ("an unknown promise", _at("slaProperties.freshness.property", "latency"), "slaProperties: 'latency' not known; allowed are freshness and retention"),
    ("an unknown unit", _at("slaProperties.freshness.unit", "w"), "slaProperties.freshness: unit 'w'; allowed are s, m, min, h, d"),
    ("a freshness that is no number", _at("slaProperties.freshness.value", "soon"), "slaProperties.freshness: 'soon' is not a number"),
    ("a freshness of nothing", _at("slaProperties.freshness.value", 0), "slaProperties.freshness: 0 must be above zero"),
    ("a layer's retention", _at("slaProperties.silver.element", "platinum"), "slaProperties.retention.platinum: allowed elements are landing, realtime, bronze, silver, gold"),
    ("a retention in hours", _at("slaProperties.silver.unit", "h"), "slaProperties.retention.silver: must be in days (unit: d)"),
    ("bronze kept shorter than silver", _at("slaProperties.bronze.value", 10), "slaProperties.retention.bronze: 10 days is shorter than silver's (20)"),
    ("bronze kept shorter than a silver without limit", _at("slaProperties.silver.element", "gold"), "30 days is shorter than silver's (without limit)"),
]  # fmt: skip


@pytest.mark.parametrize(("change", "reason"), [pytest.param(c, m, id=name) for name, c, m in BROKEN])
def test_invalid_contract_is_refused_with_reason(folder: Path, change: Change, reason: str) -> None:
    document = yaml.safe_load(SOUND)
    change(document)
    file = _write(folder, yaml.safe_dump(document))
    with pytest.raises(ContractError, match=f"^{re.escape(str(file))}: .*{re.escape(reason)}"):
        load_contract(folder)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        pytest.param("a: [", "line 2: file: is not readable YAML", id="no YAML"),
        pytest.param("- a\n", "file: must be a YAML mapping", id="a list"),
        pytest.param("", "file: must be a YAML mapping", id="nothing"),
        pytest.param("schema: 3\n", "line 1: schema: ", id="another shape than the standard's"),
    ],
)
def test_file_without_contract_is_refused(folder: Path, text: str, reason: str) -> None:
    file = _write(folder, text)
    with pytest.raises(ContractError, match=f"^{re.escape(str(file))}: {re.escape(reason)}"):
        load_contract(folder)


def test_missing_and_wrongly_encoded_contracts_are_refused(folder: Path) -> None:
    with pytest.raises(ContractError, match="is missing; every stream's folder needs one"):
        load_contract(folder)
    (folder / "contract.odcs.yaml").write_bytes(SOUND.encode("utf-16"))
    with pytest.raises(ContractError, match="is not readable YAML"):
        load_contract(folder)


def test_duplicate_stream_and_missing_folder_are_refused(folder: Path) -> None:
    _write(folder, SOUND)
    other = folder.parent / "others" / "trips"
    other.mkdir(parents=True)
    _write(other, SOUND)
    assert discover([folder.parent])["trips"].folder == folder
    with pytest.raises(ContractError, match="the stream trips is also in"):
        discover([folder.parent, other.parent])
    with pytest.raises(ContractError, match=r"is not a folder\. LAKEHOUSE_STREAMS lists folders that hold streams"):
        discover([folder / "nowhere"])


def test_refusal_names_the_line_of_the_field(folder: Path) -> None:
    text = SOUND.replace("logicalType: string", "logicalType: no-such-type", 1)
    line = text[: text.index("no-such-")].count("\n") + 1
    file = _write(folder, text)
    with pytest.raises(ContractError) as refused:
        load_contract(folder)
    named = re.match(rf"{re.escape(str(file))}: line (\d+): schema\.", str(refused.value))
    assert named is not None
    assert int(named[1]) <= line < int(named[1]) + 4
