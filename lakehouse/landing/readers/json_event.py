"""Read one JSON text as a row of a contract, with every reason why it is not one. See `json_batch` for many at once."""

import re

from lakehouse.contracts.casts import THOUSANDS
from lakehouse.contracts.model import Contract, Kind
from lakehouse.landing.readers import json_text
from lakehouse.landing.readers.defects import NUL, Defect, escape_nul
from lakehouse.landing.readers.json_text import Literal, Pairs, Value
from lakehouse.landing.readers.rows import DEFECT, RAW, Record, Row

_MAY_BE_THOUSANDS = re.compile(THOUSANDS)


class EventParser:
    """Parse events of one contract, one at a time."""

    def __init__(self, contract: Contract) -> None:
        self._kinds: tuple[Kind, ...] = tuple(field.type.kind for field in contract.fields)
        self._names = tuple(field.name for field in contract.fields)
        self._places = {field.source: i for i, field in enumerate(contract.fields)}
        self._places |= {field.name: i for i, field in enumerate(contract.fields)}
        self._alike = {name.lower(): i for name, i in self._places.items()}

    def parse(self, text: str) -> Row:
        """Parse a line, given without its line end."""
        if json_text.is_too_deep(text):
            return Defect("nested too deeply", escape_nul(text))
        try:
            value = json_text.parse(text)
        except ValueError as error:
            return Defect(f"not JSON: {error}", escape_nul(text))
        return self._row(value, text)

    def _row(self, value: Value, text: str) -> Row:
        if defect := _sent_defect(value):
            return defect
        if not isinstance(value, Pairs):
            return Defect(f"expected an object, got {json_text.kind_of(value)}", escape_nul(text))
        values: list[str | None] = [None] * len(self._names)
        seen: set[str] = set()
        extra = Pairs()
        reasons: list[str] = []
        for key, member in value:
            place = self._places.get(key)
            # A key that differs from a field's name by case alone is unknown, but beside that field it is ambiguous.
            alike = self._alike.get(key.lower()) if place is None else place
            name = key if alike is None else self._names[alike]
            if name in seen:
                reasons.append(f"{name} appears twice")
                continue
            seen.add(name)
            if place is None:
                extra.append((key, member))
                continue
            try:
                values[place] = _field_text(self._kinds[place], member)
            except _UnexpectedValueError as error:
                reasons.append(f"{name}: {error}")
        if _has_nul(value):
            reasons.append(NUL)
        row = Record(values, json_text.dump(extra) if extra else None)
        if "\\ud" in text.lower() and not _is_utf8(row):
            reasons.append("holds half of a surrogate pair")
        return Defect("; ".join(dict.fromkeys(reasons)), escape_nul(text)) if reasons else row


def _sent_defect(value: Value) -> Defect | None:
    """Return the defect that a sender's reader found, which is an object of its reason and its text alone."""
    if not isinstance(value, Pairs) or [name for name, _ in value] != [DEFECT, RAW]:
        return None
    reason, raw = (member for _, member in value)
    texts = all(type(member) is str for member in (reason, raw if raw is not None else ""))
    return Defect(escape_nul(reason), raw and escape_nul(raw)) if texts else None


class _UnexpectedValueError(Exception):
    """A value that a field of its kind can't hold."""


def _field_text(kind: Kind, value: Value) -> str | None:
    if value is None:
        return None
    if kind == "list":
        return _list_text(value)
    if isinstance(value, list):
        expected = "text" if kind == "string" else "a single value"
        raise _UnexpectedValueError(f"expected {expected}, got {json_text.kind_of(value)}")
    if kind == "string" and (isinstance(value, Literal) or not isinstance(value, str)):
        raise _UnexpectedValueError(f"expected text, got {json_text.kind_of(value)}")
    if kind == "integer" and isinstance(value, Literal) and _MAY_BE_THOUSANDS.fullmatch(value):
        return value.partition(".")[0]  # the point of a JSON number never marks thousands
    return value if isinstance(value, str) else ("true" if value else "false")


def _list_text(value: Value) -> str:
    if not isinstance(value, list) or isinstance(value, Pairs):
        raise _UnexpectedValueError(f"expected an array of texts, got {json_text.kind_of(value)}")
    for item in value:
        if not isinstance(item, str) or isinstance(item, Literal):
            raise _UnexpectedValueError(f"expected an array of texts, got one that holds {json_text.kind_of(item)}")
    return json_text.dump(value)


def _has_nul(value: Value) -> bool:
    waiting = [value]
    while waiting:
        part = waiting.pop()
        if isinstance(part, str):
            if "\0" in part:
                return True
        elif isinstance(part, Pairs):
            waiting += (name_or_value for member in part for name_or_value in member)
        elif isinstance(part, list):
            waiting += part
    return False


def _is_utf8(row: Record) -> bool:
    try:
        "".join(value for value in (*row.values, row.extra) if value).encode()
    except UnicodeEncodeError:
        return False
    return True
