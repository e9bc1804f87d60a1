"""CSV objects as columns, block by block: whole blocks at once where that is sure to be right, else row by row.

A block is parsed by Arrow when every quote in it opens a field, closes one or is one of a pair, every line ends in LF
or CRLF, and no byte is NUL. Arrow then reads just what `delimited` would, and refuses ragged rows and invalid UTF-8.
"""

import codecs
import json
from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import csv

from lakehouse.contracts.model import Contract
from lakehouse.landing.readers import delimited
from lakehouse.landing.readers.arrow import Array, no_texts, texts, whole
from lakehouse.landing.readers.buffer import Window
from lakehouse.landing.readers.content import CHUNK, plain
from lakehouse.landing.readers.delimited import Layout
from lakehouse.landing.readers.header import read_header
from lakehouse.landing.readers.rows import Columns, Row, Task, columns_of
from lakehouse.landing.readers.source import Source
from lakehouse.landing.readers.text import KEPT_OF_LONG_ROW, MAX_ROW, too_long

SMALL = 64 << 10
"""Bytes that are not worth parsing at once when some row among them needs care."""

MAX_HEADER = 1 << 20


def csv_tasks(contract: Contract, source: Source) -> Iterator[Task]:
    """The object's rows, as tasks."""
    window = Window(plain(source))
    width = len(contract.fields)
    if window.fill(MAX_HEADER):
        _skip_blank_lines(window)
    if window.fill(MAX_HEADER):
        layout, end = read_header(contract, window.data, window.at)
        if all(place is None for place in layout.places):
            end = window.at  # no header at all: the first line is a row like the others
        window.at = end
        yield from _body(window, layout)
    if damage := window.damage():
        yield partial(_care, [damage], width)


def _skip_blank_lines(window: Window) -> None:
    while window.data[window.at : window.at + 1] in (b"\n", b"\r"):
        window.at += 1


def _body(window: Window, layout: Layout) -> Iterator[Task]:
    width = len(layout.places)
    size = CHUNK
    while window.fill(size):
        stop = min(window.at + size, len(window.data))
        end = sound_end(window.data, window.at, stop, layout.delimiter, window.ended and stop == len(window.data))
        if end > window.at:
            yield partial(parsed, layout, window.data[window.at : end])
            window.at = end
            size = min(size * 4, CHUNK)
        elif size > SMALL:
            size //= 4
        else:
            yield partial(_care, list(_careful(window, layout)), width)


def _careful(window: Window, layout: Layout) -> Iterator[Row]:
    """The rows of the next SMALL bytes, looking as far ahead as a row may reach."""
    window.fill(SMALL + MAX_ROW + 1, MAX_ROW)
    stop = min(window.at + SMALL, len(window.data))
    for row, after in delimited.rows(layout, window.data, window.at, stop):
        window.at = after
        if row is not None:
            yield row
    if window.at < stop:
        yield too_long(window.data[window.at : window.at + KEPT_OF_LONG_ROW])
        window.skip_line()


def _care(rows: list[Row], width: int) -> list[Columns]:
    return [columns_of(rows, width)] if rows else []


def sound_end(data: bytes, start: int, stop: int, delimiter: bytes, final: bool) -> int:
    """Where the last whole record of `data[start:stop]` ends if its quotes and line ends are as they should be.

    `start` when they are not, or when no record ends there. `final` says that the object ends at `stop`.
    """
    if data.find(b"\0", start, stop) >= 0:
        return start
    if data.find(b'"', start, stop) < 0:  # many times faster than to look for all of them
        end = stop if final else data.rfind(b"\n", start, stop) + 1
        return end if end and _returns_are_sound(data, start, end) else start
    block = np.frombuffer(data, np.uint8, stop - start, start)
    quotes = np.flatnonzero(block == delimited.QUOTE) + start
    end = stop if final else _last_line_end(data, start, stop, quotes)
    quotes = quotes[: np.searchsorted(quotes, end)]
    if len(quotes) % 2 or not _returns_are_sound(data, start, end):
        return start
    edges = np.array([delimiter[0], 0x0A, delimited.QUOTE, delimited.CR], np.uint8)
    opening, closing = quotes[0::2], quotes[1::2]
    before, after = opening[opening > start] - 1 - start, closing[closing < end - 1] + 1 - start
    # A quote before an opening one must be a closing one, for they alternate; so two of them are a quote in the text.
    if np.isin(block[before], edges[:3]).all() and np.isin(block[after], edges).all():
        return end
    return start


