"""Match column names with a contract: which delimiter a CSV header uses, and which column holds which field."""

from collections.abc import Sequence

from lakehouse.contracts.model import Contract
from lakehouse.landing.readers.csv_records import ColumnLayout, line_end, split_record

DELIMITERS = (b",", b";", b"\t", b"|")


def read_header(contract: Contract, data: bytes, start: int) -> tuple[ColumnLayout, int]:
    """Read the header that starts at `start`. Returns the layout of the rows under it and where they start.

    The delimiter is the one that finds the most fields of the contract; among equals, the most columns.
    """
    candidates = [_read_with(contract, data, start, delimiter) for delimiter in DELIMITERS]
    return max(candidates, key=lambda candidate: _matches(candidate[0]))


def _matches(layout: ColumnLayout) -> tuple[int, int]:
    return sum(place is not None for place in layout.places), layout.width


def _read_with(contract: Contract, data: bytes, start: int, delimiter: bytes) -> tuple[ColumnLayout, int]:
    record = split_record(data, start, len(data), delimiter)
    fields, end = record.fields, record.end
    if record.broken:
        text_end, end = line_end(data, start, len(data))
        fields = data[start:text_end].split(delimiter)
    return column_layout(contract, [field.decode("utf-8", "backslashreplace") for field in fields], delimiter), end


def column_layout(contract: Contract, names: Sequence[str], delimiter: bytes = b"") -> ColumnLayout:
    """Build the layout of rows whose columns have these names. Case and surrounding blanks do not matter."""
    field_of_name = _fields_by_name(contract)
    places: list[int | None] = [None] * len(contract.fields)
    extras: dict[str, int] = {}
    repeated: dict[str, None] = {}
    columns = [name.strip() for name in names]
    for i, column in enumerate(columns):
        field = field_of_name.get(column.lower())
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
    by_source = {field.source.strip().lower(): i for i, field in enumerate(contract.fields)}
    return by_source | {field.name.lower(): i for i, field in enumerate(contract.fields)}


def _unused_name(name: str, taken: dict[str, int]) -> str:
    number, unused = 2, name
    while unused in taken:
        unused, number = f"{name} ({number})", number + 1
    return unused
