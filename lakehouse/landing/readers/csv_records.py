"""Parse CSV records one at a time, by RFC 4180 and with recovery from lines that break it. See `csv_blocks` for speed.

A line ends in LF, CRLF or CR. A field that starts with a quote ends at its closing quote; `""` inside it is one quote.
Quotes elsewhere in a field are text, and so are blanks around a field. A record is broken if such quotes may be those of a
quoted field that lost the delimiter before it, because its values are then shifted.
"""

import codecs
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
NEEDLESS_ESCAPE = "a character after the escape needs none, so it may stand for another"
MARK_INSIDE = "a byte order mark stands before the row, as where files were joined; load each by itself"
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
    plain: list[bytes] = []
    may_open = False
    while True:
        if at < stop and data[at] == quote[0]:
            close = _closing_quote(data, at + 1, stop, quote)
            if close < 0:
                return RawRecord(fields, after, UNCLOSED_QUOTE)
            fields.append(data[at + 1 : close].replace(quote * 2, quote))
            may_open = may_open or fields[-1].endswith(delimiter)
            at = close + 1
            line_stop, next_line = line_end(data, at, stop)
        else:
            end = data.find(delimiter, at, line_stop)
            end = line_stop if end < 0 else end
            fields.append(data[at:end])
            if quote in fields[-1]:
                plain.append(fields[-1])
            at = end
        if at == line_stop:
            stray = [field for field in plain if field.count(quote) % 2]
            # A closing quote behind a delimiter may be an opening one, if another quote ends a plain field.
            is_shifted = may_open and any(field.endswith(quote) for field in plain)
            broken = STRAY_QUOTES if is_shifted else _lost_delimiter(stray, quote, next_line > after)
            return RawRecord(fields, next_line, broken)
        if not data.startswith(delimiter, at):
            return RawRecord(fields, after, TEXT_AFTER_QUOTE)
        at += len(delimiter)


def _lost_delimiter(stray: list[bytes], quote: bytes, spans_lines: bool) -> str | None:
    """Say that plain fields with an odd number of quotes each may be the start and the end of one quoted field."""
    return STRAY_QUOTES if any(field.endswith(quote) for field in stray[1:]) or (stray and spans_lines) else None


def _closing_quote(data: bytes, start: int, stop: int, quote: bytes) -> int:
    at = data.find(quote, start, stop)
    while at >= 0 and at + 1 < stop and data[at + 1] == quote[0]:
        at = data.find(quote, at + 2, stop)
    return at


def split_escaped_record(data: bytes, start: int, stop: int, marks: Marks) -> RawRecord:
    r"""Split a record in which the escape makes the next character text.

    A field that is `\N` alone is kept, because it may be a null. Any other escape of a character that needs none breaks the
    record, because it may stand for something else, as in `\n`.
    """
    syntax = _escaped_syntax(marks)
    fields: list[bytes] = []
    stray: list[bytes] = []
    broken: str | None = None
    _, first_after = line_end(data, start, stop)
    at = start
    while match := syntax.field.match(data, at, stop):
        quoted, plain = match.groups()
        if plain == marks.escape + b"N":
            fields.append(plain)
        elif quoted is None:
            fields.append(syntax.escaped.sub(_second, plain))
            if marks.quote and syntax.escaped.sub(b"", plain).count(marks.quote) % 2:
                stray.append(plain)
        else:
            fields.append(syntax.escaped_in_quotes.sub(_second, quoted[1:-1]))
        if fields[-1] != plain and not syntax.is_sound(plain if quoted is None else quoted[1:-1]):
            broken = NEEDLESS_ESCAPE
        at = match.end()
        if data.startswith(marks.delimiter, at, stop):
            at += len(marks.delimiter)
            continue
        text_end, after = line_end(data, at, stop)
        if text_end != at:
            return RawRecord(fields, first_after, TEXT_AFTER_QUOTE)
        return RawRecord(fields, after, broken or _lost_delimiter(stray, marks.quote, after > first_after))
    return RawRecord(fields, first_after, UNCLOSED_QUOTE)


def _second(pair: re.Match[bytes]) -> bytes:
    return pair[0][1:]


@dataclass(frozen=True, slots=True)
class _EscapedSyntax:
    """A field, in quotes or plain; what stands for the second of two characters; and texts with no needless escape."""

    field: re.Pattern[bytes]
    escaped: re.Pattern[bytes]
    escaped_in_quotes: re.Pattern[bytes]
    is_sound: Callable[[bytes], object]


@cache
def _escaped_syntax(marks: Marks) -> _EscapedSyntax:
    escape, quote, delimiter = re.escape(marks.escape), re.escape(marks.quote), re.escape(marks.delimiter)
    first = re.escape(marks.delimiter[:1])
    escaped = escape + rb"(?:\r\n|[\s\S]|\Z)"
    in_quotes = escaped + b"|" + quote * 2 if quote else escaped
    plain = b"((?:[^" + escape + first + rb"\r\n]++|(?!" + delimiter + b")" + first + b"|" + escaped + b")*+)"
    quoted = b"(" + quote + b"(?:[^" + escape + quote + b"]++|" + in_quotes + b")*+" + quote + b")|(?!" + quote + b")"
    needed = b"".join(map(re.escape, (marks.escape, marks.quote, marks.delimiter[:1], marks.comment[:1])))
    sound = b"(?:[^" + escape + b"]++|" + escape + b"(?:[" + needed + rb"\r\n]|\Z))*+"
    return _EscapedSyntax(
        re.compile((quoted if quote else b"((?!))|") + plain),
        re.compile(escaped),
        re.compile(in_quotes),
        re.compile(sound).fullmatch,
    )


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
        is_marked = line.startswith(codecs.BOM_UTF8)
        if quote not in line and escape not in line and not is_marked and (simple := _simple_row(layout, line)):
            at = after
            yield simple, at
            continue
        record = split_record(data, at, limits[-1], marks)
        if record.broken or record.end - at > MAX_ROW_BYTES:
            # Only this line is lost. The lines that its quote swallowed are read on their own.
            row, at = _defect(line, record.broken or UNCLOSED_QUOTE), after
        elif is_marked:
            row, at = _defect(data[at : record.end], MARK_INSIDE), record.end
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
    """Return whether a stray quote took whole rows into a field, because one of these lines is a row by itself."""
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
