"""Bronze rows: one readable row, many rows as columns, and batches with their origin. See `defects` for the others.

Nothing here knows a file format.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from lakehouse.contracts.model import Contract
from lakehouse.contracts.times import naive_utc
from lakehouse.landing.readers.arrow import Array, integer_array, text_array
from lakehouse.landing.readers.content import InputObject
from lakehouse.landing.readers.defects import Defect

EXTRA, RAW, DEFECT, OBJECT, ROW, ARRIVED_AT = "_extra", "_raw", "_defect", "_object", "_row", "_arrived_at"

OBJECT_TYPE = pa.dictionary(pa.int32(), pa.string())
"""Type of `_object`. A dictionary holds one copy of the key per batch."""


def bronze_schema(contract: Contract) -> pa.Schema:
    """Build the columns of bronze rows: each contract field as text, then what the reader knows about the row."""
    text = [(name, pa.string()) for name in (*(field.name for field in contract.fields), EXTRA, RAW, DEFECT)]
    return pa.schema([*text, (OBJECT, OBJECT_TYPE), (ROW, pa.int64()), (ARRIVED_AT, pa.timestamp("us"))])


@dataclass(frozen=True, slots=True)
class Record:
    """A readable row: its values in the order of the contract's fields, and unknown fields as a JSON object."""

    values: Sequence[str | None]
    extra: str | None = None


Row = Record | Defect


@dataclass(frozen=True, slots=True)
class Columns:
    """Consecutive rows of one object as arrays: the contract's fields, then `_extra`, `_raw` and `_defect`."""

    arrays: list[Array]
    count: int


Task = Callable[[], Iterable[Columns]]
"""A part of reading an object that may run beside its other tasks. Its rows follow those of the task before."""


def columns_of(rows: Sequence[Row], width: int) -> Columns:
    """Turn rows into columns. `width` is the number of fields in the contract."""
    empty = (None,) * width
    values = [row.values if isinstance(row, Record) else empty for row in rows]
    arrays = [text_array(column) for column in zip(*values, strict=True)]
    arrays.append(text_array([row.extra if isinstance(row, Record) else None for row in rows]))
    arrays.append(text_array([row.raw if isinstance(row, Defect) else None for row in rows]))
    arrays.append(text_array([row.reason if isinstance(row, Defect) else None for row in rows]))
    return Columns(arrays, len(rows))


def number_rows(obj: InputObject, schema: pa.Schema, parts: Iterable[Columns]) -> Iterator[pa.RecordBatch]:
    """Add `_object`, `_row` and `_arrived_at` to all rows of one object. Rows are numbered from 1 in their order."""
    first = 1
    for columns in parts:
        if columns.count:
            yield _batch(obj, schema, columns, first)
            first += columns.count


def _batch(obj: InputObject, schema: pa.Schema, columns: Columns, first: int) -> pa.RecordBatch:
    count = columns.count
    name = pa.DictionaryArray.from_arrays(integer_array(np.zeros(count), pa.int32()), text_array([obj.name]))
    row = pa.array(np.arange(first, first + count, dtype=np.int64))
    arrived_at = pa.repeat(pa.scalar(naive_utc(obj.arrived_at), pa.timestamp("us")), count)
    return pa.RecordBatch.from_arrays([*columns.arrays, name, row, arrived_at], schema=schema)
