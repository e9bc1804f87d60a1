"""Values as JSON holds them. Whole answers, by the types of their columns, are the affair of `rendering`."""

from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime, time
from decimal import Decimal
from math import isfinite
from typing import Any


def to_json(value: Any) -> Any:
    """A value as JSON holds it: decimals and times as text, times in UTC with a Z, no NaN."""
    # By the very type, for of one look-up a hundred values are asked about.
    return _PLAIN.get(type(value), str)(value)


def _same(value: Any) -> Any:
    return value


def _float(value: float) -> float | None:
    return value if isfinite(value) else None


def _moment(value: datetime) -> str:
    moment = value.astimezone(UTC).replace(tzinfo=None) if value.tzinfo else value
    return moment.isoformat() + "Z"


def _mapping(value: Mapping[Any, Any]) -> dict[str, Any]:
    return {str(key): to_json(item) for key, item in value.items()}


def _items(value: list[Any] | tuple[Any, ...]) -> list[Any]:
    return [to_json(item) for item in value]


_PLAIN: Mapping[type, Callable[[Any], Any]] = {
    **dict.fromkeys((bool, int, str, type(None)), _same),
    **dict.fromkeys((date, time), lambda value: value.isoformat()),
    **dict.fromkeys((list, tuple), _items),
    float: _float,
    Decimal: lambda value: f"{value:f}",
    datetime: _moment,
    dict: _mapping,
    bytes: lambda value: value.hex(),
}
