"""Find where JSON objects end by their brackets and quotes alone. Whether they are JSON is not judged here."""

import re
from collections.abc import Iterator

from lakehouse.landing.readers.defects import MAX_ROW_BYTES
from lakehouse.landing.readers.json_text import MAX_DEPTH

BROKEN, UNFINISHED = -1, 0
"""No object ends in this text: BROKEN whatever follows, UNFINISHED unless more follows."""

_TOKEN = re.compile(rb'"[^"\\\n]*(?:\\.[^"\\\n]*)*"|[{\["]|[}\]][ \t\r\n]*')
_NEXT_OBJECT = re.compile(rb"[ \t\r]*(?=\{)")
_ADJACENT = re.compile(rb"\}[ \t\r]*\{")


def object_end(data: bytes, start: int, stop: int) -> int:
    """Find the position after the object that starts at `start`, in `data[:stop]`. Else BROKEN or UNFINISHED.

    On one line brackets need only balance. An object that spans lines is BROKEN as soon as it shows that it is no JSON
    or is nested too deeply. Otherwise each of many broken lines would be searched through all lines that follow.
    """
    depth, line_depth_start = 0, start
    for token in _TOKEN.finditer(data, start, stop):
        at, end = token.span()
        mark = data[at]
        if mark in b"{[":
            depth += 1
            if depth > MAX_DEPTH:
                if data.find(b"\n", line_depth_start, at) >= 0:
                    return BROKEN
                line_depth_start = at
        elif mark in b"}]":
            depth -= 1
            if depth == 0:
                return at + 1
            if end < stop and data[end] not in b",]}" and data.find(b"\n", at, end) >= 0:
                return BROKEN
        elif end - at == 1:
            return BROKEN if data.find(b"\n", at, stop) >= 0 else UNFINISHED
    return UNFINISHED


def first_object_end(data: bytes, start: int, stop: int) -> int:
    """Find where the first of several objects on the line `data[start:stop]` ends. `stop` if there is only one."""
    if data[start : start + 1] == b"{":
        end = object_end(data, start, min(stop, start + MAX_ROW_BYTES))
        if end > 0 and _NEXT_OBJECT.match(data, end, stop):
            return end
    return stop


def next_object_start(data: bytes, end: int) -> int:
    """Find where the next object on the line starts after one that ends at `end`."""
    blanks = _NEXT_OBJECT.match(data, end)
    return blanks.end() if blanks else end


def may_have_adjacent_objects(text: bytes) -> bool:
    """Return whether a line of the text may hold more than one object."""
    return _ADJACENT.search(text) is not None


def split_objects(line: bytes) -> list[bytes]:
    """Split a line into the objects on it, at least one. Text that is no object goes with the last, to the line's end."""
    return list(_split(line)) if may_have_adjacent_objects(line) else [line]


def _split(line: bytes) -> Iterator[bytes]:
    start, at = 0, len(line) - len(line.lstrip(b" \t\r"))
    while (end := first_object_end(line, at, len(line))) < len(line):
        yield line[at:end]
        start = at = next_object_start(line, end)
    yield line[start:]
