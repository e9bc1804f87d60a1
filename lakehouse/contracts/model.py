"""A contract as plain data. See `odcs` for how it is read from YAML, and `sql` for the SQL that enforces it."""

from dataclasses import dataclass, replace
from datetime import date, timedelta
from decimal import Decimal
from typing import Literal

from lakehouse.contracts.dialect import DEFAULT_DIALECT, Dialect
from lakehouse.contracts.time_formats import TimeFormat, read_time_format

Engine = Literal["duckdb", "spark"]

Kind = Literal["string", "timestamp", "integer", "double", "decimal", "boolean", "list"]

DEFAULT_HISTORY_START = date(2010, 1, 1)
"""The first day of a stream's history, unless its contract names another."""

DEFAULT_QUALITY_THRESHOLD = 0.95
"""The share of valid rows that a silver partition needs to pass the quality gate, unless the contract names another."""

MAX_TEXT_BYTES = 1 << 20
"""The longest text that any field may hold, in bytes of UTF-8. A contract can only allow less."""


@dataclass(frozen=True, slots=True)
class FieldType:
    """A field's type. `decimal` has a precision and a scale, `list` holds strings, and `timestamp` is UTC."""

    kind: Kind
    precision: int = 0
    scale: int = 0

    def __str__(self) -> str:
        return f"decimal({self.precision},{self.scale})" if self.kind == "decimal" else self.kind

    @property
    def sql(self) -> str:
        """The type's name in SQL."""
        names: dict[Kind, str] = {
            "string": "varchar",
            "timestamp": "timestamp",
            "integer": "bigint",
            "double": "double",
            "decimal": f"decimal({self.precision},{self.scale})",
            "boolean": "boolean",
            "list": "varchar[]",
        }
        return names[self.kind]


@dataclass(frozen=True, slots=True)
class Field:
    """One field of an event, with its rules. `source` is the field's name in files that name it differently."""

    name: str
    type: FieldType
    source: str
    description: str = ""
    required: bool = False
    key: bool = False
    minimum: Decimal | None = None
    maximum: Decimal | None = None
    exclusive_minimum: Decimal | None = None
    exclusive_maximum: Decimal | None = None
    enum: tuple[str, ...] = ()
    pattern: str | None = None
    min_length: int | None = None
    max_length: int | None = None
    format: tuple[TimeFormat, ...] = ()
    """The formats in which times may come, besides ISO 8601."""
    default_timezone: str | None = None
    """The zone of times that have none; by default UTC."""
    is_truncated: bool = False
    """Whether digits of a time beyond microseconds are cut off."""
    is_rounded: bool = False
    """Whether a decimal is rounded to its scale."""
    classification: str = ""
    """How confidential the values are, such as `restricted`; empty where the contract does not say."""

    def written_in(self, dialect: Dialect) -> "Field":
        """Return the field whose values are written as a dialect says, besides what the field says itself."""
        if self.type.kind == "timestamp":
            formats = tuple(map(read_time_format, dialect.time_format))
            return replace(
                self,
                format=tuple(dict.fromkeys((*self.format, *formats))),
                default_timezone=dialect.time_zone or self.default_timezone,
                is_truncated=dialect.truncate_times,
            )
        return replace(self, is_rounded=dialect.round_decimals) if self.type.kind == "decimal" else self


@dataclass(frozen=True, slots=True)
class Retention:
    """How many days each layer is kept after its partition's date. None is without limit."""

    landing: int | None = 7
    realtime: int | None = 7
    bronze: int | None = None
    silver: int | None = None
    gold: int | None = None


@dataclass(frozen=True, slots=True)
class ChangeStream:
    """A stream of changes: the fields that hold what changes, its version and the operation, and the value that deletes."""

    key: tuple[str, ...]
    version: str
    operation: str
    delete: str


Season = Literal["none", "day", "week"]
"""After which time a measure repeats itself."""


@dataclass(frozen=True, slots=True)
class AnomalyRule:
    """The measure in whose series anomalies are detected: a column of silver, with those that tell series apart."""

    measure: str
    by: tuple[str, ...]
    season: Season = "day"
    sensitivity: float = 1.0
    """How many false alerts are tolerated for each series and week."""

    def __str__(self) -> str:
        return f"{self.measure} by {', '.join(self.by)} season {self.season} sensitivity {self.sensitivity:g}"


@dataclass(frozen=True, slots=True)
class Contract:
    """The rules of one stream's events, who owns the stream, and how long it is kept."""

    stream: str
    version: str
    description: str
    owner: str
    fields: tuple[Field, ...]
    event_time: str
    history_start: date = DEFAULT_HISTORY_START
    quality_threshold: float = DEFAULT_QUALITY_THRESHOLD
    freshness: timedelta | None = None
    retention: Retention = Retention()
    entity: str | None = None
    changes: ChangeStream | None = None
    anomaly: AnomalyRule | None = None
    dialect: Dialect = DEFAULT_DIALECT
    tags: tuple[str, ...] = ()
    engine: Engine | None = None
    """The engine of the stream's large runs; None leaves it to the settings."""

    @property
    def key(self) -> tuple[str, ...]:
        """The names of the key's fields. Two events with the same key are one event."""
        return tuple(field.name for field in self.fields if field.key)

    def field(self, name: str) -> Field:
        """Get a field by name. Raises KeyError if there is none."""
        for field in self.fields:
            if field.name == name:
                return field
        raise KeyError(name)

    def written_in(self, dialect: Dialect) -> "Contract":
        """Return the contract of rows that are written in a dialect."""
        return replace(self, dialect=dialect, fields=tuple(field.written_in(dialect) for field in self.fields))
