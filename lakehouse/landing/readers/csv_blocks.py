"""Read CSV objects as columns, block by block. Sound blocks go through Arrow at once, all others row by row.

A block is sound if every quote in it opens a field, closes one or is one of a pair, and no byte is NUL. Arrow then reads
exactly what `csv_records` would, and refuses ragged rows and invalid UTF-8.
"""

import codecs
import json
import re
from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import csv

from lakehouse.contracts.model import Contract
from lakehouse.landing.readers import csv_records
from lakehouse.landing.readers.arrow import Array, null_text, one_array, text_array
from lakehouse.landing.readers.buffer import TextBuffer
from lakehouse.landing.readers.content import CHUNK_BYTES, InputObject, text_chunks
from lakehouse.landing.readers.csv_records import ColumnLayout, Marks
from lakehouse.landing.readers.defects import KEPT_BYTES_OF_LONG_ROW, MAX_ROW_BYTES, too_long_row
from lakehouse.landing.readers.header import MAX_HEADER_BYTES, dialect_of, read_header, skip_preamble
from lakehouse.landing.readers.rows import Columns, Row, Task, columns_of

SMALL_BLOCK_BYTES = 64 << 10
"""A block this small that is not sound is read row by row instead of being halved once more."""

LINE_ENDS = (b"\n", b"\r")


def csv_tasks(contract: Contract, obj: InputObject) -> Iterator[Task]:
    """Split reading the object's rows into tasks."""
    buffer, layout = _open(contract, obj)
    if layout:
        yield from _body_tasks(buffer, layout)
    if damage := buffer.damage():
        yield partial(_columns_of_rows, [damage], len(contract.fields))


def csv_layout(contract: Contract, obj: InputObject) -> ColumnLayout | None:
    """Read the object's header alone. None if the object is empty."""
    return _open(contract, obj)[1]


def _open(contract: Contract, obj: InputObject) -> tuple[TextBuffer, ColumnLayout | None]:
    """Open the object, read its header and stand at its first row."""
    dialect = dialect_of(contract, obj.name)
    buffer = TextBuffer(text_chunks(obj, dialect.encoding))
    if buffer.fill(MAX_HEADER_BYTES):
        buffer.at = skip_preamble(dialect, buffer.data, buffer.at)
    if not buffer.fill(MAX_HEADER_BYTES):
        return buffer, None
    layout, buffer.at = read_header(contract, dialect, buffer.data, buffer.at)
    return buffer, layout


def _body_tasks(buffer: TextBuffer, layout: ColumnLayout) -> Iterator[Task]:
    width = len(layout.places)
    size = CHUNK_BYTES
    while buffer.fill(size):
        stop = min(buffer.at + size, len(buffer.data))
        end = sound_end(buffer.data, buffer.at, stop, layout.marks, buffer.ended and stop == len(buffer.data))
        if end > buffer.at:
            yield partial(parse_block, layout, buffer.data[buffer.at : end])
            buffer.at = end
            size = min(size * 4, CHUNK_BYTES)
        elif size > SMALL_BLOCK_BYTES:
            size //= 4
        else:
            yield partial(_columns_of_rows, list(_row_by_row(buffer, layout)), width)


def _row_by_row(buffer: TextBuffer, layout: ColumnLayout) -> Iterator[Row]:
    """Read the rows of the next SMALL_BLOCK_BYTES, looking as far ahead as a row may reach."""
    buffer.fill(SMALL_BLOCK_BYTES + MAX_ROW_BYTES + 1, MAX_ROW_BYTES)
    stop = min(buffer.at + SMALL_BLOCK_BYTES, len(buffer.data))
    for row, after in csv_records.csv_rows(layout, buffer.data, buffer.at, stop):
        buffer.at = after
        if row is not None:
            yield row
    if buffer.at < stop:
        yield too_long_row(buffer.data[buffer.at : buffer.at + KEPT_BYTES_OF_LONG_ROW])
        buffer.skip_line(LINE_ENDS)


def _columns_of_rows(rows: list[Row], width: int) -> list[Columns]:
    return [columns_of(rows, width)] if rows else []


_MARKED_LINE = re.compile(rb"[\r\n]" + codecs.BOM_UTF8)


def sound_end(data: bytes, start: int, stop: int, marks: Marks, final: bool) -> int:
    """Find where the last whole record of `data[start:stop]` ends if the block is sound up to there.

    Returns `start` if it is not, or if no record ends there. `final` means that the object ends at `stop`.
    """
    if data.find(b"\0", start, stop) >= 0 or not _can_be_sound(data, start, stop, marks):
        return start
    if not marks.quote or data.find(marks.quote, start, stop) < 0:  # many times faster than finding every quote
        return stop if final else max(_after_line_end(data, start, stop), start)
    block = np.frombuffer(data, np.uint8, stop - start, start)
    quotes = np.flatnonzero(block == marks.quote[0]) + start
    end = stop if final else _last_line_end(data, start, stop, quotes)
    quotes = quotes[: np.searchsorted(quotes, end)]
    if len(quotes) % 2:
        return start
    edges = np.array([marks.delimiter[0], 0x0A, marks.quote[0], csv_records.CR], np.uint8)
    opening, closing = quotes[0::2], quotes[1::2]
    before, after = opening[opening > start] - 1 - start, closing[closing < end - 1] + 1 - start
    # Opening and closing quotes alternate, so a quote right before an opening one closes: the two are a quoted quote.
    if np.isin(block[before], edges).all() and np.isin(block[after], edges).all():
        return end
    return start


