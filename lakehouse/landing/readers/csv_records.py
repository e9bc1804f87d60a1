"""Parse CSV records one at a time, by RFC 4180 and with recovery from lines that break it. See `csv_blocks` for speed.

A line ends in LF, CRLF or CR. A field that starts with a quote ends at its closing quote; `""` inside it is one quote.
Quotes elsewhere in a field are text, and so are blanks around a field. A record is broken if such quotes may be those of a
quoted field that lost the delimiter before it, because its values are then shifted.
"""

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache

from lakehouse.landing.readers.defects import MAX_ROW_BYTES, Defect, unreadable_text
from lakehouse.landing.readers.rows import Record, Row
from lakehouse.landing.readers.spelling import MisspelledValueError, Spelling

CR = 0x0D

UNCLOSED_QUOTE = "a quote is opened and never closed"
TEXT_AFTER_QUOTE = "there is text between a closing quote and the next delimiter"
LETTER_AFTER_ESCAPE = "a letter or digit after the escape may stand for another character"
STRAY_QUOTES = "quotes within fields look like those of a field whose delimiter is lost"

_LINE_END = re.compile(rb"\r\n?|\n")


@dataclass(frozen=True, slots=True)
class Marks:
    """The characters that have a meaning, in UTF-8. All but the delimiter may be empty."""

    delimiter: bytes = b","
    quote: bytes = b'"'
    escape: bytes = b""
    comment: bytes = b""


@dataclass(frozen=True, slots=True)
class ColumnLayout:
    """Which column holds which field.

    `places` holds the column of each contract field, or None. `extras` holds each unknown column with the name it is
    kept under. `defect` is a reason that applies to every row. `marks` and `spelling` are those of the dialect.
    """

    marks: Marks
    width: int
    places: tuple[int | None, ...]
    extras: tuple[tuple[int, str], ...]
    defect: str | None
    spelling: Spelling | None = None


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


def split_record(data: bytes, start: int, stop: int, marks: Marks) -> RawRecord:
    """Split the record that starts at `start`, in `data[:stop]`."""
    if marks.escape:
        return split_escaped_record(data, start, stop, marks)
    delimiter, quote = marks.delimiter, marks.quote
    text_end, after = line_end(data, start, stop)
    if not quote or data.find(quote, start, text_end) < 0:
        return RawRecord(data[start:text_end].split(delimiter), after)
    fields: list[bytes] = []
    at, line_stop, next_line = start, text_end, after
    stray: list[bytes] = []
    while True:
        if at < stop and data[at] == quote[0]:
            close = _closing_quote(data, at + 1, stop, quote)
            if close < 0:
                return RawRecord(fields, after, UNCLOSED_QUOTE)
            fields.append(data[at + 1 : close].replace(quote * 2, quote))
            at = close + 1
            line_stop, next_line = line_end(data, at, stop)
        else:
            end = data.find(delimiter, at, line_stop)
            end = line_stop if end < 0 else end
            fields.append(data[at:end])
            if fields[-1].count(quote) % 2:
                stray.append(fields[-1])
            at = end
        if at == line_stop:
            # Plain fields with an odd quote each may be the start and the end of one quoted field.
            are_of_one_field = any(field.endswith(quote) for field in stray[1:]) or (stray and next_line > after)
            return RawRecord(fields, next_line, STRAY_QUOTES if are_of_one_field else None)
        if not data.startswith(delimiter, at):
            return RawRecord(fields, after, TEXT_AFTER_QUOTE)
        at += len(delimiter)


def _closing_quote(data: bytes, start: int, stop: int, quote: bytes) -> int:
    at = data.find(quote, start, stop)
    while at >= 0 and at + 1 < stop and data[at + 1] == quote[0]:
        at = data.find(quote, at + 2, stop)
    return at


