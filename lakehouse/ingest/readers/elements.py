"""JSON objects out of text that is not one to a line: an array, pretty-printed objects, objects back to back."""

import re
from collections.abc import Iterator

from lakehouse.ingest.readers import json_text
from lakehouse.ingest.readers.json_text import Pairs
from lakehouse.ingest.readers.rows import Defect
from lakehouse.ingest.readers.text import KEPT_OF_LONG_ROW, MAX_ROW, escaped, too_long, unreadable
from lakehouse.ingest.readers.window import Window

_TOKEN = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"|[{}\[\]"]', re.DOTALL)
_SEPARATOR = re.compile(rb"[ \t\r\n,]*")
_JUNK = re.compile(rb"[^{\n]*")
_SIDE_BY_SIDE = re.compile(r"\}[ \t\r]*\{")


def are_elements(window: Window) -> bool:
    """Whether the text's first event is an element of an array, goes over several lines or has another behind it."""
    window.fill(MAX_ROW)
    text = window.data[window.at : window.at + MAX_ROW]
    if re.match(rb"[ \t\r\n]*\[[ \t\r\n]*(?:\{|\][ \t\r\n]*\Z)", text):
        return True
    start = _SEPARATOR.match(text)
    first = start.end() if start else 0
    if not text.startswith(b"{", first):
        return False
    end = object_end(text, first, len(text))
    newline = text.find(b"\n", first)
    if end < 0:
        return False
    return 0 <= newline < end or bool(re.compile(rb"[ \t\r]*\{").match(text, end))


def object_end(data: bytes, start: int, stop: int) -> int:
    """The place after the object that starts there, its brackets balanced; -1 when it does not end in `data[:stop]`."""
    depth = 0
    for token in _TOKEN.finditer(data, start, stop):
        mark = data[token.start()]
        if mark in b"{[":
            depth += 1
        elif mark in b"}]":
            depth -= 1
            if depth == 0:
                return token.end()
        elif token.end() - token.start() == 1:
            return -1
    return -1


def elements(window: Window) -> Iterator[bytes | Defect]:
    """The text of each object, in order; what stands between them and is not a separator is a defect."""
    window.keep_torn_line()
    opened = False
    while True:
        window.at = _after_separators(window)
        if not window.fill(1):
            return
        mark = window.data[window.at : window.at + 1]
        if mark == b"{":
            yield _object(window)
        elif (mark == b"[" and not opened) or (mark == b"]" and opened):
            opened = not opened
            window.at += 1
        else:
            yield _junk(window)


def _after_separators(window: Window) -> int:
    while window.fill(1):
        found = _SEPARATOR.match(window.data, window.at)
        window.at = found.end() if found else window.at
        if window.size:
            break
    return window.at


def _object(window: Window) -> bytes | Defect:
    ahead = 64 << 10
    while True:
        window.fill(ahead)
        end = object_end(window.data, window.at, min(len(window.data), window.at + MAX_ROW))
        if end >= 0:
            found, window.at = window.data[window.at : end], end
            return found
        if ahead > MAX_ROW or (window.ended and window.size <= ahead):
            break
        ahead *= 8
    if window.size > MAX_ROW and window.data.find(b"\n", window.at, window.at + MAX_ROW) < 0:
        defect = too_long(window.data[window.at : window.at + KEPT_OF_LONG_ROW])
        window.skip_line()
        return defect
    return _line(window)


def _junk(window: Window) -> Defect:
    window.fill(MAX_ROW)
    found = _JUNK.match(window.data, window.at, window.at + MAX_ROW)
    end = max(found.end() if found else 0, window.at + 1)
    raw, window.at = window.data[window.at : end], end
    return _not_json(raw)


def _line(window: Window) -> Defect:
    newline = window.data.find(b"\n", window.at)
    end = newline if newline >= 0 else len(window.data)
    raw, window.at = window.data[window.at : end], end
    return _not_json(raw)


def _not_json(raw: bytes) -> Defect:
    return unreadable(raw.strip()) or Defect("not JSON: this is no object", escaped(raw.strip()))


def side_by_side(line: str) -> list[str]:
    """The objects of a line that holds several and nothing else; else the line."""
    if not _SIDE_BY_SIDE.search(line):
        return [line]
    found, at = [], 0
    try:
        while at < len(line):
            value, end = json_text.parse_at(line, at)
            if not isinstance(value, Pairs):
                return [line]
            found.append(line[at:end].strip(json_text.BLANKS))
            at = end
    except (ValueError, RecursionError):
        return [line]
    return found
