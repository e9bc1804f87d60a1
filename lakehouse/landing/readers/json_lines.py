"""Split JSON objects into blocks of lines, and read blocks of several small objects together. See `json_event` for what
a line means.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np
import pyarrow as pa

from lakehouse.contracts.times import naive_utc
from lakehouse.landing.formats import is_ndjson
from lakehouse.landing.readers.arrow import Array, integer_array
from lakehouse.landing.readers.buffer import TextBuffer
from lakehouse.landing.readers.content import CHUNK_BYTES, InputObject, plain_text, text_chunks
from lakehouse.landing.readers.defects import (
    KEPT_BYTES_OF_LONG_ROW,
    MAX_ROW_BYTES,
    NO_ROWS,
    Defect,
    too_long_row,
    unreadable_text,
)
from lakehouse.landing.readers.emptiness import is_empty_array
from lakehouse.landing.readers.envelope import Opener
from lakehouse.landing.readers.json_brackets import (
    first_object_end,
    may_have_adjacent_objects,
    next_object_start,
    split_objects,
)
from lakehouse.landing.readers.json_multiline import array_elements, is_array, rows_across_lines, spans_no_lines
from lakehouse.landing.readers.rows import Columns

BLOCK_BYTES = 2 << 20
"""Bytes of lines that are parsed together."""

SMALL_BYTES = 64 << 10
"""Objects up to this size are split without a buffer, which takes longer than their lines."""

_DEFECT_BYTES = 512
"""The bytes that a defect adds to the size of a block."""

_BLANKS = b" \t\r\n"
_IS_BLANK = np.isin(np.arange(256), [*_BLANKS])
_MAY_END_OBJECT = np.isin(np.arange(256), [*b"} \t\r"])
"""Tables by byte, because `isin` takes longer than all else with a block of ten lines."""


@dataclass(frozen=True, slots=True)
class LineBlock:
    """Consecutive lines of one object, one row each. `first_row` is the number of the first; known defects are empty."""

    obj: InputObject
    first_row: int
    text: Array
    defects: Mapping[int, Defect]
    size: int


def blocks_of_objects(objects: Iterable[InputObject], opener: Opener | None = None) -> Iterator[LineBlock]:
    """Split objects into blocks as `line_blocks` does: small ones many at a time, because each numpy call takes its time."""
    small: list[tuple[InputObject, bytes]] = []
    size = 0
    for obj in objects:
        text = plain_text(obj) if opener is None and obj.size <= SMALL_BYTES and is_ndjson(obj.name) else None
        if text:
            small.append((obj, text))
            size += len(text)
        if not text or size >= BLOCK_BYTES:
            yield from _blocks_of_small(small)
            small, size = [], 0
        if not text:
            yield from line_blocks(obj, opener)
    yield from _blocks_of_small(small)


def _blocks_of_small(objects: Sequence[tuple[InputObject, bytes]]) -> Iterator[LineBlock]:
    """Split small objects at once, or one by one if any of them needs care."""
    texts = [text if text.endswith(b"\n") else text + b"\n" for _, text in objects]
    lines = _split_at_once(b"".join(texts)) if len(texts) > 1 else None
    if lines is None or (counts := _line_counts(lines[0], texts)) is None:
        for obj, _ in objects:
            yield from line_blocks(obj)
        return
    start = 0
    for (obj, text), count in zip(objects, counts, strict=True):
        yield LineBlock(obj, 1, lines[0].slice(start, count), {}, len(text))
        start += count


def _line_counts(lines: Array, texts: Sequence[bytes]) -> list[int] | None:
    """Count the lines of each text among the lines of all. None if one is blank, because those are left out."""
    counts = [text.count(b"\n") for text in texts]
    return counts if sum(counts) == len(lines) else None


def line_blocks(obj: InputObject, opener: Opener | None = None) -> Iterator[LineBlock]:
    """Split the object into blocks of lines, without blank ones. No line is a defect unless the object is empty.

    With an opener, a line is an event of the envelopes that the lines hold.
    """
    first_row, has_lines = 1, False
    for lines in _lines(obj):
        has_lines = has_lines or len(lines[0]) > 0
        for text, defects, size in [lines] if opener is None else _opened(opener, lines):
            if len(text):
                yield LineBlock(obj, first_row, text, defects, size)
                first_row += len(text)
    is_read = first_row > 1 or (has_lines and opener is not None)  # as envelopes without events
    if not is_read and obj.size and not is_empty_array(obj):
        text, defects, size = _collect([Defect(NO_ROWS, None)])
        yield LineBlock(obj, first_row, text, defects, size)


_Lines = tuple[Array, Mapping[int, Defect], int]
"""Lines, the defects among them by index, and their size in bytes."""


def _lines(obj: InputObject) -> Iterator[_Lines]:
    is_strict = is_ndjson(obj.name)
    if is_strict and obj.size <= SMALL_BYTES and (text := plain_text(obj)) and (lines := _split_at_once(text)):
        yield lines
        return
    buffer = TextBuffer(text_chunks(obj))
    if buffer.fill(BLOCK_BYTES) and not is_strict and is_array(buffer):
        yield from _collect_blocks(array_elements(buffer))
    else:
        yield from _by_line(buffer, is_strict)
    *complete, buffer.torn = split_objects(buffer.torn)
    if damage := buffer.damage():
        yield _collect([*map(_text_or_defect, complete), damage])


def _opened(opener: Opener, lines: _Lines) -> Iterator[_Lines]:
    """Open the envelopes in lines."""
    texts, defects, _ = lines
    rows = (
        [defects[i]] if i in defects else opener.events(str(text).rstrip("\r\n"))
        for i, text in enumerate(texts.to_pylist())
    )
    yield from _collect_blocks(chain.from_iterable(rows))


def _by_line(buffer: TextBuffer, is_strict: bool) -> Iterator[_Lines]:
    """Read rows that stand one or several to a line. Unless `is_strict`, an object may span lines."""
    while buffer.fill(BLOCK_BYTES):
        end = buffer.line_end(MAX_ROW_BYTES)
        if end is None:
            yield _collect(_long_line(buffer))
            continue
        stop = buffer.data.rfind(b"\n", buffer.at, buffer.at + CHUNK_BYTES) + 1 or min(end + 1, len(buffer.data))
        if buffer.ended and len(buffer.data) <= buffer.at + CHUNK_BYTES:
            stop = len(buffer.data)
        if is_strict or _spans_no_lines(buffer, stop):
            block, buffer.at = buffer.data[buffer.at : stop], stop
            yield _split_at_once(block) or _collect(_split_one_by_one(block))
        else:
            yield from _collect_blocks(rows_across_lines(buffer, stop - buffer.at))


def _long_line(buffer: TextBuffer) -> Iterator[str | Defect]:
    """Read the objects at the start of a line that is longer than a row may be; if there are none, skip the line."""
    start, stop = buffer.at, buffer.at + MAX_ROW_BYTES
    while (end := first_object_end(buffer.data, buffer.at, stop)) < stop:
        yield _text_or_defect(buffer.data[buffer.at : end])
        buffer.at = next_object_start(buffer.data, end)
    if buffer.at == start:
        yield too_long_row(buffer.data[start : start + KEPT_BYTES_OF_LONG_ROW])
        buffer.skip_line()


def _spans_no_lines(buffer: TextBuffer, stop: int) -> bool:
    """Return whether surely no object spans a line end before `stop`, nor the one right there."""
    block = buffer.data[buffer.at : stop + 1]
    if stop == len(buffer.data):
        return buffer.ended and spans_no_lines(block.rstrip(_BLANKS))
    return block[-1] not in _BLANKS and spans_no_lines(block)


def _split_at_once(block: bytes) -> _Lines | None:
    """Split a block without copying its text. None if a line may hold more than one object, or is no text."""
    array = np.frombuffer(block, np.uint8)
    if b"\0" in block or _may_have_adjacent_objects(block, array):
        return None
    ends = np.flatnonzero(array == 0x0A) + 1
    if not len(ends) or ends[-1] != len(block):
        ends = np.append(ends, len(block))
    offsets = np.concatenate(([0], ends)).astype(np.int32)
    text = pa.StringArray.from_buffers(len(ends), pa.py_buffer(offsets.tobytes()), pa.py_buffer(block))
    try:
        text.validate(full=True)
    except pa.ArrowInvalid:
        return None
    starts_blank = np.flatnonzero(_IS_BLANK[array[offsets[:-1]]])
    blank = [i for i in starts_blank if not block[offsets[i] : offsets[i + 1]].strip()]
    if blank:
        kept = np.ones(len(ends), bool)
        kept[blank] = False
        text = text.filter(pa.array(kept))
    return text, {}, len(block)


def _may_have_adjacent_objects(block: bytes, array: np.ndarray[tuple[int], np.dtype[np.uint8]]) -> bool:
    """Search the text only if the byte before some `{` may follow another object."""
    opening = np.flatnonzero(array == 0x7B)
    if not _MAY_END_OBJECT[array[opening[opening > 0] - 1]].any():
        return False
    return may_have_adjacent_objects(block)


def _split_one_by_one(block: bytes) -> Iterator[str | Defect]:
    for line in block.split(b"\n"):
        line = line.removesuffix(b"\r")
        if line.strip(_BLANKS):
            yield from map(_text_or_defect, split_objects(line))


def _text_or_defect(row: bytes) -> str | Defect:
    return unreadable_text(row) or row.decode()


def _collect_blocks(rows: Iterable[bytes | str | Defect]) -> Iterator[_Lines]:
    collected: list[str | Defect] = []
    size = 0
    for row in rows:
        collected.append(_text_or_defect(row) if isinstance(row, bytes) else row)
        size += _DEFECT_BYTES if isinstance(row, Defect) else len(row)
        if size > BLOCK_BYTES:
            yield _collect(collected)
            collected, size = [], 0
    yield _collect(collected)


def _collect(rows: Iterable[str | Defect]) -> _Lines:
    rows = list(rows)
    defects = {i: row for i, row in enumerate(rows) if isinstance(row, Defect)}
    text = pa.array(["" if isinstance(row, Defect) else row for row in rows], pa.string())
    return text, defects, text.nbytes


def group_blocks(blocks: Iterable[LineBlock]) -> Iterator[list[LineBlock]]:
    """Group blocks of small objects until each group has about BLOCK_BYTES."""
    group: list[LineBlock] = []
    size = 0
    for block in blocks:
        group.append(block)
        size += block.size
        if size >= BLOCK_BYTES:
            yield group
            group, size = [], 0
    if group:
        yield group


Parse = Callable[[Array, Mapping[int, Defect]], Columns]


def batch_of(parse: Parse, schema: pa.Schema, blocks: list[LineBlock]) -> pa.RecordBatch:
    """Parse a group of blocks into one batch of bronze rows."""
    text = pa.concat_arrays([block.text for block in blocks])
    starts = np.cumsum([0, *(len(block.text) for block in blocks)])
    defects = {
        i + int(start): defect
        for block, start in zip(blocks, starts, strict=False)
        for i, defect in block.defects.items()
    }
    counts = np.diff(starts)
    block_index = np.repeat(np.arange(len(blocks), dtype=np.int32), counts)
    names = pa.array([block.obj.name for block in blocks])
    first_row = np.repeat(np.array([block.first_row for block in blocks]) - starts[:-1], counts)
    arrived_at = pa.array([naive_utc(block.obj.arrived_at) for block in blocks], pa.timestamp("us"))
    origin = [
        pa.DictionaryArray.from_arrays(integer_array(block_index, pa.int32()), names),
        integer_array(first_row + np.arange(len(text)), pa.int64()),
        arrived_at.take(integer_array(block_index, pa.int32())),
    ]
    return pa.RecordBatch.from_arrays([*parse(text, defects).arrays, *origin], schema=schema)
