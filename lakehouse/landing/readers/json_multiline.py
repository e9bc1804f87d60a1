"""Read JSON objects that do not stand one to a line: the elements of an array, and objects that span lines."""

import re
from collections.abc import Iterator

from lakehouse.landing.readers import json_text
from lakehouse.landing.readers.buffer import TextBuffer
from lakehouse.landing.readers.defects import (
    KEPT_BYTES_OF_LONG_ROW,
    MAX_ROW_BYTES,
    Defect,
    escape,
    too_long_row,
    unreadable_text,
)
from lakehouse.landing.readers.json_brackets import UNFINISHED, object_end, split_objects

_BLANKS = rb"[ \t\r\n]*+"
_FLAT_VALUE = rb'(?:null|true|false|-?[0-9][0-9.eE+-]*+|"(?:[^"\\\n]|\\.)*+"|\[' + _BLANKS + rb"\])"
"""A value that is no object and holds none. Quantifiers are possessive because nothing is to be tried twice."""

_EMPTY_ARRAYS = rb"(?:\[" + _BLANKS + rb"\]" + _BLANKS + rb")*+"
_ARRAY = re.compile(
    _BLANKS
    + rb"(?=\[)"
    + _EMPTY_ARRAYS
    + rb"(?:\["
    + _BLANKS
    + rb"(?:"
    + _FLAT_VALUE
    + _BLANKS
    + rb","
    + _BLANKS
    + rb")*+\{|\Z)"
)
_AFTER_ELEMENT = re.compile(rb"[ \t\r\n]*(?:[,\]]|\Z)")
_FLAT_ELEMENT = re.compile(_FLAT_VALUE)
_SEPARATOR = re.compile(rb"[ \t\r\n,]*")
_UNEXPECTED = re.compile(rb"[^{\n]*")
_LINE_END_IN_OBJECT = re.compile(rb"[{\[,:][ \t\r\n]*\n|\n[ \t\r\n]*[}\],:]")
"""Line ends that an object may span, because JSON has no value right behind another."""

_FIRST_TRY_BYTES = 16 << 10
"""How much text is tried with the JSON parser before brackets are counted."""


_SHORT_BYTES = 256
"""How much of it is tried before, where there may be very many values."""


def is_array(buffer: TextBuffer) -> bool:
    """Return whether the text begins as an array of which some element is an object, or is nothing but empty arrays."""
    buffer.fill(MAX_ROW_BYTES)
    return _ARRAY.match(buffer.data, buffer.at, buffer.at + MAX_ROW_BYTES) is not None


def array_elements(buffer: TextBuffer) -> Iterator[bytes | Defect]:
    """Read the text of each element of arrays, in order. Unexpected text between them is a defect."""
    buffer.keep_torn_line()
    is_open = False
    while True:
        _skip_separators(buffer)
        if not buffer.fill(1):
            return
        mark = buffer.data[buffer.at : buffer.at + 1]
        if mark == b"{":
            yield _element(buffer)
        elif (mark == b"[" and not is_open) or (mark == b"]" and is_open):
            is_open = not is_open
            buffer.at += 1
        else:
            yield _unexpected(buffer)


def spans_no_lines(text: bytes) -> bool:
    """Return whether surely no valid JSON object in the text spans a line end."""
    return _LINE_END_IN_OBJECT.search(text) is None


def rows_across_lines(buffer: TextBuffer, size: int) -> Iterator[bytes]:
    """Read the rows of the next lines, about `size` bytes, of which an object may span several.

    An object that spans lines must be JSON. Otherwise its first line is a row like any line, and so is the next. Stops
    before a line longer than MAX_ROW_BYTES.
    """
    end = buffer.offset + size
    while buffer.offset < end and buffer.fill(1) and (stop := buffer.line_end(MAX_ROW_BYTES)) is not None:
        line = buffer.data[buffer.at : stop].removesuffix(b"\r")
        if line.strip(json_text.BLANKS.encode()):
            *complete, last = split_objects(line)
            yield from complete
            buffer.at += len(line) - len(last.lstrip(b" \t\r"))
            if spanning := _object_across_lines(buffer):
                yield spanning
                _skip_separators(buffer)
                continue
            yield last
        buffer.skip_line()


