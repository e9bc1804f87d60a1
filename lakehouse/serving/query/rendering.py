"""Query results as bytes: JSON, NDJSON, CSV or Arrow. Every value comes out exactly, by the type of its column.

`csv-escaped` is CSV for spreadsheets, in which text is never a formula.

Decimals are strings, and so are integers that a double can't hold, because most JSON readers would round them. Times are
ISO 8601 with a Z. NaN and infinity are null.
"""

import csv
import io
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain
from math import isfinite
from typing import Any, Literal, get_args

import msgspec
import pyarrow as pa

from lakehouse.errors import QueryError
from lakehouse.serving.query.json_values import timestamp_text

Format = Literal["json", "ndjson", "csv", "csv-escaped", "arrow"]
FORMATS: tuple[Format, ...] = get_args(Format)

MAX_EXACT_INTEGER = 2**53 - 1
"""A double holds every integer up to this one."""

FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")
"""The characters that begin a formula in a spreadsheet; the last four are full-width."""

BATCH_ROWS = 5_000
"""Rows that are rendered at a time."""

Convert = Callable[[Any], Any]


class Column(msgspec.Struct, frozen=True):
    """A column of a result."""

    name: str
    type: str
    """The SQL type."""


class Statistics(msgspec.Struct, frozen=True):
    """Statistics of one query."""

    rows: int
    truncated: bool
    """Whether there are more rows than the limit allowed."""
    seconds: float
    bytes: int
    """Size of the rows in memory, uncompressed."""
    snapshots: dict[str, str | None]
    """The snapshot id of each table that was read, as text because it has more digits than a double holds; null for a
    table without a snapshot. Tables that were read as of an earlier time are not listed."""


def render(table: pa.Table, columns: Sequence[Column], form: Format, statistics: Statistics) -> Iterator[bytes]:
    """Yield the rows in this format, piece by piece. Raises QueryError for a value that the format can't hold."""
    names = distinct_names(column.name for column in columns)
    match form:
        case "json":
            yield from _json(table, names, columns, statistics)
        case "ndjson":
            yield from (b"\n".join([*rows, b""]) for rows in json_objects(table, names))
        case "csv" | "csv-escaped":
            pieces = csv_rows([table], table.schema, names, escape_formulas=form == "csv-escaped")
            yield from (piece.encode() for piece in pieces)
        case "arrow":
            yield from _arrow(table, names)


def escape_formula(value: Any) -> Any:
    """Put a `'` before text that a spreadsheet would run as a formula, see https://owasp.org/www-community/attacks/CSV_Injection."""
    return f"'{value}" if isinstance(value, str) and value.startswith(FORMULA_STARTS) else value


def sql_type(kind: pa.DataType) -> str:
    """Return DuckDB's name of an Arrow type."""
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
    separator = b"\n"
    for rows in json_objects(table, names):
        yield separator + b",\n".join(rows)
        separator = b",\n"
    yield b'],\n"statistics":' + _ENCODER.encode(statistics) + b"}\n"


def json_objects(table: pa.Table, names: Sequence[str]) -> Iterator[list[bytes]]:
    """Yield the rows as JSON objects, some at a time. Raises QueryError for a value that JSON can't hold."""
    for values in _values(table):
        yield [_ENCODER.encode(dict(zip(names, row, strict=True))) for row in zip(*values, strict=True)]


def csv_rows(
    tables: Iterable[pa.Table], schema: pa.Schema, names: Sequence[str], *, escape_formulas: bool
) -> Iterator[str]:
    """Yield CSV with a header, piece by piece. Raises QueryError for a value that Python can't hold."""
    text = io.StringIO()
    writer = csv.writer(text)
    cells = [
        (lambda value: escape_formula(_cell(value))) if escape_formulas and sql_type(field.type) == "VARCHAR" else _cell
        for field in schema
    ]
    writer.writerow(map(escape_formula, names) if escape_formulas else names)
    for values in chain.from_iterable(map(_values, tables)):
        writer.writerows(
            zip(*[list(map(cell, column)) for cell, column in zip(cells, values, strict=True)], strict=True)
        )
        yield text.getvalue()
        text.seek(0)
        text.truncate()
    yield text.getvalue()


