"""A contract as plain data. How it is read from YAML is in `odcs`, the SQL that enforces it in `sql`."""

from dataclasses import dataclass
from datetime import date, timedelta
from decimal import Decimal
from typing import Literal

Kind = Literal["string", "timestamp", "integer", "double", "decimal", "boolean", "list"]

FIRST_DAY = date(2010, 1, 1)
"""The history start of a stream whose contract names none."""

QUALITY_THRESHOLD = 0.95
"""The share of valid rows below which a silver partition is not replaced, unless the contract says otherwise."""

MAX_TEXT_BYTES = 1 << 20
"""The longest text, in bytes of UTF-8, that a field may hold, unless its contract allows fewer characters."""


@dataclass(frozen=True, slots=True)
class FieldType:
    """A field's type: `decimal` has a precision and a scale, `list` is a list of texts, times are UTC."""

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
    """One field of an event. `source` is its header in files that name it otherwise; bounds are inclusive or not."""

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


@dataclass(frozen=True, slots=True)
class Retention:
    """Days that each layer is kept after its partition's date; None is without limit."""

    landing: int | None = 7
    realtime: int | None = 7
    bronze: int | None = None
    silver: int | None = None
    gold: int | None = None


@dataclass(frozen=True, slots=True)
class ChangeStream:
    """A stream of changes: which fields name the thing that changes, its version, and the operation that ends it."""

    key: tuple[str, ...]
    version: str
    operation: str
    delete: str


@dataclass(frozen=True, slots=True)
class Contract:
    """What one stream's events must be, who owns it and how long it is kept."""

    stream: str
    version: str
    description: str
    owner: str
    fields: tuple[Field, ...]
    event_time: str
    history_start: date = FIRST_DAY
    quality_threshold: float = QUALITY_THRESHOLD
    freshness: timedelta | None = None
    retention: Retention = Retention()
    entity: str | None = None
    changes: ChangeStream | None = None
    tags: tuple[str, ...] = ()

    @property
    def key(self) -> tuple[str, ...]:
        """The names of the key's fields: two events that agree in them are one event."""
        return tuple(field.name for field in self.fields if field.key)

    def field(self, name: str) -> Field:
        """The field of that name; KeyError when there is none."""
        for field in self.fields:
            if field.name == name:
                return field
        raise KeyError(name)
