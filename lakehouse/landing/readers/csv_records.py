"""Parse CSV records one at a time, by RFC 4180 and with recovery from lines that break it. See `csv_blocks` for speed.

A line ends in LF, CRLF or CR. A field that starts with a quote ends at its closing quote; `""` inside it is one quote.
Quotes elsewhere in a field are text, and so are blanks around a field. A record is broken if such quotes may be those of a
quoted field that lost the delimiter before it, because its values are then shifted.
"""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass

from lakehouse.landing.readers.defects import MAX_ROW_BYTES, Defect, unreadable_text
from lakehouse.landing.readers.rows import Record, Row

QUOTE, CR = 0x22, 0x0D

UNCLOSED_QUOTE = "a quote is opened and never closed"
TEXT_AFTER_QUOTE = "there is text between a closing quote and the next delimiter"
STRAY_QUOTES = "quotes within fields look like those of a field whose delimiter is lost"

_LINE_END = re.compile(rb"\r\n?|\n")


@dataclass(frozen=True, slots=True)
class ColumnLayout:
    """Which column holds which field.

    `places` holds the column of each contract field, or None. `extras` holds each unknown column with the name it is
    kept under. `defect` is a reason that applies to every row.
    """

    delimiter: bytes
    width: int
    places: tuple[int | None, ...]
    extras: tuple[tuple[int, str], ...]
    defect: str | None


@dataclass(frozen=True, slots=True)
class RawRecord:
    """A record's fields as bytes, and where the next record starts. `broken` is the reason if its quotes are wrong."""

    fields: list[bytes]
    end: int
    broken: str | None = None


def line_end(data: bytes, start: int, stop: int) -> tuple[int, int]:
    """Find where the text of the line ends and where the next line starts, in `data[:stop]`."""
    end = _LINE_END.search(data, start, stop)
    return end.span() if end else (stop, stop)


def split_record(data: bytes, start: int, stop: int, delimiter: bytes) -> RawRecord:
    """Split the record that starts at `start`, in `data[:stop]`."""
    text_end, after = line_end(data, start, stop)
    if data.find(b'"', start, text_end) < 0:
        return RawRecord(data[start:text_end].split(delimiter), after)
    fields: list[bytes] = []
    at, line_stop, next_line = start, text_end, after
    stray: list[bytes] = []
    while True:
        if at < stop and data[at] == QUOTE:
            close = _closing_quote(data, at + 1, stop)
            if close < 0:
                return RawRecord(fields, after, UNCLOSED_QUOTE)
            fields.append(data[at + 1 : close].replace(b'""', b'"'))
            at = close + 1
            line_stop, next_line = line_end(data, at, stop)
        else:
            end = data.find(delimiter, at, line_stop)
            end = line_stop if end < 0 else end
            fields.append(data[at:end])
            if fields[-1].count(b'"') % 2:
                stray.append(fields[-1])
            at = end
        if at == line_stop:
            broken = STRAY_QUOTES if _are_of_one_field(stray) or (stray and next_line > after) else None
            return RawRecord(fields, next_line, broken)
        if data[at : at + 1] != delimiter:
            return RawRecord(fields, after, TEXT_AFTER_QUOTE)
        at += 1


def _are_of_one_field(stray: list[bytes]) -> bool:
    """Whether these plain fields with an odd quote each may be the start and the end of one quoted field."""
    return any(field.endswith(b'"') for field in stray[1:])


def _closing_quote(data: bytes, start: int, stop: int) -> int:
    at = data.find(b'"', start, stop)
    while at >= 0 and at + 1 < stop and data[at + 1] == QUOTE:
        at = data.find(b'"', at + 2, stop)
    return at


def csv_rows(layout: ColumnLayout, data: bytes, start: int, stop: int) -> Iterator[tuple[Row | None, int]]:
    """Parse the records that start in `data[start:stop]`. Yields each row and where it ends; None for a blank line.

    `data` must reach MAX_ROW_BYTES beyond `stop`, or to the end of the object. Stops early at a line longer than that.
    """
    delimiter, width = layout.delimiter, layout.width
    at, limits = start, [len(data)]
    row: Row
    while at < stop:
        if at >= limits[-1] and len(limits) > 1:
            limits.pop()
            continue
        text_end, after = line_end(data, at, limits[-1])
        if text_end - at > MAX_ROW_BYTES:
            return
        line = data[at:text_end]
        if _is_blank(line, layout):
            at = after
            yield None, at
            continue
        if b'"' not in line and (simple := _simple_row(layout, line)):
            at = after
            yield simple, at
            continue
        record = split_record(data, at, limits[-1], delimiter)
        if record.broken or record.end - at > MAX_ROW_BYTES:
            # Only this line is lost. The lines that its quote swallowed are read on their own.
            row, at = _defect(line, record.broken or UNCLOSED_QUOTE), after
        elif len(record.fields) == width or layout.defect:
            row, at = _row(layout, data[at : record.end], record), record.end
        elif record.end > after and _has_swallowed_rows(data, after, record.end, layout):
            limits.append(record.end)
            row, at = _ragged(line, record, width), after
        else:
            row, at = _ragged(data[at : record.end], record, width), record.end
        yield row, at


def _is_blank(line: bytes, layout: ColumnLayout) -> bool:
    return not line or (layout.width > 1 and not line.strip(b" \t") and layout.delimiter not in line)


def _has_swallowed_rows(data: bytes, start: int, stop: int, layout: ColumnLayout) -> bool:
    """Whether a stray quote took whole rows into a field, because one of these lines is a row by itself."""
    while start < stop:
        _, after = line_end(data, start, stop)
        record = split_record(data, start, after, layout.delimiter)
        if after < stop and not record.broken and len(record.fields) == layout.width:
            return True
        start = after
    return False


def _simple_row(layout: ColumnLayout, line: bytes) -> Record | None:
    """Parse a line without quotes. None if anything about it needs care."""
    if layout.defect or layout.extras or b"\0" in line:
        return None
    try:
        fields = line.decode().split(layout.delimiter.decode())
    except UnicodeDecodeError:
        return None
    if len(fields) != layout.width:
        return None
    return Record([None if place is None else fields[place] or None for place in layout.places])


def _row(layout: ColumnLayout, raw: bytes, record: RawRecord) -> Row:
    if layout.defect:
        return _defect(raw, layout.defect)
    try:
        fields = [field.decode() or None for field in record.fields]
    except UnicodeDecodeError:
        return _defect(raw)
    if b"\0" in raw:
        return _defect(raw)
    values = [None if place is None else fields[place] for place in layout.places]
    extra = extra_json({name: fields[place] for place, name in layout.extras}) if layout.extras else None
    return Record(values, extra)


def _ragged(raw: bytes, record: RawRecord, width: int) -> Defect:
    return _defect(raw, f"{len(record.fields)} fields where the header has {width}")


def _defect(raw: bytes, *reasons: str) -> Defect:
    raw = raw.removesuffix(b"\n").removesuffix(b"\r")
    if unreadable := unreadable_text(raw):
        return Defect("; ".join((unreadable.reason, *reasons)), unreadable.raw)
    return Defect("; ".join(reasons), raw.decode())


def extra_json(columns: dict[str, str | None]) -> str | None:
    """Encode the unknown columns that hold a value as a JSON object. None if there are none."""
    held = {name: value for name, value in columns.items() if value is not None}
    return json.dumps(held, ensure_ascii=False, separators=(",", ":")) if held else None
