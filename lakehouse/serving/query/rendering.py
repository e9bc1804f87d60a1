"""Rows as bytes: JSON, NDJSON, CSV or Arrow. Values come out exactly, by the types of their columns.

Decimals are strings, and so are integers that a double can't hold, for most readers of JSON would round them; times are
ISO 8601 with a Z; what is no number in JSON (NaN, infinity) is null.
"""

import csv
import io
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from math import isfinite
from typing import Any, Literal, get_args

import msgspec
import pyarrow as pa

from lakehouse.errors import QueryError

Format = Literal["json", "ndjson", "csv", "arrow"]
FORMATS: tuple[Format, ...] = get_args(Format)

EXACT = 2**53 - 1
"""The largest integer up to which a double holds every one."""

ROWS = 5_000
"""Rows that are turned into bytes at a time."""

Convert = Callable[[Any], Any]


class Column(msgspec.Struct, frozen=True):
    """A column of an answer."""

    name: str
    type: str
    """As SQL has it."""


class Statistics(msgspec.Struct, frozen=True):
    """What it took to answer."""

    rows: int
    truncated: bool
    """Whether there are more rows than the limit let through."""
    seconds: float
    bytes: int
    """Of the rows, uncompressed, in memory."""
    snapshots: dict[str, str | None]
    """The tables that were read, and the snapshot of each as text, for it has more digits than a double holds; null for one
    that never held anything. A past that was asked for is not among them."""


def render(table: pa.Table, columns: Sequence[Column], form: Format, statistics: Statistics) -> Iterator[bytes]:
    """The rows in this format, piece by piece. Raises QueryError for a value that the format can't hold."""
    names = _distinct([column.name for column in columns])
    match form:
        case "json":
            yield from _json(table, names, columns, statistics)
        case "ndjson":
            yield from (b"\n".join([*map(_ENCODER.encode, rows), b""]) for rows in _objects(table, names))
        case "csv":
            yield from _csv(table, names)
        case "arrow":
            yield from _arrow(table, names)


def sql_type(kind: pa.DataType) -> str:
    """DuckDB's name of an Arrow type."""
    if pa.types.is_decimal(kind):
        return f"DECIMAL({kind.precision},{kind.scale})"
    if pa.types.is_timestamp(kind):
        return "TIMESTAMP WITH TIME ZONE" if kind.tz else "TIMESTAMP"
    if pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        return f"{sql_type(kind.value_type)}[]"
    if pa.types.is_map(kind):
        return f"MAP({sql_type(kind.key_type)}, {sql_type(kind.item_type)})"
    if pa.types.is_struct(kind):
        return "STRUCT(" + ", ".join(f"{field.name} {sql_type(field.type)}" for field in kind) + ")"
    if pa.types.is_dictionary(kind):
        return sql_type(kind.value_type)
    return _TYPES.get(str(kind), str(kind).upper())


_TYPES = {
    "string": "VARCHAR", "large_string": "VARCHAR", "string_view": "VARCHAR", "bool": "BOOLEAN", "int8": "TINYINT",
    "int16": "SMALLINT", "int32": "INTEGER", "int64": "BIGINT", "uint8": "UTINYINT", "uint16": "USMALLINT",
    "uint32": "UINTEGER", "uint64": "UBIGINT", "float": "FLOAT", "double": "DOUBLE", "date32[day]": "DATE",
    "time64[us]": "TIME", "binary": "BLOB", "month_day_nano_interval": "INTERVAL",
}  # fmt: skip
_ENCODER = msgspec.json.Encoder()


def _json(table: pa.Table, names: Sequence[str], columns: Sequence[Column], statistics: Statistics) -> Iterator[bytes]:
    described = [Column(name, column.type) for name, column in zip(names, columns, strict=True)]
    yield b'{"columns":' + _ENCODER.encode(described) + b',"rows":['
    before = b"\n"
    for rows in _objects(table, names):
        yield before + b",\n".join(map(_ENCODER.encode, rows))
        before = b",\n"
    yield b'],\n"statistics":' + _ENCODER.encode(statistics) + b"}\n"


