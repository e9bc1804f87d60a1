"""Read a contract from ODCS v3 YAML with the standard's own model, and refuse what the lakehouse can't store.

The standard is https://bitol-io.github.io/open-data-contract-standard/. `customProperties` hold what it has no key for.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from datetime import date, timedelta
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any, NoReturn, TypeVar, cast, get_args

import duckdb
import yaml
from open_data_contract_standard.model import (
    OpenDataContractStandard,
    SchemaProperty,
    ServiceLevelAgreementProperty,
    Team,
)
from pydantic import ValidationError

from lakehouse.contracts.dialect import Dialect, read_dialect
from lakehouse.contracts.in_memory import open_in_memory
from lakehouse.contracts.model import (
    DEFAULT_HISTORY_START,
    DEFAULT_QUALITY_THRESHOLD,
    AnomalyRule,
    ChangeStream,
    Contract,
    Engine,
    Field,
    FieldType,
    Kind,
    Retention,
    Season,
)
from lakehouse.contracts.sql import literal
from lakehouse.contracts.time_formats import EPOCH_UNITS, TimeFormat, is_zone, read_time_format
from lakehouse.contracts.yaml_lines import line_of
from lakehouse.errors import ContractError

N = TypeVar("N", int, float)

CONTRACT_FILE = "contract.odcs.yaml"

LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
"""PyYAML's loader in C where it has one. Every process reads all contracts, which took a quarter of a second in Python."""

NAME = re.compile(r"[a-z][a-z0-9_]{0,62}")
DECIMAL = re.compile(r"decimal\((\d+),\s*(\d+)\)")
RESERVED = {"dt", "arrival_dt", "arrival_hour", "valid", "events", "days", "silver"}
CUSTOM = {"eventTime", "historyStart", "qualityThreshold", "entity", "changeStream", "dialect", "engine", "anomaly"}
UNITS = {"s": 1, "m": 60, "min": 60, "h": 3600, "d": 86400}
NUMBER_OPTIONS = {"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"}
TEXT_OPTIONS = {"pattern", "minLength", "maxLength"}
TIME_OPTIONS = {"format", "defaultTimezone"}
OPTIONS: dict[Kind, set[str]] = {
    "string": TEXT_OPTIONS,
    "timestamp": TIME_OPTIONS,
    **dict.fromkeys(("integer", "double", "decimal"), NUMBER_OPTIONS),
}


def load_contract(folder: Path) -> Contract:
    """Read the contract of the stream in `folder`.

    Raises ContractError, which names the file, the field and what is allowed.
    """
    return _Reader(folder / CONTRACT_FILE).read()