def _can_be_sound(data: bytes, start: int, stop: int, marks: Marks) -> bool:
    """Return whether Arrow knows these marks, and no line is a comment or begins with a byte order mark."""
    if marks.escape or len(marks.delimiter) > 1:
        return False
    if data.find(codecs.BOM_UTF8, start, stop) >= 0 and _MARKED_LINE.search(data, start, stop):
        return False
    if not marks.comment or data.find(marks.comment, start, stop) < 0:
        return True
    comment = re.compile(rb"[\r\n]" + re.escape(marks.comment))
    return not data.startswith(marks.comment, start) and comment.search(data, start, stop) is None


def _last_line_end(data: bytes, start: int, stop: int, quotes: np.ndarray[tuple[int], np.dtype[np.int64]]) -> int:
    """Find the position after the last line end that is outside quotes."""
    while end := _after_line_end(data, start, stop):
        quotes_before = int(np.searchsorted(quotes, end))
        if quotes_before % 2 == 0:
            return end
        stop = int(quotes[quotes_before - 1])
    return start


def _after_line_end(data: bytes, start: int, stop: int) -> int:
    """Find the position after the last LF or CR. 0 if there is none. A CRLF cut in two leaves a blank line, no row."""
    newline = data.rfind(b"\n", start, stop)
    return max(newline, data.rfind(b"\r", max(newline, start), stop)) + 1


def parse_block(layout: ColumnLayout, block: bytes) -> Iterator[Columns]:
    """Parse a sound block. If Arrow refuses a row, halve the block, and read a small part row by row."""
    if layout.defect is None and not block.startswith(codecs.BOM_UTF8):  # Arrow would drop a byte order mark
        try:
            yield _parse_with_arrow(layout, block)
            return
        except pa.ArrowInvalid:
            pass
        if len(block) > SMALL_BLOCK_BYTES:
            half = sound_end(block, 0, len(block) // 2, layout.marks, False)
            if half:
                yield from parse_block(layout, block[:half])
                yield from parse_block(layout, block[half:])
                return
    rows = [row for row, _ in csv_records.csv_rows(layout, block, 0, len(block)) if row is not None]
    yield from _columns_of_rows(rows, len(layout.places))


def _parse_with_arrow(layout: ColumnLayout, block: bytes) -> Columns:
    names = [str(i) for i in range(layout.width)]
    table = csv.read_csv(
        pa.BufferReader(block),  # type: ignore[arg-type]
        read_options=csv.ReadOptions(use_threads=False, block_size=len(block) + 1, column_names=names),
        parse_options=csv.ParseOptions(
            delimiter=layout.marks.delimiter.decode(), quote_char=layout.marks.quote.decode() or False
        ),
        convert_options=csv.ConvertOptions(
            column_types=dict.fromkeys(names, pa.string()),
            null_values=[""],
            strings_can_be_null=True,
            quoted_strings_can_be_null=True,
        ),
    ).combine_chunks()
    columns = [one_array(column) for column in table.columns]
    nulls = null_text(table.num_rows)
    fields = [nulls if place is None else columns[place] for place in layout.places]
    if layout.spelling:
        plain = layout.spelling.columns(fields)
        if plain is None:
            raise pa.ArrowInvalid("a value is not written as the dialect says")
        fields = plain
        columns = [layout.spelling.extra_column(column) for column in columns]
    extra = _extra_column(layout, columns, table.num_rows) if layout.extras else nulls
    return Columns([*fields, extra, nulls, nulls], table.num_rows)


_ESCAPED_IN_JSON = r'["\\\x00-\x1f]'


def _extra_column(layout: ColumnLayout, columns: list[Array], count: int) -> Array:
    """Build `csv_records.extra_json` of every row."""
    held = [(name, columns[place]) for place, name in layout.extras if columns[place].null_count < count]
    if not held:
        return null_text(count)
    if any(pc.any(pc.match_substring_regex(column, _ESCAPED_IN_JSON)).as_py() for _, column in held):
        names = [name for name, _ in held]
        rows = zip(*(column.to_pylist() for _, column in held), strict=True)
        return text_array([csv_records.extra_json(dict(zip(names, row, strict=True))) for row in rows])
    join: Any = pc.binary_join_element_wise
    members = [join(json.dumps(name, ensure_ascii=False) + ':"', column, '"', "") for name, column in held]
    # Arrow (26.0) drops rows whose values are all null here, so each row starts with an empty text.
    joined = join(pa.repeat("", count), *members, ",", null_handling="skip")
    objects = join("{", pc.utf8_slice_codeunits(joined, 1), "}", "")
    extra: Array = pc.if_else(pc.not_equal(objects, pa.scalar("{}")), objects, pa.scalar(None, pa.string()))
    return extra