def _objects(table: pa.Table, names: Sequence[str]) -> Iterator[list[dict[str, Any]]]:
    for values in _values(table):
        yield [dict(zip(names, row, strict=True)) for row in zip(*values, strict=True)]


def _csv(table: pa.Table, names: Sequence[str]) -> Iterator[bytes]:
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(names)
    for values in _values(table):
        writer.writerows(zip(*[list(map(_cell, column)) for column in values], strict=True))
        yield text.getvalue().encode()
        text.seek(0)
        text.truncate()
    yield text.getvalue().encode()


def _arrow(table: pa.Table, names: Sequence[str]) -> Iterator[bytes]:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.rename_columns(list(names)).schema) as writer:
        writer.write_table(table.rename_columns(list(names)))
    yield sink.getvalue().to_pybytes()


def _cell(value: Any) -> Any:
    if isinstance(value, dict | list):
        return _ENCODER.encode(value).decode()
    return value if not isinstance(value, bool) else str(value).lower()


def _values(table: pa.Table) -> Iterator[list[list[Any]]]:
    """The columns' values, some rows at a time."""
    converts = [_converter(field.type) for field in table.schema]
    for start in range(0, table.num_rows, ROWS):
        part = table.slice(start, ROWS)
        yield [_converted(part, number, convert) for number, convert in enumerate(converts)]


def _converted(part: pa.Table, number: int, convert: Convert | None) -> list[Any]:
    try:
        values: list[Any] = part.column(number).to_pylist()
    except (OverflowError, ValueError) as problem:
        name = part.schema.field(number).name
        raise QueryError(f"{name}: {problem}; cast it to varchar to see it.") from problem
    return values if convert is None else [None if value is None else convert(value) for value in values]


def _converter(kind: pa.DataType) -> Convert | None:
    """What makes a value of this type JSON's; None where nothing has to be done."""
    types = pa.types
    if types.is_integer(kind):
        return None if kind.bit_width <= 32 else _integer
    if types.is_decimal(kind):
        return _integer if kind.scale == 0 else (lambda value: f"{value:f}")
    if types.is_floating(kind):
        return lambda value: value if isfinite(value) else None
    if types.is_timestamp(kind):
        return _moment
    if types.is_date(kind) or types.is_time(kind):
        return lambda value: value.isoformat()
    if types.is_binary(kind) or types.is_large_binary(kind):
        return lambda value: value.hex()
    if types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind):
        item = _all(kind.value_type)
        return lambda value: [item(one) for one in value]
    if types.is_map(kind):
        key, held = _all(kind.key_type), _all(kind.item_type)
        return lambda value: {str(key(name)): held(one) for name, one in value}
    if types.is_struct(kind):
        fields = {field.name: _all(field.type) for field in kind}
        return lambda value: {name: fields[name](one) for name, one in value.items()}
    if types.is_dictionary(kind):
        return _converter(kind.value_type)
    return None if types.is_string(kind) or types.is_large_string(kind) or types.is_boolean(kind) else str


def _all(kind: pa.DataType) -> Convert:
    convert = _converter(kind)
    return lambda value: value if value is None or convert is None else convert(value)


def _integer(value: Any) -> int | str:
    whole = int(value)
    return whole if -EXACT <= whole <= EXACT else str(whole)


def _moment(value: datetime) -> str:
    moment = value.astimezone(UTC).replace(tzinfo=None) if value.tzinfo else value
    return moment.isoformat() + "Z"


def _distinct(names: Sequence[str]) -> list[str]:
    """The names, a number added to those that were there before."""
    found: dict[str, None] = {}
    for name in names:
        new, number = name, 0
        while new in found:
            number += 1
            new = f"{name}_{number}"
        found[new] = None
    return list(found)
