"""JSON objects as parts of many lines each, several small objects read together. What a line means is in `event`."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from lakehouse.landing.readers.arrow import Array, integers
from lakehouse.landing.readers.brackets import first_piece, next_piece, pieces, stand_side_by_side
from lakehouse.landing.readers.buffer import Window
from lakehouse.landing.readers.content import CHUNK, plain
from lakehouse.landing.readers.elements import are_apart, elements, is_array, spread
from lakehouse.landing.readers.formats import is_by_line
from lakehouse.landing.readers.rows import Columns, Defect, naive_utc
from lakehouse.landing.readers.source import Source
from lakehouse.landing.readers.text import KEPT_OF_LONG_ROW, MAX_ROW, too_long, unreadable

PART = 2 << 20
"""Bytes of lines that are read together."""

_BLANKS = b" \t\r\n"
_BLANK = np.frombuffer(_BLANKS, np.uint8)


@dataclass(frozen=True, slots=True)
class Lines:
    """Lines of one object, one to a row; those known to be defects are empty. `first` is the number of the first."""

    source: Source
    first: int
    text: Array
    defects: Mapping[int, Defect]
    size: int


def lines(source: Source) -> Iterator[Lines]:
    """The object's rows as lines, without blank ones."""
    first = 1
    for text, defects, size in _texts(source):
        if len(text):
            yield Lines(source, first, text, defects, size)
            first += len(text)


_Text = tuple[Array, Mapping[int, Defect], int]


def _texts(source: Source) -> Iterator[_Text]:
    window, strictly = Window(plain(source)), is_by_line(source.name)
    if window.fill(PART) and not strictly and is_array(window):
        yield from _collected(elements(window))
    else:
        yield from _by_line(window, strictly)
    *whole, window.torn = pieces(window.torn)
    if damage := window.damage():
        yield _collect([*map(_readable, whole), damage])


def _by_line(window: Window, strictly: bool) -> Iterator[_Text]:
    """Rows, one a line or several side by side on it; an object may go over lines unless `strictly`."""
    while window.fill(PART):
        end = window.line_end(MAX_ROW)
        if end is None:
            yield _collect(_of_long_line(window))
            continue
        stop = window.data.rfind(b"\n", window.at, window.at + CHUNK) + 1 or min(end + 1, len(window.data))
        if window.ended and len(window.data) <= window.at + CHUNK:
            stop = len(window.data)
        if strictly or _are_apart(window, stop):
            block, window.at = window.data[window.at : stop], stop
            yield _at_once(block) or _collect(_one_by_one(block))
        else:
            yield from _collected(spread(window, stop - window.at))


def _of_long_line(window: Window) -> Iterator[str | Defect]:
    """The objects at the start of a line that is longer than a row may be, or the line."""
    start, stop = window.at, window.at + MAX_ROW
    while (end := first_piece(window.data, window.at, stop)) < stop:
        yield _readable(window.data[window.at : end])
        window.at = next_piece(window.data, end)
    if window.at == start:
        yield too_long(window.data[start : start + KEPT_OF_LONG_ROW])
        window.skip_line()


def _are_apart(window: Window, stop: int) -> bool:
    """Whether surely no object goes over a line end before `stop` or over that there."""
    block = window.data[window.at : stop + 1]
    if stop == len(window.data):
        return window.ended and are_apart(block.rstrip(_BLANKS))
    return block[-1] not in _BLANKS and are_apart(block)


def _at_once(block: bytes) -> _Text | None:
    """The lines of a block, unless some of them may hold more than one object or no text."""
    array = np.frombuffer(block, np.uint8)
    if b"\0" in block or _may_be_side_by_side(block, array):
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
    starts = np.flatnonzero(np.isin(array[offsets[:-1]], _BLANK))
    blank = [i for i in starts if not block[offsets[i] : offsets[i + 1]].strip()]
    if blank:
        kept = np.ones(len(ends), bool)
        kept[blank] = False
        text = text.filter(pa.array(kept))
    return text, {}, len(block)


def _may_be_side_by_side(block: bytes, array: np.ndarray[tuple[int], np.dtype[np.uint8]]) -> bool:
    opening = np.flatnonzero(array == 0x7B)
    before = array[opening[opening > 0] - 1]
    if not np.isin(before, np.frombuffer(b"} \t\r", np.uint8)).any():
        return False
    return stand_side_by_side(block)


def _one_by_one(block: bytes) -> Iterator[str | Defect]:
    for line in block.split(b"\n"):
        line = line.removesuffix(b"\r")
        if line.strip(_BLANKS):
            yield from map(_readable, pieces(line))


def _readable(row: bytes) -> str | Defect:
    return unreadable(row) or row.decode()


def _collected(found: Iterable[bytes | Defect]) -> Iterator[_Text]:
    held: list[str | Defect] = []
    size = 0
    for element in found:
        held.append(element if isinstance(element, Defect) else _readable(element))
        size += 512 if isinstance(element, Defect) else len(element)
        if size > PART:
            yield _collect(held)
            held, size = [], 0
    yield _collect(held)


def _collect(found: Iterable[str | Defect]) -> _Text:
    rows = list(found)
    defects = {i: row for i, row in enumerate(rows) if isinstance(row, Defect)}
    text = pa.array(["" if isinstance(row, Defect) else row for row in rows], pa.string())
    return text, defects, text.nbytes


def together(parts: Iterable[Lines]) -> Iterator[list[Lines]]:
    """Parts in groups of about PART bytes."""
    group: list[Lines] = []
    size = 0
    for part in parts:
        group.append(part)
        size += part.size
        if size >= PART:
            yield group
            group, size = [], 0
    if group:
        yield group


Parse = Callable[[Array, Mapping[int, Defect]], Columns]


def batch(parse: Parse, shape: pa.Schema, group: list[Lines]) -> pa.RecordBatch:
    """The rows of a group of parts."""
    text = pa.concat_arrays([part.text for part in group])
    starts = np.cumsum([0, *(len(part.text) for part in group)])
    defects = {
        i + int(start): defect for part, start in zip(group, starts, strict=False) for i, defect in part.defects.items()
    }
    counts = np.diff(starts)
    which = np.repeat(np.arange(len(group), dtype=np.int32), counts)
    names = pa.array([part.source.name for part in group])
    first = np.repeat(np.array([part.first for part in group]) - starts[:-1], counts)
    arrived = pa.array([naive_utc(part.source.arrived_at) for part in group], pa.timestamp("us"))
    origin = [
        pa.DictionaryArray.from_arrays(integers(which, pa.int32()), names),
        integers(first + np.arange(len(text)), pa.int64()),
        arrived.take(integers(which, pa.int32())),
    ]
    return pa.RecordBatch.from_arrays([*parse(text, defects).arrays, *origin], schema=shape)