def text_cells(table: pa.Table) -> Iterator[list[str]]:
    """Yield each row's values as texts, those that CSV has. Raises QueryError for a value that Python can't hold."""
    for values in _values(table):
        for row in zip(*values, strict=True):
            yield ["" if value is None else str(_cell(value)) for value in row]


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
    """Yield the values of each column, BATCH_ROWS rows at a time."""
    converts = [_converter(field.type) for field in table.schema]
    for start in range(0, table.num_rows, BATCH_ROWS):
        part = table.slice(start, BATCH_ROWS)
        yield [_converted(part, number, convert) for number, convert in enumerate(converts)]


def _converted(part: pa.Table, number: int, convert: Convert | None) -> list[Any]:
    try:
        values: list[Any] = part.column(number).to_pylist()
    except (OverflowError, ValueError) as error:
        name = part.schema.field(number).name
        raise QueryError(f"{name}: {error}. Cast it to varchar to see it.") from error
    return values if convert is None else [None if value is None else convert(value) for value in values]


def _converter(kind: pa.DataType) -> Convert | None:
    """Return what turns a value of this type into JSON's; None where nothing is to do."""
    types = pa.types
    if types.is_integer(kind):
        return None if kind.bit_width <= 32 else _integer
    if types.is_decimal(kind):
        return _integer if kind.scale == 0 else (lambda value: f"{value:f}")
    if types.is_floating(kind):
        return lambda value: value if isfinite(value) else None
    if types.is_timestamp(kind):
        return timestamp_text
    if types.is_date(kind) or types.is_time(kind):
        return lambda value: value.isoformat()
    if types.is_binary(kind) or types.is_large_binary(kind):
        return lambda value: value.hex()
    if types.is_nested(kind):
        return _nested_converter(kind)
    if types.is_interval(kind):
        return _interval
    if types.is_dictionary(kind):
        return _converter(kind.value_type)
    return None if types.is_string(kind) or types.is_large_string(kind) or types.is_boolean(kind) else str


def _nested_converter(kind: pa.DataType) -> Convert:
    types = pa.types
    if types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind):
        convert_item = _nullable_converter(kind.value_type)
        return lambda value: [convert_item(item) for item in value]
    if types.is_map(kind):
        convert_key, convert_item = _nullable_converter(kind.key_type), _nullable_converter(kind.item_type)
        return lambda value: {str(convert_key(key)): convert_item(item) for key, item in value}
    if types.is_struct(kind):
        fields = {field.name: _nullable_converter(field.type) for field in kind}
        return lambda value: {name: fields[name](item) for name, item in value.items()}
    return str


def _nullable_converter(kind: pa.DataType) -> Convert:
    convert = _converter(kind)
    return lambda value: value if value is None or convert is None else convert(value)


def _integer(value: Any) -> int | str:
    whole = int(value)
    return whole if -MAX_EXACT_INTEGER <= whole <= MAX_EXACT_INTEGER else str(whole)


def _interval(value: pa.MonthDayNano) -> str:
    """Return an interval as DuckDB casts it to text, such as `1 year 2 days 03:00:00.5`."""
    years = int(value.months / 12)
    units = {"year": years, "month": value.months - 12 * years, "day": value.days}
    parts = [f"{count} {unit}{'' if abs(count) == 1 else 's'}" for unit, count in units.items() if count]
    if value.nanoseconds or not parts:
        seconds, microseconds = divmod(abs(value.nanoseconds) // 1000, 1_000_000)
        fraction = f".{microseconds:06}".rstrip("0") if microseconds else ""
        sign = "-" if value.nanoseconds < 0 else ""
        parts.append(f"{sign}{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}{fraction}")
    return " ".join(parts)


def distinct_names(names: Iterable[str]) -> list[str]:
    """Return the names with a number added to repeated ones."""
    distinct: dict[str, None] = {}
    for name in names:
        candidate, number = name, 0
        while candidate in distinct:
            number += 1
            candidate = f"{name}_{number}"
        distinct[candidate] = None
    return list(distinct)
