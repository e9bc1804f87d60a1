"""Typed Arrow values as text: ISO times, plain digits, nothing rounded. Which field they are is not known here."""

from contextlib import suppress
from datetime import date, datetime, time
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as pt

from lakehouse.landing.readers.arrow import Array, Scalar, texts
from lakehouse.landing.readers.json_text import Literal, Pairs, Value
from lakehouse.landing.readers.text import escaped


def is_nested(kind: pa.DataType) -> bool:
    """Whether values of the type hold others."""
    return bool(pt.is_nested(kind))


def as_text(values: Array) -> Array:
    """Values that are not nested as text; in bytes, what is not UTF-8 is escaped."""
    kind = values.type
    if isinstance(values, pa.DictionaryArray):
        return as_text(values.dictionary_decode())
    if isinstance(values, pa.ExtensionArray):
        if values.type.extension_name == "arrow.uuid":
            return texts([str(value.as_py()) if value.is_valid else None for value in values])
        return as_text(values.storage)
    if pt.is_string(kind) or pt.is_large_string(kind) or pt.is_string_view(kind):
        return _checked(values.cast(pa.string()))
    if pt.is_binary(kind) or pt.is_large_binary(kind) or pt.is_binary_view(kind) or pt.is_fixed_size_binary(kind):
        return _decoded(values.cast(pa.binary()))
    if pt.is_timestamp(kind):
        return _timestamps(values)
    if pt.is_decimal(kind):
        return _decimals(values)
    if pt.is_float16(kind):
        values = values.cast(pa.float32())
    if pt.is_duration(kind) or pt.is_interval(kind):
        return pa.array([str(value) if value.is_valid else None for value in values], pa.string())
    return values.cast(pa.string())


def invalid_utf8(values: Array) -> set[int]:
    """The places of texts and bytes that are not UTF-8."""
    kind = values.type
    if isinstance(values, pa.DictionaryArray):
        return invalid_utf8(values.dictionary_decode())
    if not (pt.is_string(kind) or pt.is_large_string(kind) or pt.is_string_view(kind) or _is_bytes(kind)):
        return set()
    if _is_valid(values):
        return set()
    return {i for i, raw in enumerate(values.cast(pa.binary()).to_pylist()) if raw is not None and not _is_utf8(raw)}


def _is_bytes(kind: pa.DataType) -> bool:
    return bool(
        pt.is_binary(kind) or pt.is_large_binary(kind) or pt.is_binary_view(kind) or pt.is_fixed_size_binary(kind)
    )


def _is_valid(values: Array) -> bool:
    try:
        (values.cast(pa.binary()).cast(pa.string()) if _is_bytes(values.type) else values).validate(full=True)
    except pa.ArrowInvalid:
        return False
    return True


def _is_utf8(raw: bytes) -> bool:
    try:
        raw.decode()
    except UnicodeDecodeError:
        return False
    return True


def _checked(values: Array) -> Array:
    return values if _is_valid(values) else _decoded(values.cast(pa.binary()))


def _decoded(values: Array) -> Array:
    try:
        return values.cast(pa.string())
    except pa.ArrowInvalid:
        return pa.array([None if raw is None else escaped(raw) for raw in values.to_pylist()], pa.string())


def _timestamps(values: Array) -> Array:
    unit, zone = values.type.unit, values.type.tz
    naive = values.cast(pa.int64()).cast(pa.timestamp(unit))
    if unit in ("s", "ms"):
        naive = naive.cast(pa.timestamp("us"))
    elif unit == "ns":
        with suppress(pa.ArrowInvalid):  # nine digits then: nothing is rounded here
            naive = naive.cast(pa.timestamp("us"))
    written: Any = pc.strftime(naive, format="%Y-%m-%dT%H:%M:%S")  # type: ignore[arg-type]
    joined: Array = pc.binary_join_element_wise(written, "Z", "") if zone else written
    return joined


def _decimals(values: Array) -> Array:
    written = values.cast(pa.string())
    if not pc.any(pc.match_substring(written, "E")).as_py():
        return written
    return texts([None if value is None else format(value, "f") for value in values.to_pylist()])


def as_json(values: Array) -> list[Value]:
    """Each value as JSON: numbers and booleans as such, nested ones with what they hold, the rest as text."""
    kind = values.type
    if is_nested(kind):
        return [_json(value) for value in values]
    written = as_text(values).to_pylist()
    if pt.is_boolean(kind):
        return [None if text is None else text == "true" for text in written]
    if pt.is_integer(kind) or pt.is_decimal(kind) or pt.is_floating(kind):
        return [None if text is None else _number(text) for text in written]
    return list(written)


def _number(text: str) -> Value:
    return text if text in ("nan", "inf", "-inf") else Literal(text)


def _json(value: Scalar) -> Value:
    try:
        return _plain(value.as_py())
    except (ValueError, UnicodeDecodeError, OverflowError):
        return str(value.type)


def _plain(value: object) -> Value:
    if value is None or isinstance(value, (bool, str)):
        return value
    if isinstance(value, bytes):
        return escaped(value)
    if isinstance(value, (int, float)):
        return _number(repr(value))
    if isinstance(value, Decimal):
        return Literal(format(value, "f"))
    if isinstance(value, (datetime, date, time)):
        return value.isoformat()
    if isinstance(value, dict):
        return Pairs((str(name), _plain(held)) for name, held in value.items())
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return str(value)
