"""Write typed Arrow values as text: ISO times, plain digits, nothing rounded. Which field they are is not known here."""

from datetime import date, datetime, time
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as pt

from lakehouse.landing.readers.arrow import Array, Scalar, text_array
from lakehouse.landing.readers.defects import escape
from lakehouse.landing.readers.json_text import Literal, Pairs, Value


def as_text(values: Array) -> Array:
    """Write values that are not nested as text. Bytes that are not UTF-8 are escaped."""
    type_ = values.type
    if isinstance(values, pa.DictionaryArray):
        return as_text(values.dictionary_decode())
    if isinstance(values, pa.ExtensionArray):
        if values.type.extension_name == "arrow.uuid":
            return text_array([str(value.as_py()) if value.is_valid else None for value in values])
        return as_text(values.storage)
    if _is_text(type_):
        text = values.cast(pa.string())
        return text if _is_valid_utf8(text) else _decode(text.cast(pa.binary()))
    if _is_bytes(type_):
        return _decode(values.cast(pa.binary()))
    if pt.is_timestamp(type_):
        return _timestamps(values)
    if pt.is_decimal(type_):
        return _decimals(values)
    if pt.is_float16(type_):
        values = values.cast(pa.float32())
    if pt.is_duration(type_) or pt.is_interval(type_):
        return pa.array([str(value) if value.is_valid else None for value in values], pa.string())
    return values.cast(pa.string())


def invalid_utf8_indices(values: Array) -> set[int]:
    """Find the texts and bytes that are not UTF-8, by index."""
    if isinstance(values, pa.DictionaryArray):
        return invalid_utf8_indices(values.dictionary_decode())
    if not (_is_text(values.type) or _is_bytes(values.type)) or _is_valid_utf8(values):
        return set()
    return {i for i, raw in enumerate(values.cast(pa.binary()).to_pylist()) if raw is not None and not _is_utf8(raw)}


def _is_text(type_: pa.DataType) -> bool:
    return bool(pt.is_string(type_) or pt.is_large_string(type_) or pt.is_string_view(type_))


def _is_bytes(type_: pa.DataType) -> bool:
    return bool(
        pt.is_binary(type_) or pt.is_large_binary(type_) or pt.is_binary_view(type_) or pt.is_fixed_size_binary(type_)
    )


def _is_valid_utf8(values: Array) -> bool:
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


def _decode(values: Array) -> Array:
    try:
        return values.cast(pa.string())
    except pa.ArrowInvalid:
        return pa.array([None if raw is None else escape(raw) for raw in values.to_pylist()], pa.string())


def _timestamps(values: Array) -> Array:
    unit, zone = values.type.unit, values.type.tz
    naive = values.cast(pa.int64()).cast(pa.timestamp(unit))
    micros = naive.cast(pa.timestamp("us"), safe=False)
    text = _iso(micros)
    if unit != "us":
        # A time that microseconds can't hold keeps its own digits. It is judged alone, so that its neighbours keep theirs.
        is_exact = pc.equal(micros.cast(naive.type, safe=False), naive)
        text = pc.if_else(is_exact, text, _iso(naive))
    with_zone: Array = pc.binary_join_element_wise(text, "Z", "") if zone else text
    return with_zone


def _iso(times: Array) -> Any:
    return pc.strftime(times, format="%Y-%m-%dT%H:%M:%S")


def _decimals(values: Array) -> Array:
    text = values.cast(pa.string())
    if not pc.any(pc.match_substring(text, "E")).as_py():
        return text
    return text_array([None if value is None else format(value, "f") for value in values.to_pylist()])


def as_json(values: Array) -> list[Value]:
    """Convert each value to JSON: numbers and booleans as such, nested values with their members, the rest as text."""
    type_ = values.type
    if pt.is_nested(type_):
        return [_nested_json(value) for value in values]
    texts = as_text(values).to_pylist()
    if pt.is_boolean(type_):
        return [None if text is None else text == "true" for text in texts]
    if pt.is_integer(type_) or pt.is_decimal(type_) or pt.is_floating(type_):
        return [None if text is None else _number(text) for text in texts]
    return list(texts)


def _number(text: str) -> Value:
    return text if text in ("nan", "inf", "-inf") else Literal(text)


def _nested_json(value: Scalar) -> Value:
    try:
        return python_json(value.as_py())
    except (ValueError, UnicodeDecodeError, OverflowError):
        if isinstance(value, pa.StructScalar) and value.is_valid:  # as_py refuses one that repeats a name
            members = (value[i] for i in range(value.type.num_fields))  # type: ignore[index]  # the stubs lack positions
            return Pairs((field.name, _nested_json(member)) for field, member in zip(value.type, members, strict=True))
        return str(value.type)


def python_json(value: object) -> Value:
    """Convert a Python value to JSON: times as ISO 8601, decimals with all their digits, bytes as text."""
    if value is None or isinstance(value, (bool, str)):
        return value
    if isinstance(value, bytes):
        return escape(value)
    if isinstance(value, (int, float)):
        return _number(repr(value))
    if isinstance(value, Decimal):
        return Literal(format(value, "f"))
    if isinstance(value, (datetime, date, time)):
        return value.isoformat()
    if isinstance(value, dict):
        return Pairs((str(name), python_json(member)) for name, member in value.items())
    if isinstance(value, (list, tuple)):
        return [python_json(item) for item in value]
    return str(value)