def _last_line_end(data: bytes, start: int, stop: int, quotes: np.ndarray[tuple[int], np.dtype[np.int64]]) -> int:
    """The place after the last line end that is not within quotes."""
    while (newline := data.rfind(b"\n", start, stop)) >= 0:
        opened = int(np.searchsorted(quotes, newline))
        if opened % 2 == 0:
            return newline + 1
        stop = int(quotes[opened - 1])
    return start


def _returns_are_sound(data: bytes, start: int, stop: int) -> bool:
    if data.find(b"\r", start, stop) < 0:  # many times faster than to count them
        return True
    return data.count(b"\r", start, stop) == data.count(b"\r\n", start, stop)


def parsed(layout: Layout, block: bytes) -> Iterator[Columns]:
    """The rows of a sound block, the good ones at once; a part with rows that need care is read row by row."""
    if layout.defect is None and not block.startswith(codecs.BOM_UTF8):  # which Arrow would take away
        try:
            yield _at_once(layout, block)
            return
        except pa.ArrowInvalid:
            pass
        if len(block) > SMALL:
            half = sound_end(block, 0, len(block) // 2, layout.delimiter, False)
            if half:
                yield from parsed(layout, block[:half])
                yield from parsed(layout, block[half:])
                return
    rows = [row for row, _ in delimited.rows(layout, block, 0, len(block)) if row is not None]
    yield from _care(rows, len(layout.places))


def _at_once(layout: Layout, block: bytes) -> Columns:
    names = [str(i) for i in range(layout.width)]
    table = csv.read_csv(
        pa.BufferReader(block),  # type: ignore[arg-type]
        read_options=csv.ReadOptions(use_threads=False, block_size=len(block) + 1, column_names=names),
        parse_options=csv.ParseOptions(delimiter=layout.delimiter.decode()),
        convert_options=csv.ConvertOptions(
            column_types=dict.fromkeys(names, pa.string()),
            null_values=[""],
            strings_can_be_null=True,
            quoted_strings_can_be_null=True,
        ),
    ).combine_chunks()
    columns = [whole(column) for column in table.columns]
    nothing = no_texts(table.num_rows)
    fields = [nothing if place is None else columns[place] for place in layout.places]
    extra = _extra(layout, columns, table.num_rows) if layout.extras else nothing
    return Columns([*fields, extra, nothing, nothing], table.num_rows)


_ESCAPED_IN_JSON = r'["\\\x00-\x1f]'


def _extra(layout: Layout, columns: list[Array], count: int) -> Array:
    """What `delimited.extra_of` gives for each row."""
    held = [(name, columns[place]) for place, name in layout.extras if columns[place].null_count < count]
    if not held:
        return no_texts(count)
    if any(pc.any(pc.match_substring_regex(column, _ESCAPED_IN_JSON)).as_py() for _, column in held):
        names = [name for name, _ in held]
        rows = zip(*(column.to_pylist() for _, column in held), strict=True)
        return texts([delimited.extra_of(dict(zip(names, row, strict=True))) for row in rows])
    join: Any = pc.binary_join_element_wise
    members = [join(json.dumps(name, ensure_ascii=False) + ':"', column, '"', "") for name, column in held]
    # Arrow leaves out rows of nothing but nulls here (26.0), so each starts with a text that is none.
    joined = join(pa.repeat("", count), *members, ",", null_handling="skip")
    written = join("{", pc.utf8_slice_codeunits(joined, 1), "}", "")
    kept: Array = pc.if_else(pc.not_equal(written, pa.scalar("{}")), written, pa.scalar(None, pa.string()))
    return kept