class _Reader:
    """Read one file. Every error names it, with the line where it can be found."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def refuse(self, where: str, reason: str) -> NoReturn:
        with suppress(OSError, UnicodeDecodeError, yaml.YAMLError):
            if line := line_of(self.path.read_text(encoding="utf-8"), where):
                raise ContractError(f"{self.path}: line {line}: {where}: {reason}")
        raise ContractError(f"{self.path}: {where}: {reason}")

    def read(self) -> Contract:
        document = self._document()
        stream = document.name or ""
        self._name("name", stream)
        if stream != self.path.parent.name:
            self.refuse("name", f"is {stream!r}, but the stream's folder is {self.path.parent.name!r}; make them equal")
        if not document.schema_ or len(document.schema_) != 1 or not document.schema_[0].properties:
            self.refuse("schema", "must hold one object with at least one property")
        fields = tuple(self._field(p) for p in document.schema_[0].properties)
        self._unique([f.name for f in fields], "name")
        self._unique([f.source.strip().lower() for f in fields], "physicalName")
        custom = {c.property or "": c.value for c in document.customProperties or []}
        if unknown := sorted(set(custom) - CUSTOM):
            self.refuse("customProperties", f"{', '.join(unknown)} not known; allowed are {', '.join(sorted(CUSTOM))}")
        names = {f.name: f for f in fields}
        retention = self._retention(document.slaProperties or [])
        contract = Contract(
            stream=stream,
            version=document.version or self.refuse("version", "is missing"),
            description=(document.description.purpose if document.description else None) or "",
            owner=(document.team.name if isinstance(document.team, Team) else None) or "lakehouse",
            fields=fields,
            event_time=self._event_time(custom.get("eventTime"), names),
            history_start=self._history_start(custom.get("historyStart")),
            quality_threshold=self._threshold(custom.get("qualityThreshold", DEFAULT_QUALITY_THRESHOLD)),
            freshness=self._freshness(document.slaProperties or []),
            retention=retention,
            entity=self._known_field("entity", custom.get("entity"), names),
            changes=self._changes(custom.get("changeStream"), names),
            anomaly=self._anomaly(custom.get("anomaly")),
            tags=tuple(document.tags or ()),
            engine=self._engine(custom.get("engine")),
        ).written_in(self._dialect(custom.get("dialect", {})))
        for path in contract.dialect.field_paths:
            self._known_field("dialect.fieldPaths", path.partition("=")[0], names)
        if not contract.key:
            self.refuse(
                "schema", "no property has `primaryKey: true`; at least one must, because it tells events apart"
            )
        return contract

    def _document(self) -> OpenDataContractStandard:
        try:
            content = yaml.load(self.path.read_text(encoding="utf-8"), LOADER)  # noqa: S506 (both are safe)
        except FileNotFoundError:
            self.refuse("file", "is missing; every stream's folder needs one")
        except yaml.MarkedYAMLError as error:
            line = f": line {error.problem_mark.line + 1}" if error.problem_mark else ""
            raise ContractError(f"{self.path}{line}: file: is not readable YAML: {error.problem}") from error
        except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
            self.refuse("file", f"is not readable YAML: {error}")
        if not isinstance(content, dict):
            self.refuse("file", "must be a YAML mapping")
        try:
            document = OpenDataContractStandard.model_validate(content)
        except ValidationError as error:
            first = error.errors()[0]
            self.refuse(".".join(map(str, first["loc"])), f"{first['msg']} (Open Data Contract Standard v3)")
        if document.kind != "DataContract" or not (document.apiVersion or "").startswith("v3."):
            self.refuse("apiVersion", "must be v3.x with `kind: DataContract`")
        return document

    def _name(self, where: str, name: str) -> None:
        if not NAME.fullmatch(name):
            self.refuse(where, f"{name!r} is not a name; allowed are lower-case letters, digits and _, a letter first")

    def _unique(self, values: Iterable[str], what: str) -> None:
        seen: set[str] = set()
        for value in values:
            if value in seen:
                self.refuse(f"schema.{value}", f"its {what} is used twice")
            seen.add(value)

    def _field(self, prop: SchemaProperty) -> Field:
        name = prop.name or ""
        where = f"schema.{name}"
        self._name(where, name)
        if name in RESERVED:
            self.refuse(where, f"is a name the lakehouse uses itself ({', '.join(sorted(RESERVED))}); choose another")
        field_type = self._type(where, prop)
        options = self._options(where, field_type, prop.logicalTypeOptions or {})
        enum = tuple(str(v.value) for v in prop.enum or [])
        if enum and field_type.kind != "string":
            self.refuse(where, "enum is for string fields")
        return Field(
            name=name,
            type=field_type,
            source=prop.physicalName or name,
            description=prop.description or "",
            required=bool(prop.required),
            key=bool(prop.primaryKey),
            enum=enum,
            classification=prop.classification or "",
            **options,
        )

    def _type(self, where: str, prop: SchemaProperty) -> FieldType:
        match prop.logicalType:
            case "string":
                return FieldType("string")
            case "timestamp" | "integer" | "boolean" as kind:
                return FieldType(kind)
            case "array":
                if prop.items is None or prop.items.logicalType != "string":
                    self.refuse(where, "an array must have `items: {logicalType: string}`")
                return FieldType("list")
            case "number":
                physical = (prop.physicalType or "double").lower().replace(" ", "")
                if physical == "double":
                    return FieldType("double")
                if match := DECIMAL.fullmatch(physical):
                    precision, scale = int(match[1]), int(match[2])
                    if 0 < precision <= 38 and scale <= precision:
                        return FieldType("decimal", precision, scale)
                self.refuse(
                    where, f"physicalType {physical!r} of a number; allowed are double and decimal(1..38,scale)"
                )
            case other:
                self.refuse(
                    where,
                    f"logicalType {other!r}; allowed are string, timestamp, integer, number, boolean and array of string",
                )

    def _options(self, where: str, field_type: FieldType, options: Mapping[str, Any]) -> dict[str, Any]:
        allowed = OPTIONS.get(field_type.kind, set())
        if unknown := sorted(set(options) - allowed):
            self.refuse(
                f"{where}.logicalTypeOptions",
                f"{', '.join(unknown)} not known for a {field_type}; allowed are {', '.join(sorted(allowed)) or 'none'}",
            )
        values: dict[str, Any] = {}
        for option, value in options.items():
            name = re.sub(r"([A-Z])", lambda m: "_" + m[1].lower(), option)
            values[name] = self._option(f"{where}.logicalTypeOptions.{option}", option, value)
        return values

    def _option(self, where: str, option: str, value: Any) -> Decimal | int | str | tuple[TimeFormat, ...]:
        if option in NUMBER_OPTIONS:
            return self._bound(where, value)
        if option in TIME_OPTIONS:
            return self._time_option(where, option, value)
        if option == "pattern":
            try:
                re.compile(str(value))
                # DuckDB uses RE2, which has no look-around and no back-references.
                # Pass a literal, because a parameter makes duckdb import pandas, which takes a second.
                open_in_memory().execute(f"select regexp_matches('', {literal(str(value))})")
            except (re.error, duckdb.InvalidInputException) as error:
                self.refuse(where, f"{value!r} is not a regular expression: {error}")
            return str(value)
        if isinstance(value, bool) or not isinstance(value, int) or value < 0:
            self.refuse(where, f"{value!r} is not a length")
        return value

    def _bound(self, where: str, value: Any) -> Decimal:
        try:
            number = Decimal(str(value))
        except InvalidOperation:
            self.refuse(where, f"{value!r} is not a number")
        if not number.is_finite():
            self.refuse(where, f"{value!r} is not a number")
        return number

    def _time_option(self, where: str, option: str, value: Any) -> str | tuple[TimeFormat, ...]:
        if option == "defaultTimezone":
            if not isinstance(value, str) or not is_zone(value):
                self.refuse(where, f"{value!r} is no time zone such as Europe/Berlin")
            return value
        try:
            return tuple(read_time_format(str(text)) for text in (value if isinstance(value, list) else [value]))
        except ValueError as error:
            self.refuse(where, f"{error}; write it as dd/MM/yyyy HH:mm, %d/%m/%Y %H:%M, or {', '.join(EPOCH_UNITS)}")

    def _event_time(self, name: object, fields: Mapping[str, Field]) -> str:
        event_time = self._known_field("eventTime", name, fields)
        if event_time is None:
            self.refuse("customProperties.eventTime", "is missing; it names the timestamp field that dates an event")
        if fields[event_time].type.kind != "timestamp" or not fields[event_time].required:
            self.refuse("customProperties.eventTime", f"{event_time} must be a required timestamp")
        return event_time

    def _known_field(self, what: str, name: object, fields: Mapping[str, Field]) -> str | None:
        if name is None:
            return None
        if not isinstance(name, str) or name not in fields:
            self.refuse(f"customProperties.{what}", f"{name!r} is no field; allowed are {', '.join(fields)}")
        return name

    def _history_start(self, value: object) -> date:
        if value is None:
            return DEFAULT_HISTORY_START
        try:
            return value if isinstance(value, date) else date.fromisoformat(str(value))
        except ValueError:
            self.refuse("customProperties.historyStart", f"{value!r} is not a date such as 2010-01-01")

    def _threshold(self, value: object) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
            self.refuse("customProperties.qualityThreshold", f"{value!r} is not a share from 0 to 1")
        return float(value)

    def _engine(self, value: object) -> Engine | None:
        if value not in (None, *get_args(Engine)):
            self.refuse("customProperties.engine", f"{value!r} is not {' or '.join(get_args(Engine))}")
        return cast("Engine | None", value)

    def _changes(self, value: object, fields: Mapping[str, Field]) -> ChangeStream | None:
        if value is None:
            return None
        where = "customProperties.changeStream"
        if not isinstance(value, dict) or set(value) != {"key", "version", "operation", "delete"}:
            self.refuse(where, "must have key (a list of fields), version, operation and delete, and nothing else")
        key = value["key"] if isinstance(value["key"], list) else [value["key"]]
        for name in (*key, value["version"], value["operation"]):
            self._known_field("changeStream", name, fields)
        return ChangeStream(tuple(key), value["version"], value["operation"], str(value["delete"]))

    def _anomaly(self, value: object) -> AnomalyRule | None:
        """Read the rule of anomalies. Its columns are silver's, so `pipeline.table_specs` checks that they exist."""
        if value is None:
            return None
        where = "customProperties.anomaly"
        if isinstance(value, str):
            measure, _, names = value.partition(" by ")
            value = {"measure": measure.strip(), "by": [name.strip() for name in names.split(",") if name.strip()]}
        known = {"measure", "by", "season", "sensitivity"}
        if not isinstance(value, dict) or set(value) - known or not value.get("measure") or not value.get("by"):
            self.refuse(
                where, "must be a text such as `value by device_id`, or have measure, by, season and sensitivity"
            )
        by = value["by"] if isinstance(value["by"], list) else [value["by"]]
        season, sensitivity = value.get("season", "day"), value.get("sensitivity", 1.0)
        if season not in get_args(Season):
            self.refuse(where, f"season {season!r}; allowed are {', '.join(get_args(Season))}")
        if isinstance(sensitivity, bool) or not isinstance(sensitivity, int | float) or not 0 < sensitivity <= 1000:
            self.refuse(
                where, f"sensitivity {sensitivity!r} is not a number of false alerts a week, above 0 and up to 1000"
            )
        return AnomalyRule(str(value["measure"]), tuple(map(str, by)), season, float(sensitivity))

    def _dialect(self, options: object) -> Dialect:
        where = "customProperties.dialect"
        if not isinstance(options, dict):
            self.refuse(where, f"{options!r} is no mapping of options")
        try:
            # YAML reads the keys `true` and `false` as booleans.
            return read_dialect(
                {str(name).lower() if isinstance(name, bool) else name: value for name, value in options.items()}
            )
        except ValueError as error:
            self.refuse(where, str(error))

    def _freshness(self, slas: Iterable[ServiceLevelAgreementProperty]) -> timedelta | None:
        for sla in slas:
            if sla.property == "freshness":
                return timedelta(seconds=self._amount("slaProperties.freshness", sla, float) * self._unit(sla))
        return None

    def _retention(self, slas: Iterable[ServiceLevelAgreementProperty]) -> Retention:
        days: dict[str, int] = {}
        for sla in slas:
            if sla.property not in ("retention", "freshness"):
                self.refuse("slaProperties", f"{sla.property!r} not known; allowed are freshness and retention")
            if sla.property == "retention":
                where = f"slaProperties.retention.{sla.element}"
                if sla.element not in Retention.__dataclass_fields__:
                    self.refuse(where, f"allowed elements are {', '.join(Retention.__dataclass_fields__)}")
                if self._unit(sla) != UNITS["d"]:
                    self.refuse(where, "must be in days (unit: d)")
                days[sla.element] = self._amount(where, sla, int)
        kept = Retention(**days)
        if kept.bronze is not None and (kept.silver is None or kept.bronze < kept.silver):
            self.refuse(
                "slaProperties.retention.bronze",
                f"{kept.bronze} days is shorter than silver's ({kept.silver or 'without limit'}); "
                "silver is computed from bronze, so keep bronze at least as long",
            )
        return kept

    def _unit(self, sla: ServiceLevelAgreementProperty) -> int:
        if sla.unit not in UNITS:
            self.refuse(f"slaProperties.{sla.property}", f"unit {sla.unit!r}; allowed are {', '.join(UNITS)}")
        return UNITS[sla.unit]

    def _amount(self, where: str, sla: ServiceLevelAgreementProperty, number: Callable[[Any], N]) -> N:
        try:
            amount = number(sla.value)
        except (TypeError, ValueError):
            self.refuse(where, f"{sla.value!r} is not a number")
        if amount <= 0:
            self.refuse(where, f"{sla.value!r} must be above zero")
        return amount
