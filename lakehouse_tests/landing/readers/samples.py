"""Sample contracts and objects in memory, and reading them into rows."""

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
    contract_fields = tuple(Field(f[0], FieldType(f[1]), f[2] if len(f) == 3 else f[0]) for f in fields)
    return Contract("sample", "1.0.0", "", "", contract_fields, fields[0][0])


THREE = contract_of(("id", "string", "ID"), ("name", "string"), ("price", "double"))
EVENT = contract_of(
    ("id", "string"),
    ("time", "timestamp"),
    ("count", "integer"),
    ("price", "double"),
    ("ok", "boolean"),
    ("tags", "list"),
)


def object_of(data: bytes, name: str = "object", arrived_at: datetime = ARRIVED) -> InputObject:
    return InputObject(name, arrived_at, len(data), lambda: io.BytesIO(data))


def table_of(contract: Contract, *objects: InputObject) -> pa.Table:
    batches = list(bronze_batches(contract, objects))
    for batch in batches:
        batch.validate(full=True)
    return pa.Table.from_batches(batches) if batches else pa.table({})


RowTuple = tuple[Any, ...]


def rows_of(contract: Contract, *objects: InputObject) -> list[RowTuple]:
    """Read each row as a tuple of its fields, with `_extra` if there is one; a defect is ("!", reason, raw)."""
    rows = []
    for row in table_of(contract, *objects).to_pylist():
        values = tuple(row[field.name] for field in contract.fields)
        if row["_defect"] is not None:
            assert values == (None,) * len(values)
            rows.append(("!", row["_defect"], row["_raw"]))
        else:
            assert row["_raw"] is None
            rows.append((*values, row["_extra"]) if row["_extra"] is not None else values)
    return rows


def never_sound(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the readers read every row on its own."""
    query: Callable[[Any], str] = json_batch._sql
    monkeypatch.setattr(csv_blocks, "sound_end", lambda data, start, *_: start)
    monkeypatch.setattr(
        json_batch, "_sql", lambda fields: f"select false as clean, * exclude (clean) from ({query(fields)})"
    )
