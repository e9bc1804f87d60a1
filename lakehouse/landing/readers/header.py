"""Column names matched with a contract: which delimiter, and which column is which field. Rows are in `delimited`."""

from collections.abc import Sequence

from lakehouse.contracts.model import Contract
from lakehouse.landing.readers.delimited import Layout, line_end, split

DELIMITERS = (b",", b";", b"\t", b"|")


def read_header(contract: Contract, data: bytes, start: int) -> tuple[Layout, int]:
    """The layout of the rows under the header that starts there, and where they start.

    The delimiter is the one that finds the most fields of the contract, then the one that finds the most columns.
    """
    read = [_under(contract, data, start, delimiter) for delimiter in DELIMITERS]
    return max(read, key=lambda found: (sum(place is not None for place in found[0].places), found[0].width))


def _under(contract: Contract, data: bytes, start: int, delimiter: bytes) -> tuple[Layout, int]:
    found = split(data, start, len(data), delimiter)
    fields, end = found.fields, found.end
    if found.broken:
        text, end = line_end(data, start, len(data))
        fields = data[start:text].split(delimiter)
    return layout(contract, [field.decode("utf-8", "backslashreplace") for field in fields], delimiter), end


def fields_of(contract: Contract) -> dict[str, int]:
    """The index of the field that each column name stands for, names in lower case."""
    by_source = {field.source.strip().lower(): i for i, field in enumerate(contract.fields)}
    return by_source | {field.name.lower(): i for i, field in enumerate(contract.fields)}


def layout(contract: Contract, names: Sequence[str], delimiter: bytes = b"") -> Layout:
    """The layout of rows whose columns have these names; case and blanks around them do not matter."""
    known = fields_of(contract)
    places: list[int | None] = [None] * len(contract.fields)
    extras: dict[str, int] = {}
    twice: dict[str, None] = {}
    columns = [name.strip() for name in names]
    for i, column in enumerate(columns):
        field = known.get(column.lower())
        if field is None:
            extras[_unused(column or f"column {i + 1}", extras)] = i
        elif places[field] is None:
            places[field] = i
        else:
            twice[column] = None
    defect = "; ".join(f"column {column} appears twice" for column in twice) or None
    if all(place is None for place in places):
        defect = f"no column of the contract in the header: {', '.join(columns)[:200]}"
    return Layout(delimiter, len(columns), tuple(places), tuple((i, name) for name, i in extras.items()), defect)


def _unused(name: str, taken: dict[str, int]) -> str:
    number, unused = 2, name
    while unused in taken:
        unused, number = f"{name} ({number})", number + 1
    return unused
