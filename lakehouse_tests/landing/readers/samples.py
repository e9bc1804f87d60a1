"""Contracts and objects held in memory, and what is read of them."""

import io
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
import pytest

from lakehouse.contracts.model import Contract, Field, FieldType, Kind
from lakehouse.landing.readers import InputObject, bronze_batches, csv_blocks, json_batch

ARRIVED = datetime(2025, 11, 20, 14, 15, tzinfo=UTC)


def contract_of(*fields: tuple[str, Kind] | tuple[str, Kind, str]) -> Contract:
    made = tuple(Field(f[0], FieldType(f[1]), f[2] if len(f) == 3 else f[0]) for f in fields)
    return Contract("sample", "1.0.0", "", "", made, fields[0][0])


THREE = contract_of(("id", "string", "ID"), ("name", "string"), ("price", "double"))
EVENT = contract_of(
    ("id", "string"),
    ("time", "timestamp"),
    ("count", "integer"),
    ("price", "double"),
    ("ok", "boolean"),
    ("tags", "list"),
)


def source_of(data: bytes, name: str = "object", arrived_at: datetime = ARRIVED) -> InputObject:
    return InputObject(name, arrived_at, len(data), lambda: io.BytesIO(data))


def table_of(contract: Contract, *sources: InputObject) -> pa.Table:
    batches = list(bronze_batches(contract, sources))
    for batch in batches:
        batch.validate(full=True)
    return pa.Table.from_batches(batches) if batches else pa.table({})


Found = tuple[Any, ...]


def rows_of(contract: Contract, *sources: InputObject) -> list[Found]:
    """Each row as its fields; `_extra` after them if there is one; ("!", reason, raw) for a defect."""
    found = []
    for row in table_of(contract, *sources).to_pylist():
        values = tuple(row[field.name] for field in contract.fields)
        if row["_defect"] is not None:
            assert values == (None,) * len(values)
            found.append(("!", row["_defect"], row["_raw"]))
        else:
            assert row["_raw"] is None
            found.append((*values, row["_extra"]) if row["_extra"] is not None else values)
    return found


def never_sound(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have every row read with care."""
    query: Callable[[Any], str] = json_batch._sql
    monkeypatch.setattr(csv_blocks, "sound_end", lambda data, start, *_: start)
    monkeypatch.setattr(
        json_batch, "_sql", lambda fields: f"select false as clean, * exclude (clean) from ({query(fields)})"
    )