def _object_across_lines(buffer: TextBuffer) -> bytes | None:
    text = _object(buffer) if buffer.data[buffer.at : buffer.at + 1] == b"{" else b""
    if b"\n" not in text:
        return None
    buffer.at += len(text)
    return text


def _skip_separators(buffer: TextBuffer) -> None:
    while buffer.fill(1):
        separator = _SEPARATOR.match(buffer.data, buffer.at)
        buffer.at = separator.end() if separator else buffer.at
        if buffer.size:
            break


def _object(buffer: TextBuffer) -> bytes:
    """Find the object at hand; empty if there is none. If it spans lines, it is JSON."""
    buffer.fill(_FIRST_TRY_BYTES)
    try:
        end = json_text.value_end(buffer.data[buffer.at : buffer.at + _FIRST_TRY_BYTES])
        if end is not None:
            return buffer.data[buffer.at : buffer.at + end]
    except ValueError:
        newline = buffer.data.find(b"\n", buffer.at, buffer.at + MAX_ROW_BYTES)
        if newline >= 0:
            end = object_end(buffer.data, buffer.at, newline)
            return buffer.data[buffer.at : max(end, buffer.at)]
    return _long_object(buffer)


def _long_object(buffer: TextBuffer) -> bytes:
    size = 64 << 10
    while True:
        buffer.fill(size)
        stop = min(len(buffer.data), buffer.at + MAX_ROW_BYTES)
        end = object_end(buffer.data, buffer.at, stop)
        if end > 0:
            text = buffer.data[buffer.at : end]
            return text if b"\n" not in text or json_text.is_sound(text) else b""
        if end != UNFINISHED or size > MAX_ROW_BYTES or (buffer.ended and buffer.size <= size):
            return b""
        size *= 8


def _element(buffer: TextBuffer) -> bytes | Defect:
    if text := _object(buffer):
        buffer.at += len(text)
        return text
    end = buffer.line_end(MAX_ROW_BYTES)
    if end is None:
        defect = too_long_row(buffer.data[buffer.at : buffer.at + KEPT_BYTES_OF_LONG_ROW])
        buffer.skip_line()
        return defect
    raw, buffer.at = buffer.data[buffer.at : end], end
    return _not_an_object(raw)


def _unexpected(buffer: TextBuffer) -> bytes | Defect:
    buffer.fill(MAX_ROW_BYTES)
    value_end = _other_value_end(buffer)
    if value_end and _AFTER_ELEMENT.match(buffer.data, value_end):
        value, buffer.at = buffer.data[buffer.at : value_end], value_end
        return value
    text = _UNEXPECTED.match(buffer.data, buffer.at, buffer.at + MAX_ROW_BYTES)
    end = max(text.end() if text else 0, buffer.at + 1)
    raw, buffer.at = buffer.data[buffer.at : end], end
    return _not_an_object(raw)


def _other_value_end(buffer: TextBuffer) -> int | None:
    """Find the end of the value at hand, which is no object. None if it is no JSON, or is long."""
    if flat := _FLAT_ELEMENT.match(buffer.data, buffer.at):
        return flat.end()
    for size in (_SHORT_BYTES, _FIRST_TRY_BYTES):
        try:
            end = json_text.value_end(buffer.data[buffer.at : buffer.at + size])
        except ValueError:
            return None
        if end is not None:
            return buffer.at + end
    return None


def _not_an_object(raw: bytes) -> Defect:
    return unreadable_text(raw.strip()) or Defect("not JSON: this is no object", escape(raw.strip()))
