"""JSON kept to the letter: numbers as they were written, repeated keys visible, written back with the same values."""

import json
import re
from typing import Any, NoReturn


class Literal(str):
    """A number as it was written."""

    __slots__ = ()


class Pairs(list[Any]):
    """An object's members as (name, value) pairs, including repeated names."""


Value = str | bool | None | list[Any]
"""A text, a Literal, a boolean, null, an array of values or Pairs."""


def _refuse(word: str) -> NoReturn:
    raise ValueError(f"{word} is not JSON")


_DECODER = json.JSONDecoder(
    object_pairs_hook=Pairs, parse_float=Literal, parse_int=Literal, parse_constant=_refuse, strict=True
)

BLANKS = " \t\r\n"
_BLANK = re.compile(r"[ \t\r\n]*")

MAX_DEPTH = 500
"""How many objects and arrays may be nested, far below the recursion limit of Python."""

_BRACKET = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"|[{}\[\]"]', re.DOTALL)
_PLAIN = json.JSONDecoder(parse_float=str, parse_int=str)
_LENIENT = json.JSONDecoder(parse_float=str, parse_int=str, strict=False)


def is_too_deep(text: str) -> bool:
    """Return whether more than MAX_DEPTH brackets are open somewhere. `parse` must not be given such a text."""
    if text.count("{") + text.count("[") <= MAX_DEPTH:
        return False
    depth = 0
    for token in _BRACKET.finditer(text):
        mark = text[token.start()]
        if mark in "{[":
            depth += 1
            if depth > MAX_DEPTH:
                return True
        elif mark in "}]":
            depth -= 1
        elif token.end() - token.start() == 1:  # an unclosed quote: no parser gets past it
            break
    return False


def is_sound(raw: bytes) -> bool:
    """Return whether bytes are JSON apart from what a text may hold: invalid UTF-8, NUL and numbers such as NaN pass."""
    text = raw.decode("latin-1")
    if is_too_deep(text):
        return False
    try:
        _LENIENT.decode(text)
    except ValueError:
        return False
    return True


def value_end(start: bytes) -> int | None:
    """Find where the JSON value ends that these bytes start with. None if these bytes are too few to tell.

    Raises ValueError if they start no JSON value, whatever follows. Depth and UTF-8 are judged as in `is_sound`.
    """
    text = start.decode("latin-1")
    try:
        _, end = _PLAIN.raw_decode(text)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    except json.JSONDecodeError as error:
        near_the_end = error.pos + len("-Infinity") >= len(text)
        if near_the_end or error.msg.startswith(("Unterminated string", "Invalid control character")):
            return None
        raise
    return None if is_too_deep(text[:end]) else end


def parse(text: str) -> Value:
    """Parse the one value in a text that is not too deep. Raises ValueError saying what is wrong."""
    value: Value
    try:
        value, end = _DECODER.raw_decode(text, _skip_blanks(text, 0))
    except StopIteration:  # raw_decode lets it through on an empty text
        raise ValueError("nothing there") from None
    except json.JSONDecodeError as error:
        raise ValueError(f"{error.msg}, at character {error.pos + 1}") from None
    end = _skip_blanks(text, end)
    if end != len(text):
        raise ValueError(f"something follows the value, at character {end + 1}")
    return value


def _skip_blanks(text: str, start: int) -> int:
    blanks = _BLANK.match(text, start)
    return blanks.end() if blanks else start


def dump(value: Value) -> str:
    """Write a value as compact JSON. Works without recursion, so at any depth."""
    written: list[str] = []
    waiting: list[Value] = [value]
    while waiting:
        part = waiting.pop()
        if isinstance(part, Literal):
            written.append(part)
        elif isinstance(part, list):
            waiting += reversed(_parts(part))
        else:
            written.append(quote(part) if isinstance(part, str) else json.dumps(part))
    return "".join(written)


def _parts(value: list[Any]) -> list[Value]:
    """Take an object or array apart into its values, with brackets, names and commas as literals."""
    opening, closing = "{}" if isinstance(value, Pairs) else "[]"
    parts: list[Value] = [Literal(opening)]
    for member in value:
        if len(parts) > 1:
            parts.append(Literal(","))
        if isinstance(value, Pairs):
            name, member = member
            parts.append(Literal(quote(name) + ":"))
        parts.append(member)
    return [*parts, Literal(closing)]


_ESCAPE = re.compile(r"\\u00[01][0-9a-f]")


def quote(text: str) -> str:
    """Write a text as a JSON string, escaped only where it must be and in upper case, as DuckDB does."""
    written = json.dumps(text, ensure_ascii=False)
    return _ESCAPE.sub(lambda escape: escape[0][:4] + escape[0][4:].upper(), written) if "\\u00" in written else written


def kind_of(value: Value) -> str:
    """Name the value's kind for a message."""
    if isinstance(value, Literal):
        return "a number"
    if isinstance(value, bool):
        return "a boolean"
    if isinstance(value, Pairs):
        return "an object"
    if isinstance(value, list):
        return "an array"
    return "null" if value is None else "a text"
