"""One JSON text as one row of a contract, with every reason why it is not one. Many at once are in `events`."""

from lakehouse.contracts.model import Contract, Kind
from lakehouse.landing.readers import json_text
from lakehouse.landing.readers.json_text import Literal, Pairs, Value
from lakehouse.landing.readers.rows import Defect, Record, Row
from lakehouse.landing.readers.text import NUL


class Events:
    """Reads the events of one contract."""

    def __init__(self, contract: Contract) -> None:
        self._kinds: tuple[Kind, ...] = tuple(field.type.kind for field in contract.fields)
        self._names = tuple(field.name for field in contract.fields)
        self._places = {field.source: i for i, field in enumerate(contract.fields)}
        self._places |= {field.name: i for i, field in enumerate(contract.fields)}

    def row(self, text: str) -> Row:
        """The row that a line's text is; `text` is without its line end."""
        if json_text.is_too_deep(text):
            return Defect("nested too deeply", _shown(text))
        try:
            value = json_text.parse(text)
        except ValueError as problem:
            return Defect(f"not JSON: {problem}", _shown(text))
        return self._row(value, text)

    def _row(self, value: Value, text: str) -> Row:
        if not isinstance(value, Pairs):
            return Defect(f"expected an object, got {json_text.kind(value)}", _shown(text))
        values: list[str | None] = [None] * len(self._names)
        seen: set[str] = set()
        extra = Pairs()
        reasons: list[str] = []
        for key, held in value:
            place = self._places.get(key)
            name = key if place is None else self._names[place]
            if name in seen:
                reasons.append(f"{name} appears twice")
                continue
            seen.add(name)
            if place is None:
                extra.append((key, held))
                continue
            try:
                values[place] = _text(self._kinds[place], held)
            except _Unexpected as unexpected:
                reasons.append(f"{name}: {unexpected}")
        if _has_nul(value):
            reasons.append(NUL)
        row = Record(values, json_text.dump(extra) if extra else None)
        if "\\ud" in text.lower() and not _is_utf8(row):
            reasons.append("holds half of a surrogate pair")
        return Defect("; ".join(dict.fromkeys(reasons)), _shown(text)) if reasons else row


class _Unexpected(Exception):  # noqa: N818 (caught where it is raised from)
    """A value that a field of its kind can't hold."""


def _text(kind: Kind, value: Value) -> str | None:
    if value is None:
        return None
    if kind == "list":
        if not isinstance(value, list) or isinstance(value, Pairs):
            raise _Unexpected(f"expected an array of texts, got {json_text.kind(value)}")
        for item in value:
            if not isinstance(item, str) or isinstance(item, Literal):
                raise _Unexpected(f"expected an array of texts, got one that holds {json_text.kind(item)}")
        return json_text.dump(value)
    if isinstance(value, list):
        raise _Unexpected(f"expected {'text' if kind == 'string' else 'a single value'}, got {json_text.kind(value)}")
    if kind == "string" and (isinstance(value, Literal) or not isinstance(value, str)):
        raise _Unexpected(f"expected text, got {json_text.kind(value)}")
    return value if isinstance(value, str) else ("true" if value else "false")


def _has_nul(value: Value) -> bool:
    waiting = [value]
    while waiting:
        one = waiting.pop()
        if isinstance(one, str):
            if "\0" in one:
                return True
        elif isinstance(one, Pairs):
            waiting += (part for member in one for part in member)
        elif isinstance(one, list):
            waiting += one
    return False


def _is_utf8(row: Record) -> bool:
    try:
        "".join(held for held in (*row.values, row.extra) if held).encode()
    except UnicodeEncodeError:
        return False
    return True


def _shown(text: str) -> str:
    return text.replace("\0", "\\x00")
