"""CSV records out of bytes, one at a time: RFC 4180, and what to do with lines that break it. Speed is in `blocks`.

A line ends in LF or CRLF. A field that starts with a quote ends at its closing quote, `""` inside being one; quotes
elsewhere in a field are text, as blanks around a field are.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass

from lakehouse.landing.readers.rows import Defect, Record, Row
from lakehouse.landing.readers.text import MAX_ROW, unreadable

QUOTE, CR = 0x22, 0x0D

UNCLOSED = "a quote is opened and never closed"
AFTER_QUOTE = "there is text between a closing quote and the next delimiter"


@dataclass(frozen=True, slots=True)
class Layout:
    """How rows are laid out.

    `places` holds for each field of the contract the column it is in, or None; `extras` the unknown columns and the
    names they are kept under; `defect` what makes every row a defect.
    """

    delimiter: bytes
    width: int
    places: tuple[int | None, ...]
    extras: tuple[tuple[int, str], ...]
    defect: str | None


@dataclass(frozen=True, slots=True)
class Split:
    """A record's fields in bytes and where the next record starts; `broken` says why the quotes in it are wrong."""

    fields: list[bytes]
    end: int
    broken: str | None = None


def line_end(data: bytes, start: int, stop: int) -> tuple[int, int]:
    """Where the text of the line ends and where the next line starts, in `data[:stop]`."""
    newline = data.find(b"\n", start, stop)
    after = newline + 1
    if newline < 0:
        newline = after = stop
    return (newline - 1 if newline > start and data[newline - 1] == CR else newline), after


def split(data: bytes, start: int, stop: int, delimiter: bytes) -> Split:
    """The record that starts there, in `data[:stop]`."""
    text, after = line_end(data, start, stop)
    if data.find(b'"', start, text) < 0:
        return Split(data[start:text].split(delimiter), after)
    fields: list[bytes] = []
    at, line, next_line = start, text, after
    while True:
        if at < stop and data[at] == QUOTE:
            close = _closing_quote(data, at + 1, stop)
            if close < 0:
                return Split(fields, after, UNCLOSED)
            fields.append(data[at + 1 : close].replace(b'""', b'"'))
            at = close + 1
            line, next_line = line_end(data, at, stop)
        else:
            end = data.find(delimiter, at, line)
            end = line if end < 0 else end
            fields.append(data[at:end])
            at = end
        if at == line:
            return Split(fields, next_line)
        if data[at : at + 1] != delimiter:
            return Split(fields, after, AFTER_QUOTE)
        at += 1


def _closing_quote(data: bytes, start: int, stop: int) -> int:
    at = data.find(b'"', start, stop)
    while at >= 0 and at + 1 < stop and data[at + 1] == QUOTE:
        at = data.find(b'"', at + 2, stop)
    return at


def rows(layout: Layout, data: bytes, start: int, stop: int) -> Iterator[tuple[Row | None, int]]:
    """The rows of the records that start in `data[start:stop]`, each with the place after it; None for a blank line.

    `data` goes on for MAX_ROW bytes after `stop`, or to the end of the object. Ends early at a line longer than that.
    """
    delimiter, width = layout.delimiter, layout.width
    at, limits = start, [len(data)]
    row: Row
    while at < stop:
        if at >= limits[-1] and len(limits) > 1:
            limits.pop()
            continue
        text, after = line_end(data, at, limits[-1])
        if text - at > MAX_ROW:
            return
        line = data[at:text]
        if _is_blank(line, layout):
            at = after
            yield None, at
            continue
        if b'"' not in line and (simple := _simple_row(layout, line)):
            at = after
            yield simple, at
            continue
        found = split(data, at, limits[-1], delimiter)
        if found.broken or found.end - at > MAX_ROW:
            # Only this line is lost: whatever its quote swallowed is read on its own.
            row, at = _defect(line, found.broken or UNCLOSED), after
        elif len(found.fields) == width or layout.defect:
            row, at = _row(layout, data[at : found.end], found), found.end
        elif found.end > after and _swallowed_rows(data, after, found.end, layout):
            limits.append(found.end)
            row, at = _ragged(line, found, width), after
        else:
            row, at = _ragged(data[at : found.end], found, width), found.end
        yield row, at


def _is_blank(line: bytes, layout: Layout) -> bool:
    return not line or (layout.width > 1 and not line.strip(b" \t") and layout.delimiter not in line)


def _swallowed_rows(data: bytes, start: int, stop: int, layout: Layout) -> bool:
    """Whether a stray quote took whole rows into a field: one of these lines is a row by itself."""
    while start < stop:
        _, after = line_end(data, start, stop)
        found = split(data, start, after, layout.delimiter)
        if after < stop and not found.broken and len(found.fields) == layout.width:
            return True
        start = after
    return False


def _simple_row(layout: Layout, line: bytes) -> Record | None:
    """The row of a line without quotes; None when there is anything to look at more closely."""
    if layout.defect or layout.extras or b"\0" in line:
        return None
    try:
        fields = line.decode().split(layout.delimiter.decode())
    except UnicodeDecodeError:
        return None
    if len(fields) != layout.width:
        return None
    return Record([None if place is None else fields[place] or None for place in layout.places])


def _row(layout: Layout, raw: bytes, found: Split) -> Row:
    if layout.defect:
        return _defect(raw, layout.defect)
    try:
        fields = [field.decode() or None for field in found.fields]
    except UnicodeDecodeError:
        return _defect(raw)
    if b"\0" in raw:
        return _defect(raw)
    values = [None if place is None else fields[place] for place in layout.places]
    extra = extra_of({name: fields[place] for place, name in layout.extras}) if layout.extras else None
    return Record(values, extra)


def _ragged(raw: bytes, found: Split, width: int) -> Defect:
    return _defect(raw, f"{len(found.fields)} fields where the header has {width}")


def _defect(raw: bytes, *reasons: str) -> Defect:
    raw = raw.removesuffix(b"\n").removesuffix(b"\r")
    if unread := unreadable(raw):
        return Defect("; ".join((unread.reason, *reasons)), unread.raw)
    return Defect("; ".join(reasons), raw.decode())


def extra_of(columns: dict[str, str | None]) -> str | None:
    """Unknown columns that hold something, as a JSON object."""
    held = {name: value for name, value in columns.items() if value is not None}
    return json.dumps(held, ensure_ascii=False, separators=(",", ":")) if held else None
