"""JSON objects out of text that is not one to a line: an array, objects that go over several lines."""

import re
from collections.abc import Iterator

from lakehouse.landing.readers import json_text
from lakehouse.landing.readers.brackets import UNFINISHED, object_end, pieces
from lakehouse.landing.readers.buffer import Window
from lakehouse.landing.readers.rows import Defect
from lakehouse.landing.readers.text import KEPT_OF_LONG_ROW, MAX_ROW, escaped, too_long, unreadable

_ARRAY = re.compile(rb"[ \t\r\n]*\[[ \t\r\n]*(?:\{|\][ \t\r\n]*\Z)")
_SEPARATOR = re.compile(rb"[ \t\r\n,]*")
_JUNK = re.compile(rb"[^{\n]*")
_WITHIN = re.compile(rb"[{\[,:][ \t\r\n]*\n|\n[ \t\r\n]*[}\],:]")
"""Line ends that an object may go over: JSON has no value right behind another."""


GLIMPSE = 16 << 10
"""Bytes that are tried as JSON at once."""


def is_array(window: Window) -> bool:
    """Whether the text begins as an array of objects."""
    window.fill(MAX_ROW)
    return _ARRAY.match(window.data, window.at, window.at + MAX_ROW) is not None


def elements(window: Window) -> Iterator[bytes | Defect]:
    """The text of each object of an array, in order; what stands between them and is not a separator is a defect."""
    window.keep_torn_line()
    opened = False
    while True:
        _skip_separators(window)
        if not window.fill(1):
            return
        mark = window.data[window.at : window.at + 1]
        if mark == b"{":
            yield _element(window)
        elif (mark == b"[" and not opened) or (mark == b"]" and opened):
            opened = not opened
            window.at += 1
        else:
            yield _junk(window)


def are_apart(text: bytes) -> bool:
    """Whether no object that is JSON goes over a line end of the text."""
    return _WITHIN.search(text) is None


def spread(window: Window, size: int) -> Iterator[bytes]:
    """The rows of the next lines, about so many bytes, where an object may go over several.

    One that does must be JSON; else its first line is a row like any line, and so is the next. Stops before a line
    longer than MAX_ROW.
    """
    end = window.place + size
    while window.place < end and window.fill(1) and (stop := window.line_end(MAX_ROW)) is not None:
        line = window.data[window.at : stop].removesuffix(b"\r")
        if line.strip(json_text.BLANKS.encode()):
            *whole, last = pieces(line)
            yield from whole
            window.at += len(line) - len(last.lstrip(b" \t\r"))
            if found := _over_lines(window):
                yield found
                _skip_separators(window)
                continue
            yield last
        window.skip_line()


def _over_lines(window: Window) -> bytes | None:
    found = _object(window) if window.data[window.at : window.at + 1] == b"{" else b""
    if b"\n" not in found:
        return None
    window.at += len(found)
    return found


def _skip_separators(window: Window) -> None:
    while window.fill(1):
        found = _SEPARATOR.match(window.data, window.at)
        window.at = found.end() if found else window.at
        if window.size:
            break


def _object(window: Window) -> bytes:
    """The object that begins at hand, which is JSON if it goes over lines; nothing when there is none."""
    window.fill(GLIMPSE)
    try:
        end = json_text.value_end(window.data[window.at : window.at + GLIMPSE])
        if end is not None:
            return window.data[window.at : window.at + end]
    except ValueError:
        newline = window.data.find(b"\n", window.at, window.at + MAX_ROW)
        if newline >= 0:
            end = object_end(window.data, window.at, newline)
            return window.data[window.at : max(end, window.at)]
    return _long_object(window)


def _long_object(window: Window) -> bytes:
    ahead = 64 << 10
    while True:
        window.fill(ahead)
        stop = min(len(window.data), window.at + MAX_ROW)
        end = object_end(window.data, window.at, stop)
        if end > 0:
            found = window.data[window.at : end]
            return found if b"\n" not in found or json_text.is_sound(found) else b""
        if end != UNFINISHED or ahead > MAX_ROW or (window.ended and window.size <= ahead):
            return b""
        ahead *= 8


def _element(window: Window) -> bytes | Defect:
    if found := _object(window):
        window.at += len(found)
        return found
    end = window.line_end(MAX_ROW)
    if end is None:
        defect = too_long(window.data[window.at : window.at + KEPT_OF_LONG_ROW])
        window.skip_line()
        return defect
    raw, window.at = window.data[window.at : end], end
    return _not_json(raw)


def _junk(window: Window) -> Defect:
    window.fill(MAX_ROW)
    found = _JUNK.match(window.data, window.at, window.at + MAX_ROW)
    end = max(found.end() if found else 0, window.at + 1)
    raw, window.at = window.data[window.at : end], end
    return _not_json(raw)


def _not_json(raw: bytes) -> Defect:
    return unreadable(raw.strip()) or Defect("not JSON: this is no object", escaped(raw.strip()))
