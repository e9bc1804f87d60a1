"""Where JSON objects end, told by brackets and quotes alone. Whether they are JSON is not judged here."""

import re
from collections.abc import Iterator

from lakehouse.landing.readers.json_text import DEEPEST
from lakehouse.landing.readers.text import MAX_ROW

BROKEN, UNFINISHED = -1, 0
"""No object ends there: whatever follows; unless more follows."""

_TOKEN = re.compile(rb'"[^"\\\n]*(?:\\.[^"\\\n]*)*"|[{\["]|[}\]][ \t\r\n]*')
_ANOTHER = re.compile(rb"[ \t\r]*(?=\{)")
_SIDE_BY_SIDE = re.compile(rb"\}[ \t\r]*\{")


def object_end(data: bytes, start: int, stop: int) -> int:
    """The place after the object that starts there, or BROKEN, or UNFINISHED when it does not end in `data[:stop]`.

    On one line brackets need only balance. One that goes over lines is BROKEN as soon as it shows that it is no JSON
    or is nested too deeply: else each of many broken lines would be looked for the end of through all that follow.
    """
    depth, on_first_line = 0, start
    for token in _TOKEN.finditer(data, start, stop):
        at, end = token.span()
        mark = data[at]
        if mark in b"{[":
            depth += 1
            if depth > DEEPEST:
                if data.find(b"\n", on_first_line, at) >= 0:
                    return BROKEN
                on_first_line = at
        elif mark in b"}]":
            depth -= 1
            if depth == 0:
                return at + 1
            if end < stop and data[end] not in b",]}" and data.find(b"\n", at, end) >= 0:
                return BROKEN
        elif end - at == 1:
            return BROKEN if data.find(b"\n", at, stop) >= 0 else UNFINISHED
    return UNFINISHED


def first_piece(data: bytes, start: int, stop: int) -> int:
    """Where an object on the line `data[start:stop]` ends that has another behind it; `stop` when there is none."""
    if data[start : start + 1] == b"{":
        end = object_end(data, start, min(stop, start + MAX_ROW))
        if end > 0 and _ANOTHER.match(data, end, stop):
            return end
    return stop


def next_piece(data: bytes, end: int) -> int:
    """Where the object begins that has its forerunner's end there."""
    found = _ANOTHER.match(data, end)
    return found.end() if found else end


def stand_side_by_side(text: bytes) -> bool:
    """Whether a line of the text may hold more than one object."""
    return _SIDE_BY_SIDE.search(text) is not None


def pieces(line: bytes) -> list[bytes]:
    """The objects that stand side by side on a line, one at least; what is no such object goes to the line's end."""
    return list(_pieces(line)) if stand_side_by_side(line) else [line]


def _pieces(line: bytes) -> Iterator[bytes]:
    start, at = 0, len(line) - len(line.lstrip(b" \t\r"))
    while (end := first_piece(line, at, len(line))) < len(line):
        yield line[at:end]
        start = at = next_piece(line, end)
    yield line[start:]
