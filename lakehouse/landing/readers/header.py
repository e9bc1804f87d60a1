"""Match column names with a contract: which delimiter a CSV header uses, and which column holds which field."""

import re
from collections.abc import Sequence
from dataclasses import replace

from lakehouse.contracts.dialect import DEFAULT_DIALECT, Dialect, decode_options, read_dialect
from lakehouse.contracts.model import Contract
from lakehouse.landing.keys import READ_AS
from lakehouse.landing.readers.csv_records import ColumnLayout, Marks, line_end, split_record
from lakehouse.landing.readers.defects import NUL_IN_HEADER
from lakehouse.landing.readers.spelling import Spelling

MAX_HEADER_BYTES = 1 << 20
"""The longest header that is read, with what the dialect skips before it."""

DELIMITERS = (",", ";", "\t", "|")

_AROUND_NAME = re.compile(r'^[\s"\ufeff]+|[\s"\ufeff]+$')
_IN_APOSTROPHES = re.compile(r"'.+'")
IN_APOSTROPHES = "names in the header are in ', as values may be; declare it as the quote"

_BLANK_LINES = re.compile(rb"(?:[ \t]*(?:[\r\n]|\Z))+")
SEPARATOR_LINE = re.compile(rb"sep=([!-~\t])[ \t]*(?:\r\n?|\n)")
"""The first line of files that Excel writes and reads: it names the delimiter."""

_READ_AS = re.compile(rf"/{READ_AS}([\w-]+)/")


def dialect_of(contract: Contract, name: str) -> Dialect:
    """Return the dialect of an object: what its key says on top of the stream's. A folder that says nothing is ignored."""
    match = _READ_AS.search(name)
    try:
        return read_dialect(decode_options(match[1]), contract.dialect) if match else contract.dialect
    except ValueError:
        return contract.dialect


def skip_preamble(dialect: Dialect, data: bytes, start: int) -> int:
    """Find where the header starts, or where the rows do if there is none."""
    for _ in range(dialect.skip):
        _, start = line_end(data, start, len(data))
    comment = dialect.comment.encode()
    while True:
        blank = _BLANK_LINES.match(data, start)
        start = blank.end() if blank else start
        if not comment or not data.startswith(comment, start) or start == len(data):
            return start
        _, start = line_end(data, start, len(data))


def read_header(contract: Contract, dialect: Dialect, data: bytes, start: int) -> tuple[ColumnLayout, int]:
    """Read the header that starts at `start`. Returns the layout of the rows under it and where they start.

    Unless the dialect or a first line such as `sep=;` names the delimiter, it is the one that finds the most fields of the
    contract; among equals, the most columns. A line that names no field, or holds a NUL, is no header: it is a row like
    the others, and all rows are defects.
    """
    delimiters: Sequence[str] = (dialect.delimiter,) if dialect.delimiter else DELIMITERS
    if separator := SEPARATOR_LINE.match(data, start):
        start = separator.end()
        delimiters = (dialect.delimiter or separator[1].decode(),)
    if not dialect.header:
        return _layout_without_header(contract, dialect, data, start, delimiters), start
    candidates = [_read_with(contract, dialect, data, start, delimiter) for delimiter in delimiters]
    layout, end = max(candidates, key=lambda candidate: _matches(candidate[0]))
    if b"\0" in data[start:end]:
        return replace(layout, defect=NUL_IN_HEADER), start
    return layout, start if all(place is None for place in layout.places) else end


def _matches(layout: ColumnLayout) -> tuple[int, int]:
    return sum(place is not None for place in layout.places), layout.width


def _marks(dialect: Dialect, delimiter: str) -> Marks:
    return Marks(delimiter.encode(), dialect.quote.encode(), dialect.escape.encode(), dialect.comment.encode())


