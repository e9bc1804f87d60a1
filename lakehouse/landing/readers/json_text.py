"""JSON kept to the letter: numbers as they were written, repeated keys seen, written back with the same values."""

import json
import re
from typing import Any, NoReturn


class Literal(str):
    """A number as it stood in the text."""

    __slots__ = ()


class Pairs(list[Any]):
    """An object's members as pairs of name and value, repeated names and all."""


Value = str | bool | None | list[Any]
"""A text, a Literal, a boolean, null, an array of values or Pairs."""


def _refused(word: str) -> NoReturn:
    raise ValueError(f"{word} is not JSON")


_DECODER = json.JSONDecoder(
    object_pairs_hook=Pairs, parse_float=Literal, parse_int=Literal, parse_constant=_refused, strict=True
)

BLANKS = " \t\r\n"
_BLANK = re.compile(r"[ \t\r\n]*")

DEEPEST = 500
"""How many objects and arrays may be within one another; far less than the recursion that Python has room for."""

_BRACKET = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"|[{}\[\]"]', re.DOTALL)
_PLAIN = json.JSONDecoder(parse_float=str, parse_int=str)
_LENIENT = json.JSONDecoder(parse_float=str, parse_int=str, strict=False)


def is_too_deep(text: str) -> bool:
    """Whether more than DEEPEST brackets are open somewhere: `parse` is for other texts."""
    if text.count("{") + text.count("[") <= DEEPEST:
        return False
    depth = 0
    for token in _BRACKET.finditer(text):
        mark = text[token.start()]
        if mark in "{[":
            depth += 1
            if depth > DEEPEST:
                return True
        elif mark in "}]":
            depth -= 1
        elif token.end() - token.start() == 1:  # a quote that is not closed: no parser gets further
            break
    return False


def is_sound(raw: bytes) -> bool:
    """Whether bytes are JSON but for what a text in it may hold: invalid UTF-8, NUL and numbers such as NaN pass."""
    text = raw.decode("latin-1")
    if is_too_deep(text):
        return False
    try:
        _LENIENT.decode(text)
    except ValueError:
        return False
    return True


def value_end(start: bytes) -> int | None:
    """The place after the JSON value that starts there; None when that can't be told from so little, or by this.

    Raises ValueError when none starts there, whatever follows. What is too deep or not UTF-8 counts as for `is_sound`.
    """
    text = start.decode("latin-1")
    try:
        _, end = _PLAIN.raw_decode(text)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    except json.JSONDecodeError as problem:
        near_the_end = problem.pos + len("-Infinity") >= len(text)
        if near_the_end or problem.msg.startswith(("Unterminated string", "Invalid control character")):
            return None
        raise
    return None if is_too_deep(text[:end]) else end


def parse(text: str) -> Value:
    """The one value in the text, which is not too deep. Raises ValueError saying what is wrong."""
    value: Value
    try:
        value, end = _DECODER.raw_decode(text, _after_blanks(text, 0))
    except StopIteration:  # what raw_decode lets through on an empty text
        raise ValueError("nothing there") from None
    except json.JSONDecodeError as problem:
        raise ValueError(f"{problem.msg}, at character {problem.pos + 1}") from None
    end = _after_blanks(text, end)
    if end != len(text):
        raise ValueError(f"something follows the value, at character {end + 1}")
    return value


def _after_blanks(text: str, start: int) -> int:
    found = _BLANK.match(text, start)
    return found.end() if found else start


def dump(value: Value) -> str:
    """The value as compact JSON text, however deep."""
    written: list[str] = []
    waiting: list[Value] = [value]
    while waiting:
        one = waiting.pop()
        if isinstance(one, Literal):
            written.append(one)
        elif isinstance(one, list):
            waiting += reversed(_parts(one))
        else:
            written.append(quoted(one) if isinstance(one, str) else json.dumps(one))
    return "".join(written)


def _parts(value: list[Any]) -> list[Value]:
    """What an object or array is written as: its values, and all else as literals."""
    opening, closing = "{}" if isinstance(value, Pairs) else "[]"
    parts: list[Value] = [Literal(opening)]
    for held in value:
        if len(parts) > 1:
            parts.append(Literal(","))
        if isinstance(value, Pairs):
            name, held = held
            parts.append(Literal(quoted(name) + ":"))
        parts.append(held)
    return [*parts, Literal(closing)]


_ESCAPE = re.compile(r"\\u00[01][0-9a-f]")


def quoted(text: str) -> str:
    """The text as a JSON string, escaped only where it must be, in upper case as DuckDB does it."""
    written = json.dumps(text, ensure_ascii=False)
    return _ESCAPE.sub(lambda escape: escape[0][:4] + escape[0][4:].upper(), written) if "\\u00" in written else written


def kind(value: Value) -> str:
    """What to call the value in a message."""
    if isinstance(value, Literal):
        return "a number"
    if isinstance(value, bool):
        return "a boolean"
    if isinstance(value, Pairs):
        return "an object"
    if isinstance(value, list):
        return "an array"
    return "null" if value is None else "a text"
