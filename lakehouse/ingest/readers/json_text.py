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


def parse(text: str) -> Value:
    """The one value in the text. Raises ValueError saying what is wrong; RecursionError when nested too deeply."""
    value, end = parse_at(text, 0)
    if end != len(text):
        raise ValueError(f"something follows the value, at character {end + 1}")
    return value


def parse_at(text: str, start: int) -> tuple[Value, int]:
    """The value that starts there, and the place of the next thing that is not blank."""
    begin = after_blanks(text, start)
    try:
        value, end = _DECODER.raw_decode(text, begin)
    except StopIteration:  # what raw_decode lets through on an empty text
        raise ValueError("nothing there") from None
    except json.JSONDecodeError as problem:
        raise ValueError(f"{problem.msg}, at character {problem.pos + 1}") from None
    return value, after_blanks(text, end)


def after_blanks(text: str, start: int) -> int:
    """The place of the next character that is not blank, or the end."""
    found = _BLANK.match(text, start)
    return found.end() if found else start


def dump(value: Value) -> str:
    """The value as compact JSON text."""
    if isinstance(value, Literal):
        return value
    if isinstance(value, Pairs):
        return "{" + ",".join(f"{quoted(name)}:{dump(held)}" for name, held in value) + "}"
    if isinstance(value, list):
        return "[" + ",".join(dump(item) for item in value) + "]"
    if isinstance(value, str):
        return quoted(value)
    return json.dumps(value)


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