def _read_with(
    contract: Contract, dialect: Dialect, data: bytes, start: int, delimiter: str
) -> tuple[ColumnLayout, int]:
    """Read the header by its quotes, or as one line whose quotes mean nothing if that finds more fields: one may be stray."""
    marks = _marks(dialect, delimiter)
    text_end, end = line_end(data, start, len(data))
    as_line = _layout(contract, dialect, _texts(data[start:text_end].split(marks.delimiter)), marks), end
    record = split_record(data, start, len(data), marks)
    if record.broken:
        return as_line
    by_quotes = _layout(contract, dialect, _texts(record.fields), marks), record.end
    return max(by_quotes, as_line, key=lambda candidate: _matches(candidate[0])[0])


def _layout_without_header(
    contract: Contract, dialect: Dialect, data: bytes, start: int, delimiters: Sequence[str]
) -> ColumnLayout:
    """Lay out rows by the dialect's columns, or the contract's. The delimiter is the first that makes as many of the first row."""
    names = dialect.columns or _names_of_fields(contract, dialect)
    layouts = [_layout(contract, dialect, names, _marks(dialect, delimiter)) for delimiter in delimiters]
    fitting = (
        layout for layout in layouts if len(split_record(data, start, len(data), layout.marks).fields) == layout.width
    )
    return next(fitting, layouts[0])


def _names_of_fields(contract: Contract, dialect: Dialect) -> tuple[str, ...]:
    """List the fields in their order, the event time as the columns that make it."""
    names: dict[str, None] = {}
    for field in contract.fields:
        is_event_time = field.name == contract.event_time
        names |= dict.fromkeys(dialect.time_columns if is_event_time and dialect.time_columns else (field.name,))
    return tuple(names)


def _layout(contract: Contract, dialect: Dialect, names: Sequence[str], marks: Marks) -> ColumnLayout:
    if dialect.trailing_delimiter and names[-1].strip():
        names = [*names, ""]
    spelling = Spelling(contract, dialect) if dialect != DEFAULT_DIALECT else None
    plain = spelling is None or spelling.is_plain
    return replace(column_layout(contract, names), marks=marks, spelling=None if plain else spelling)


def _texts(fields: Sequence[bytes]) -> list[str]:
    return [field.decode("utf-8", "backslashreplace") for field in fields]


def column_layout(contract: Contract, names: Sequence[str]) -> ColumnLayout:
    """Build the layout of rows whose columns have these names. Case, quotes and surrounding blanks do not matter."""
    field_of_name = _fields_by_name(contract)
    places: list[int | None] = [None] * len(contract.fields)
    extras: dict[str, int] = {}
    repeated: dict[str, None] = {}
    columns = [_AROUND_NAME.sub("", name) for name in names]
    for i, column in enumerate(columns):
        field = field_of_name.get(_match_key(column))
        if field is None:
            extras[_unused_name(column or f"column {i + 1}", extras)] = i
        elif places[field] is None:
            places[field] = i
        else:
            repeated[column] = None
    defect = "; ".join(f"column {column} appears twice" for column in repeated) or None
    if any(_match_key(column[1:-1]) in field_of_name for column in columns if _IN_APOSTROPHES.fullmatch(column)):
        defect = "; ".join(filter(None, (defect, IN_APOSTROPHES)))
    if all(place is None for place in places):
        defect = f"no column of the contract in the header: {', '.join(columns)[:200]}"
    return ColumnLayout(Marks(), len(columns), tuple(places), tuple((i, name) for name, i in extras.items()), defect)


def _fields_by_name(contract: Contract) -> dict[str, int]:
    """Return the index of the field that each lower-case column name stands for. A field's own name goes before a source."""
    by_source = {_match_key(field.source): i for i, field in enumerate(contract.fields)}
    return by_source | {_match_key(field.name): i for i, field in enumerate(contract.fields)}


def _match_key(name: str) -> str:
    return _AROUND_NAME.sub("", name.replace('"', "")).lower()


def _unused_name(name: str, taken: dict[str, int]) -> str:
    number, unused = 2, name
    while unused in taken:
        unused, number = f"{name} ({number})", number + 1
    return unused
