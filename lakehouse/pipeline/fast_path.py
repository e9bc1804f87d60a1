"""Bronze rows in memory parted into those that are surely valid and alone with their key, which are nearly all, and suspects.

Each distinct text is cast and checked once, by the contract's own SQL. What becomes of suspects is decided in `silver`,
row by row.
"""

from dataclasses import dataclass
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from lakehouse.contracts.model import Contract, Field
from lakehouse.contracts.sql import field_check_sql

LINEAGE = ("dt", "_arrived_at", "_object", "_row")

Flags = NDArray[np.bool_]
Hashes = NDArray[np.uint64]

MIX = np.uint64(0x9E3779B97F4A7C15)
"""An odd number, so that to multiply by it loses nothing; the golden ratio in 64 bits, as Knuth has it (TAOCP 3, 6.4)."""


@dataclass(frozen=True, slots=True)
class Sifted:
    """Sure rows with typed fields and their lineage; suspects as they are in bronze."""

    sure: pa.Table
    suspects: pa.Table


def sift(cursor: duckdb.DuckDBPyConnection, contract: Contract, rows: pa.Table) -> Sifted:
    """Part these rows; all of their days must be there whole."""
    sound: Flags = _where_null(rows.column("_defect"))
    earliest = pc.min(rows.column("_arrived_at"))
    hashes: Hashes = np.asarray(rows.column("dt").cast(pa.int32()), np.uint64)
    typed: dict[str, Any] = {name: rows.column(name) for name in LINEAGE}
    for field in contract.fields:
        values = _Values(cursor, contract, field, rows.column(field.name), earliest)
        typed[field.name] = values.column()
        if not values.sound.all():
            sound &= values.sound[values.places]
        if field.name in contract.key:
            hashes = hashes * MIX + values.hashes[values.places]
    sure = sound & _alone(hashes)
    table = pa.table(typed).select([*(field.name for field in contract.fields), *LINEAGE])
    if sure.all():
        return Sifted(table, rows.slice(0, 0))
    return Sifted(table.filter(pa.array(sure)), rows.filter(pa.array(~sure)))


def _alone(hashes: Hashes) -> Flags:
    """Whether no other row has this row's hash: keys that are equal have equal ones."""
    ordered = np.sort(hashes)
    shared = ordered[1:][ordered[1:] == ordered[:-1]]
    return ~np.asarray(pc.is_in(pa.array(hashes), value_set=pa.array(shared)))


class _Values:
    """A field's distinct texts with what they are worth; row i has the one at `places[i]`."""

    def __init__(
        self, cursor: duckdb.DuckDBPyConnection, contract: Contract, field: Field, column: Any, earliest: Any
    ) -> None:
        self._field, self._column = field, column
        if pa.types.is_dictionary(column.type):
            chunks, self.places = _numbered(column, shared=field.type.kind != "string")
        else:
            chunks, self.places = column.chunks, np.arange(1, len(column) + 1)
        # The first is that of rows which have no text.
        texts: Any = pa.chunked_array([pa.nulls(1, pa.string()), *chunks])
        numbers = pa.array(np.arange(len(texts)))
        arrived = pa.repeat(earliest, len(texts))
        cursor.register("texts", pa.table({"number": numbers, "text": texts, "_arrived_at": arrived}))
        select = f"select *, hash(value) as hashed from ({field_check_sql(contract, field, 'texts')})"
        found = cursor.execute(select).to_arrow_table()
        cursor.unregister("texts")
        if not found.column("number").equals(pa.chunked_array([numbers])):
            found = found.sort_by("number")
        self._values: Any = found.column("value").combine_chunks()
        self.sound: Flags = np.asarray(found.column("sound"))
        self.hashes: Hashes = np.asarray(found.column("hashed"))

    def column(self) -> Any:
        """The typed value of each row; text stays as it is."""
        if self._field.type.kind == "string":
            return self._column
        return self._values.take(pa.array(self.places))


def _numbered(column: Any, *, shared: bool) -> tuple[list[Any], NDArray[np.int64]]:
    """The texts of a column's chunks and, of each row, which it has; 0 for none.

    Files have many texts in common. With `shared` each of them is there once, for who has to cast them.
    """
    if shared:
        column = column.unify_dictionaries()
    texts: list[Any] = []
    places, start = [np.zeros(0, np.int64)], 1
    for chunk in column.chunks:
        numbers = chunk.indices.cast(pa.int64())
        places.append(np.asarray(pc.fill_null(numbers, -start)) + start)
        if not shared:
            start += len(chunk.dictionary)
        if not (shared and texts):
            texts.append(chunk.dictionary)
    return texts, np.concatenate(places)


def _where_null(column: Any) -> Flags:
    if column.null_count == len(column):
        return np.ones(len(column), np.bool_)
    return np.asarray(column.is_null())
