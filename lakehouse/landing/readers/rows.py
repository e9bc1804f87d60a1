"""The shape of bronze rows as Arrow batches, and how a reader's rows become one. Nothing here knows a file format."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np
import pyarrow as pa

from lakehouse.contracts.model import Contract
from lakehouse.landing.readers.arrow import Array, integers, texts
from lakehouse.landing.readers.source import Source

EXTRA, RAW, DEFECT, OBJECT, ROW, ARRIVED_AT = "_extra", "_raw", "_defect", "_object", "_row", "_arrived_at"

NAME_TYPE = pa.dictionary(pa.int32(), pa.string())
"""Of `_object`: one copy of the name a batch."""


def schema(contract: Contract) -> pa.Schema:
    """The columns of bronze rows: each field as text, then what the reader knows about the row."""
    text = [(name, pa.string()) for name in (*(field.name for field in contract.fields), EXTRA, RAW, DEFECT)]
    return pa.schema([*text, (OBJECT, NAME_TYPE), (ROW, pa.int64()), (ARRIVED_AT, pa.timestamp("us"))])


@dataclass(frozen=True, slots=True)
class Defect:
    """A row that could not be read: why, and its exact text if there is one."""

    reason: str
    raw: str | None


@dataclass(frozen=True, slots=True)
class Record:
    """A row that could be read: its fields in the contract's order, and unknown fields as a JSON object."""

    values: Sequence[str | None]
    extra: str | None = None


Row = Record | Defect


@dataclass(frozen=True, slots=True)
class Columns:
    """Some rows of one object, by column: the contract's fields and `_extra`, `_raw`, `_defect`."""

    arrays: list[Array]
    count: int


Task = Callable[[], Iterable[Columns]]
"""Work that can be done beside other work of its object; its rows follow those of the task before it."""


def columns_of(rows: Sequence[Row], width: int) -> Columns:
    """Rows turned into columns; `width` is the number of fields of the contract."""
    empty = (None,) * width
    values = [row.values if isinstance(row, Record) else empty for row in rows]
    arrays = [texts(column) for column in zip(*values, strict=True)]
    arrays.append(texts([row.extra if isinstance(row, Record) else None for row in rows]))
    arrays.append(texts([row.raw if isinstance(row, Defect) else None for row in rows]))
    arrays.append(texts([row.reason if isinstance(row, Defect) else None for row in rows]))
    return Columns(arrays, len(rows))


def naive_utc(moment: datetime) -> datetime:
    """A moment in UTC without its zone; one without a zone is in UTC already."""
    return moment.astimezone(UTC).replace(tzinfo=None) if moment.tzinfo else moment


class Numbering:
    """Gives the rows of one object their origin and their number, in the order they come."""

    def __init__(self, source: Source, shape: pa.Schema) -> None:
        self._source = source
        self._shape = shape
        self._next = 1

    def batch(self, columns: Columns) -> pa.RecordBatch:
        """The columns with `_object`, `_row` and `_arrived_at`."""
        count, first = columns.count, self._next
        self._next += count
        name = pa.DictionaryArray.from_arrays(integers(np.zeros(count), pa.int32()), texts([self._source.name]))
        row = pa.array(np.arange(first, first + count, dtype=np.int64))
        arrived = pa.repeat(pa.scalar(naive_utc(self._source.arrived_at), pa.timestamp("us")), count)
        return pa.RecordBatch.from_arrays([*columns.arrays, name, row, arrived], schema=self._shape)


def numbered(source: Source, shape: pa.Schema, results: Iterable[Columns]) -> Iterator[pa.RecordBatch]:
    """All rows of one object as batches, numbered from 1."""
    numbering = Numbering(source, shape)
    for columns in results:
        if columns.count:
            yield numbering.batch(columns)
