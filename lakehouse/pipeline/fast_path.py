"""Split bronze rows in memory into clean rows, which are nearly all, and suspects.

A clean row is valid and the only one with its key. Each distinct text is cast and checked once, by the contract's own
SQL, instead of once a row. `day_groups` decides about the suspects.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from lakehouse.contracts.model import Contract, Field
from lakehouse.contracts.sql import field_check_sql

ORIGIN_COLUMNS = ("dt", "_arrived_at", "_object", "_row")

Flags = NDArray[np.bool_]
Hashes = NDArray[np.uint64]

HASH_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)
"""The golden ratio in 64 bits (Knuth, TAOCP 3, 6.4). It is odd, so multiplying by it loses nothing."""


@dataclass(frozen=True, slots=True)
class SplitRows:
    """Clean rows with typed fields and their origin, and suspects as they are in bronze."""

    clean: pa.Table
    suspects: pa.Table


@dataclass(frozen=True, slots=True)
class CheckedRows:
    """The outcome of checking the distinct values of rows."""

    sound: Flags
    """Rows that are valid. Some of the others may be, too."""
    hashes: Hashes
    """Of the values in some columns, and `dt`. Equal values have equal hashes."""
    typed: Mapping[str, Any]
    """The columns of typed values, by field."""


def check_rows(
    cursor: duckdb.DuckDBPyConnection, contract: Contract, rows: pa.Table, by: Collection[str]
) -> CheckedRows:
    """Cast and check the distinct values of bronze rows, and hash those of the columns `by`."""
    sound: Flags = _is_null(rows.column("_defect"))
    earliest = pc.min(rows.column("_arrived_at"))
    hashes: Hashes = np.asarray(rows.column("dt").cast(pa.int32()), np.uint64)
    typed: dict[str, Any] = {}
    for field in contract.fields:
        values = _DistinctValues(cursor, contract, field, rows.column(field.name), earliest)
        typed[field.name] = values.column()
        if not values.sound.all():
            sound &= values.sound[values.indices]
        if field.name in by:
            hashes = hashes * HASH_MULTIPLIER + values.hashes[values.indices]
    return CheckedRows(sound, hashes, typed)


def split_rows(cursor: duckdb.DuckDBPyConnection, contract: Contract, rows: pa.Table) -> SplitRows:
    """Split rows of bronze, which must be all rows of their days."""
    checked = check_rows(cursor, contract, rows, contract.key)
    clean = checked.sound & _occurs_once(checked.hashes)
    origin: dict[str, Any] = {name: rows.column(name) for name in ORIGIN_COLUMNS}
    table = pa.table({**checked.typed, **origin})
    if clean.all():
        return SplitRows(table, rows.slice(0, 0))
    return SplitRows(table.filter(pa.array(clean)), rows.filter(pa.array(~clean)))


def _occurs_once(hashes: Hashes) -> Flags:
    """Return for each row whether no other has its hash. Equal keys have equal hashes."""
    ordered = np.sort(hashes)
    shared = ordered[1:][ordered[1:] == ordered[:-1]]
    return ~np.asarray(pc.is_in(pa.array(hashes), value_set=pa.array(shared)))


class _DistinctValues:
    """The distinct values of a column, cast and checked. Row i has the value at `indices[i]`."""

    def __init__(
        self, cursor: duckdb.DuckDBPyConnection, contract: Contract, field: Field, column: Any, earliest: Any
    ) -> None:
        self._field, self._column = field, column
        if pa.types.is_dictionary(column.type):
            chunks, self.indices = _dictionaries(column, unify=field.type.kind != "string")
        else:
            chunks, self.indices = column.chunks, np.arange(1, len(column) + 1)
        # Index 0 is for rows without text.
        texts: Any = pa.chunked_array([pa.nulls(1, pa.string()), *chunks])
        numbers = pa.array(np.arange(len(texts)))
        arrived = pa.repeat(earliest, len(texts))
        cursor.register("texts", pa.table({"number": numbers, "text": texts, "_arrived_at": arrived}))
        select = f"select *, hash(value) as hashed from ({field_check_sql(contract, field, 'texts')})"
        checked = cursor.execute(select).to_arrow_table()
        cursor.unregister("texts")
        if not checked.column("number").equals(pa.chunked_array([numbers])):
            checked = checked.sort_by("number")
        self._values: Any = checked.column("value").combine_chunks()
        self.sound: Flags = np.asarray(checked.column("sound"))
        self.hashes: Hashes = np.asarray(checked.column("hashed"))

    def column(self) -> Any:
        """Return the typed value of each row. Strings stay as they are."""
        if self._field.type.kind == "string":
            return self._column
        return self._values.take(pa.array(self.indices))


def _dictionaries(column: Any, *, unify: bool) -> tuple[list[Any], NDArray[np.int64]]:
    """List the texts of a dictionary column, and for each row the index of its text, from 1; 0 for null.

    Files have many texts in common. With `unify` each is listed once, which pays where texts have to be cast.
    """
    if unify:
        column = column.unify_dictionaries()
    texts: list[Any] = []
    indices, start = [np.zeros(0, np.int64)], 1
    for chunk in column.chunks:
        numbers = chunk.indices.cast(pa.int64())
        indices.append(np.asarray(pc.fill_null(numbers, -start)) + start)
        if not unify:
            start += len(chunk.dictionary)
        if not (unify and texts):
            texts.append(chunk.dictionary)
    return texts, np.concatenate(indices)


def _is_null(column: Any) -> Flags:
    if column.null_count == len(column):
        return np.ones(len(column), np.bool_)
    return np.asarray(column.is_null())
