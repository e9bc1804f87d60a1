"""Compare the columns of a file with a contract: which it does not know, and which fields are in no column."""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches

from lakehouse.contracts.model import Contract
from lakehouse.landing.partition_folders import partition_columns
from lakehouse.landing.readers.content import InputObject
from lakehouse.landing.readers.csv_blocks import csv_layout
from lakehouse.landing.readers.csv_records import ColumnLayout
from lakehouse.landing.readers.parquet import parquet_layout
from lakehouse.landing.readers.relation import bronze_batches, format_of
from lakehouse.landing.readers.rows import EXTRA
from lakehouse.landing.readers.time_columns import with_time_columns

MIN_SIMILARITY = 0.75
"""From here on, of 1, a column's name is offered as a misspelt field."""

_NO_LETTER = re.compile(r"[\W_]+")


@dataclass(frozen=True, slots=True)
class FileColumns:
    """The columns that a contract does not know, and the names in files of the fields that are in no column."""

    unknown: Sequence[str]
    absent: Sequence[str]

    @property
    def nearest(self) -> Mapping[str, str]:
        """The absent field that each unknown column may stand for."""
        by_letters = {_letters(name): name for name in self.absent}
        near = {name: get_close_matches(_letters(name), by_letters, 1, MIN_SIMILARITY) for name in self.unknown}
        return {name: by_letters[match[0]] for name, match in near.items() if match}

    @property
    def warnings(self) -> list[str]:
        """Say in words what differs."""
        nearest = self.nearest
        unknown = [
            f"column {name} is none of the contract" + (f", perhaps {nearest[name]}" if name in nearest else "")
            for name in self.unknown
        ]
        return [*unknown, *(f"{name} is in no column" for name in self.absent)]


def read_columns(contract: Contract, obj: InputObject) -> FileColumns:
    """Read the columns of a CSV or Parquet file from its header, and of a JSON file from its first events.

    Because optional fields of events are often left out, only those that an unknown one may stand for count as absent.
    Raises what opening the object raises.
    """
    match format_of(obj):
        case "csv":
            return _of_layout(contract, obj, csv_layout(with_time_columns(contract), obj))
        case "parquet":
            return _of_layout(contract, obj, parquet_layout(with_time_columns(contract), obj))
        case _:
            return _of_events(contract, obj)


def compare_names(contract: Contract, unknown: Iterable[str], filled: Iterable[str]) -> FileColumns:
    """Compare names of unknown fields, and of the contract's fields that hold a value, where columns are not known."""
    names = sorted(name for name in unknown if not name.startswith(("_", "$")))
    held = set(filled)
    columns = FileColumns(names, [field.source for field in contract.fields if field.name not in held])
    return FileColumns(names, sorted(set(columns.nearest.values())))


def _of_layout(contract: Contract, obj: InputObject, layout: ColumnLayout | None) -> FileColumns:
    if layout is None or all(place is None for place in layout.places):
        return FileColumns((), ())  # each row says so
    named = zip(with_time_columns(contract).fields, layout.places, strict=True)
    has_parts = bool(contract.dialect.time_columns)
    absent = [
        field.source
        for field, place in named
        if place is None and not (has_parts and field.name == contract.event_time)
    ]
    of_folders = {_letters(name) for name, _ in partition_columns(obj.name)}
    return FileColumns(
        [name for _, name in layout.extras], [name for name in absent if _letters(name) not in of_folders]
    )


def _of_events(contract: Contract, obj: InputObject) -> FileColumns:
    first = next(bronze_batches(contract, [obj]), None)
    if first is None:
        return FileColumns((), ())
    extras = (json.loads(text) for text in first.column(EXTRA).unique().to_pylist() if text is not None)
    filled = [field.name for field in contract.fields if first.column(field.name).null_count < first.num_rows]
    return compare_names(contract, {name for extra in extras for name in extra}, filled)


def _letters(name: str) -> str:
    return _NO_LETTER.sub("", name).lower()
