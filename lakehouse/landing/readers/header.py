"""Match column names with a contract: which delimiter a CSV header uses, and which column holds which field."""

import re
from collections.abc import Sequence
from dataclasses import replace

from lakehouse.contracts.model import Contract
from lakehouse.landing.readers.csv_records import ColumnLayout, line_end, split_record
from lakehouse.landing.readers.defects import NUL_IN_HEADER

DELIMITERS = (b",", b";", b"\t", b"|")

_AROUND_NAME = re.compile(r'^[\s"\ufeff]+|[\s"\ufeff]+$')


def read_header(contract: Contract, data: bytes, start: int) -> tuple[ColumnLayout, int]:
    """Read the header that starts at `start`. Returns the layout of the rows under it and where they start.

    The delimiter is the one that finds the most fields of the contract; among equals, the most columns. A line that names
    no field, or holds a NUL, is no header: it is a row like the others, and all rows are defects.
    """
    candidates = [_read_with(contract, data, start, delimiter) for delimiter in DELIMITERS]
    layout, end = max(candidates, key=lambda candidate: _matches(candidate[0]))
    if b"\0" in data[start:end]:
        layout = replace(layout, defect=NUL_IN_HEADER)
        return layout, start
    return layout, start if all(place is None for place in layout.places) else end


def _matches(layout: ColumnLayout) -> tuple[int, int]:
    return sum(place is not None for place in layout.places), layout.width


def _read_with(contract: Contract, data: bytes, start: int, delimiter: bytes) -> tuple[ColumnLayout, int]:
    """Read the header by its quotes, or as one line whose quotes mean nothing if that finds more fields: one may be stray."""
    text_end, end = line_end(data, start, len(data))
    as_line = _layout(contract, data[start:text_end].split(delimiter), delimiter), end
    record = split_record(data, start, len(data), delimiter)
    if record.broken:
        return as_line
    by_quotes = _layout(contract, record.fields, delimiter), record.end
    return max(by_quotes, as_line, key=lambda candidate: _matches(candidate[0])[0])


def _layout(contract: Contract, fields: Sequence[bytes], delimiter: bytes) -> ColumnLayout:
    return column_layout(contract, [field.decode("utf-8", "backslashreplace") for field in fields], delimiter)


def column_layout(contract: Contract, names: Sequence[str], delimiter: bytes = b"") -> ColumnLayout:
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
    if all(place is None for place in places):
        defect = f"no column of the contract in the header: {', '.join(columns)[:200]}"
    return ColumnLayout(delimiter, len(columns), tuple(places), tuple((i, name) for name, i in extras.items()), defect)


def _fields_by_name(contract: Contract) -> dict[str, int]:
    """The index of the field that each lower-case column name stands for. A field's own name goes before a source."""
    by_source = {_match_key(field.source): i for i, field in enumerate(contract.fields)}
    return by_source | {_match_key(field.name): i for i, field in enumerate(contract.fields)}


def _match_key(name: str) -> str:
    return _AROUND_NAME.sub("", name.replace('"', "")).lower()


def _unused_name(name: str, taken: dict[str, int]) -> str:
    number, unused = 2, name
    while unused in taken:
        unused, number = f"{name} ({number})", number + 1
    return unused