def split_escaped_record(data: bytes, start: int, stop: int, marks: Marks) -> RawRecord:
    r"""Split a record in which the escape makes the next character text.

    A field that is `\N` alone is kept, because it may be a null. Any other letter or digit after the escape breaks the
    record, because it may stand for something else, as in `\n`.
    """
    _, after = line_end(data, start, stop)
    next_token = _escaped_tokens(marks)
    fields: list[bytes] = []
    field, in_quotes, at, field_start, broken = b"", False, start, start, None
    while True:
        token = next_token(data, at, stop)
        text_end, mark = (token.start(), token[0]) if token else (stop, b"")
        field += data[at:text_end]
        at = token.end() if token else stop
        if mark.startswith(marks.escape):
            field += mark[len(marks.escape) :]
            is_null = data[field_start:at] == marks.escape + b"N"
            broken = LETTER_AFTER_ESCAPE if mark[1:].isalnum() and not is_null else broken
        elif mark == marks.quote != b"" and (in_quotes or text_end == field_start):
            in_quotes, at, field = _after_quote(data, at, field, mark, in_quotes)
        elif in_quotes and token is None:
            return RawRecord(fields, after, UNCLOSED_QUOTE)
        elif in_quotes or mark == marks.quote != b"":
            field += mark
        else:
            raw = data[field_start:text_end]
            fields.append(raw if raw == marks.escape + b"N" else field)
            if mark != marks.delimiter:
                return RawRecord(fields, at, broken)
            field, field_start = b"", at


def _after_quote(data: bytes, at: int, field: bytes, quote: bytes, in_quotes: bool) -> tuple[bool, int, bytes]:
    """Go on after a quote that opens a field, closes it or is the first of a pair: the state, the place and the text."""
    if in_quotes and data.startswith(quote, at):
        return True, at + 1, field + quote
    return not in_quotes, at, field


@cache
def _escaped_tokens(marks: Marks) -> Callable[[bytes, int, int], re.Match[bytes] | None]:
    """Build the search for what has a meaning in escaped records."""
    escaped = re.escape(marks.escape) + rb"(?:[^\r\n]|\r\n?|\n|\Z)"
    others = [re.escape(mark) for mark in (marks.quote, marks.delimiter) if mark]
    return re.compile(b"|".join([escaped, *others, rb"\r\n?|\n"])).search


def csv_rows(layout: ColumnLayout, data: bytes, start: int, stop: int) -> Iterator[tuple[Row | None, int]]:
    """Parse the records that start in `data[start:stop]`. Yields each row and where it ends; None for a blank line.

    `data` must reach MAX_ROW_BYTES beyond `stop`, or to the end of the object. Stops early at a line longer than that.
    """
    marks, width = layout.marks, layout.width
    quote, escape = marks.quote or b"\n", marks.escape or b"\n"  # no line holds a line end
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
        if quote not in line and escape not in line and (simple := _simple_row(layout, line)):
            at = after
            yield simple, at
            continue
        record = split_record(data, at, limits[-1], marks)
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
    if layout.marks.comment and line.startswith(layout.marks.comment):
        return True
    return not line or (layout.width > 1 and not line.strip(b" \t") and layout.marks.delimiter not in line)


def _has_swallowed_rows(data: bytes, start: int, stop: int, layout: ColumnLayout) -> bool:
    """Whether a stray quote took whole rows into a field, because one of these lines is a row by itself."""
    while start < stop:
        _, after = line_end(data, start, stop)
        record = split_record(data, start, after, layout.marks)
        if after < stop and not record.broken and len(record.fields) == layout.width:
            return True
        start = after
    return False


def _simple_row(layout: ColumnLayout, line: bytes) -> Record | None:
    """Parse a line without quotes. None if anything about it needs care."""
    if layout.defect or layout.extras or layout.spelling or b"\0" in line:
        return None
    try:
        fields = line.decode().split(layout.marks.delimiter.decode())
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
    extras = {name: fields[place] for place, name in layout.extras}
    if layout.spelling:
        try:
            values = layout.spelling.values(values)
        except MisspelledValueError as error:
            return _defect(raw, str(error))
        extras = {name: layout.spelling.extra_value(text) for name, text in extras.items()}
    return Record(values, extra_json(extras) if extras else None)


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
