"""Single values as JSON. See `rendering` for whole results, which it converts by the types of their columns."""

from collections.abc import Callable, Mapping
from datetime import date, datetime, time
from decimal import Decimal
from math import isfinite
from typing import Any

from lakehouse.contracts.times import naive_utc


def to_json(value: Any) -> Any:
    """Return a value as JSON holds it: decimals and times as text, times in UTC with a Z, NaN and infinity as null."""
    # By the exact type, because a hundred values of one look-up are converted.
    return _CONVERTERS.get(type(value), str)(value)


def timestamp_text(value: datetime) -> str:
    """Return a time as ISO 8601 in UTC with a Z. A time without a zone is UTC."""
    return naive_utc(value).isoformat() + "Z"


def _same(value: Any) -> Any:
    return value


def _float(value: float) -> float | None:
    return value if isfinite(value) else None


def _mapping(value: Mapping[Any, Any]) -> dict[str, Any]:
    return {str(key): to_json(item) for key, item in value.items()}


def _items(value: list[Any] | tuple[Any, ...]) -> list[Any]:
    return [to_json(item) for item in value]


_CONVERTERS: Mapping[type, Callable[[Any], Any]] = {
    **dict.fromkeys((bool, int, str, type(None)), _same),
    **dict.fromkeys((date, time), lambda value: value.isoformat()),
    **dict.fromkeys((list, tuple), _items),
    float: _float,
    Decimal: lambda value: f"{value:f}",
    datetime: timestamp_text,
    dict: _mapping,
    bytes: lambda value: value.hex(),
}
